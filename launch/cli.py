"""The command line: `mpcnet COMMAND --help`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mpcnet.launch.bench import command as bench
from mpcnet.launch.bench.layers import layers_command
from mpcnet.launch.bench.paper.command import paper_command
from mpcnet.launch.dashes import TextCommand
from mpcnet.launch.deployment import clients, settings
from mpcnet.launch.deployment.making import init_command, program_command
from mpcnet.launch.deployment.renew import renew_command
from mpcnet.launch.distill import command as distill
from mpcnet.launch.doctor.command import doctor_command
from mpcnet.launch.evaluation.calibrate import calibrate_command
from mpcnet.launch.evaluation.closeness import corpus_command
from mpcnet.launch.evaluation.command import evaluate_command, ranges_command
from mpcnet.launch.infer import infer_command
from mpcnet.launch.netem import command as netem
from mpcnet.launch.options import DEMO, Config, Model
from mpcnet.launch.party import dealer, owner, party, replica
from mpcnet.launch.party.node import failed, open_node, run
from mpcnet.launch.plan import plan_command
from mpcnet.launch.replay import replay_command
from mpcnet.launch.simulate.command import simulate_command
from mpcnet.launch.undumpable import protect_memory
from mpcnet.models.private.prepare import checkpoint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=(
    "Private BERT inference by secure multi-party computation: two servers and a dealer compute on a client's text, "
    "and no single machine learns the text, the weights or the answer."
))  # fmt: skip
bench.app.command("layers")(layers_command)
bench.app.command("corpus")(corpus_command)
bench.app.command("paper")(paper_command)
app.add_typer(bench.app, name="bench")
app.add_typer(netem.app, name="netem")
app.add_typer(distill.app, name="distill")
app.command("doctor")(doctor_command)
app.command("init")(init_command)
app.command("program")(program_command)
app.command("renew")(renew_command)
app.add_typer(clients.app, name="client")
app.command("infer", cls=TextCommand)(infer_command)
app.command("replay")(replay_command)
app.command("evaluate")(evaluate_command)
app.command("ranges")(ranges_command)
app.command("calibrate")(calibrate_command)
app.command("plan")(plan_command)
app.command("simulate", cls=TextCommand)(simulate_command)


@app.command("party")
def party_command(config: Config) -> None:
    """Run a computing server (server0 or server1) until it is stopped."""
    protect_memory()
    node = open_node(settings.read(config))
    raise typer.Exit(run(party.main(node), node, graceful=True))


@app.command("dealer")
def dealer_command(config: Config) -> None:
    """Run the dealer of correlated randomness until it is stopped."""
    protect_memory()
    node = open_node(settings.read(config))
    raise typer.Exit(run(dealer.main(node), node, graceful=True))


@app.command("replica")
def replica_command(config: Config) -> None:
    """Run a replica of a server (replica0 or replica1), which computes again what that server sends."""
    protect_memory()
    node = open_node(settings.read(config))
    raise typer.Exit(run(replica.main(node), node, graceful=True))


@app.command("serve-model")
def serve_model_command(
    config: Config,
    model: Model = DEMO,
    once: Annotated[bool, typer.Option(help="Leave when both servers have the weights.")] = False,
) -> None:
    """Share a model's weights between the two servers, again whenever one of the parties was restarted."""
    protect_memory()
    node = open_node(settings.read(config))
    raise typer.Exit(run(owner.main(node, checkpoint(model), once=once), node, graceful=True))


def main() -> None:
    """Entry point: an error is one line and an exit code."""
    try:
        app()
    except Exception as error:
        sys.exit(failed("mpcnet", error))


if __name__ == "__main__":
    main()
