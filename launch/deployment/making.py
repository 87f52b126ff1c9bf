"""`mpcnet program` and `mpcnet init`: the owner makes a program of its model, and somebody makes a deployment of it.

One command does both where the owner has the authority too. Where another has it, the weights need not be on its host:
the owner hands over program.json and the tokenizer, and keeps the salt of its commitment to the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.deploy import TOKENIZER, write_deployment
from mpcnet.launch.options import DEMO, CalibrateOn, Calibration, Model, SoftmaxName, SuiteName, Where, calibrate_first
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen, warn
from mpcnet.launch.undumpable import protect_memory
from mpcnet.models.families.config import Config, Embedding
from mpcnet.models.preprocessing import copy_tokenizer, tokenizer_digest
from mpcnet.models.private import program
from mpcnet.models.private.commitment import SALT_FILE, commit, new_salt, write_salt
from mpcnet.models.private.prepare import off_domain, prepare
from mpcnet.models.shape import Softmax
from mpcnet.transport.rendezvous import REPLICAS, SERVERS
from mpcnet.transport.tls import parse_address

PROGRAM = "program.json"
Length = Annotated[
    int, typer.Option(min=0, help="Tokens of the longest text that will be asked; 0: 128, or of an image all its rows.")
]
USUAL = 128
Answers = Annotated[
    list[str] | None,
    typer.Option("--answers", help="What clients may ask for: label, logits (and embeddings). Default: all."),
]
OF_THE_MODEL = ("model", "suite", "softmax", "embedding", "length", "calibration", "calibrate_on", "allowed")


@dataclass(frozen=True, slots=True)
class Made:
    """A program, where its tokenizer lies ("" for none), and the salt of its commitment, None if others have it."""

    config: Config
    tokenizer: str
    salt: bytes | None


def make(
    model: str, suite: str, softmax: Softmax | None, embedding: Embedding, length: int, calibration: Path | None,
    allowed: Sequence[str],
) -> Made:  # fmt: skip
    """The program of a model, bound to its weights.

    :raises LocalConfigError: the model, its calibration or the answers cannot be used.
    """
    with console.status("preparing") as status:
        prepared = prepare(model, suite, softmax, length, calibration, embedding, status.update, usual=USUAL)
    if text := off_domain(prepared):
        raise LocalConfigError(text)
    warn(prepared)
    salt = new_salt()
    config = replace(program.allowing(prepared.config, allowed), weights=commit(prepared.checkpoint.sha256, salt))
    return Made(config, prepared.checkpoint.source if config.preprocessing else "", salt)


def made_before(path: Path) -> Made:
    """A program that the owner made, its tokenizer beside it.

    :raises LocalConfigError: it is no program, or its tokenizer is missing or another.
    """
    config, tokenizer = program.read(path), path.parent / TOKENIZER
    program.agreement(config)  # that something can run with it
    if config.preprocessing is None:
        return Made(config, "", None)
    if (found := tokenizer_digest(tokenizer)) != config.preprocessing.tokenizer_sha256:
        raise LocalConfigError(
            f"{tokenizer}: want the tokenizer of {path.name}, sha256 {config.preprocessing.tokenizer_sha256[:12]}..., "
            f"got {found[:12]}...; copy both from where mpcnet program made them"
        )
    return Made(config, str(tokenizer), None)


def program_command(
    out: Annotated[Path, typer.Option(help="A new folder for program.json, the tokenizer and the salt.")],
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    embedding: Where = "private",
    length: Length = 0,
    calibration: Calibration = None,
    calibrate_on: CalibrateOn = None,
    allowed: Answers = None,
) -> None:
    """Make the public program of a model, where its weights are: for who makes the deployment elsewhere."""
    protect_memory()
    if out.exists():
        raise LocalConfigError(f"{out}: want a new folder, got one that is there")
    calibrate_first(model, calibrate_on, calibration)
    made = make(model, suite, softmax, embedding, length, calibration, allowed or ())
    assert made.salt is not None
    try:
        out.mkdir(mode=0o700, parents=True)
        program.save(made.config, out / PROGRAM)
        write_salt(made.salt, out)
    except OSError as error:
        raise LocalConfigError(f"{out}: cannot write: {error.strerror}") from error
    if made.tokenizer:
        copy_tokenizer(made.tokenizer, out / TOKENIZER)
    public = f"{PROGRAM} and {TOKENIZER}/" if made.tokenizer else PROGRAM
    report.show(screen(), f"{out}: the program of {model}", {
        "public": f"{public}: give them to who runs mpcnet init --program {PROGRAM}",
        "secret": f"{SALT_FILE}: put it into your owner/ folder, beside party.toml; nobody else may have it",
    })  # fmt: skip


def init_command(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new folder for the whole deployment.")],
    server0: Annotated[str, typer.Option(help="HOST:PORT at which server0 listens, as the others reach it.")],
    server1: Annotated[str, typer.Option(help="HOST:PORT of server1.")],
    dealer_address: Annotated[
        str, typer.Option("--dealer", help="HOST:PORT of the dealer; without, it dials the servers (behind NAT, say).")
    ] = "",
    clients: Annotated[list[str] | None, typer.Option("--client", help="Name of one more client; repeatable.")] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replica", help="A server that gets a replica, which checks what it sends; repeatable."),
    ] = None,
    monitor_port: Annotated[int, typer.Option(help="Health and metrics on 127.0.0.1; 0: off.")] = 0,
    program_file: Annotated[
        Path | None,
        typer.Option("--program", help="A program.json that the owner made (mpcnet program); no weights are needed."),
    ] = None,
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    embedding: Where = "private",
    length: Length = 0,
    calibration: Calibration = None,
    calibrate_on: CalibrateOn = None,
    allowed: Answers = None,
) -> None:
    """Make a deployment: keys and certificates, the public program, and one folder of settings for each host."""
    protect_memory()
    given = {"server0": server0, "server1": server1, "dealer": dealer_address}
    addresses = {role: address for role, address in given.items() if address}
    for address in addresses.values():
        parse_address(address)
    if unknown := [server for server in replicas or () if server not in SERVERS]:
        raise LocalConfigError(f"init: --replica: want {' or '.join(SERVERS)}, got {unknown[0]}")
    twins = tuple(name for server, name in zip(SERVERS, REPLICAS, strict=True) if server in (replicas or ()))
    more = tuple(f"client:{name}" for name in clients or ())
    if program_file is None:
        calibrate_first(model, calibrate_on, calibration)
        made = make(model, suite, softmax, embedding, length, calibration, allowed or ())
    else:
        sources = {name: ctx.get_parameter_source(name) for name in OF_THE_MODEL}
        if taken := [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]:
            raise LocalConfigError(
                f"init: want --program alone, which says all of the model, got {', '.join(taken)} too"
            )
        made = made_before(program_file)
    write_deployment(
        folder, made.config, addresses, more, made.tokenizer, made.salt, monitor_port=monitor_port, replicas=twins
    )
    named = model if program_file is None else "DIR"
    table = f"--model {named} " if made.config.embedding == "client" else ""
    serve = f"mpcnet serve-model --config {folder}/owner/party.toml --model {named}"
    hosts = {
        "server0": f"mpcnet party --config {folder}/server0/party.toml",
        "server1": f"mpcnet party --config {folder}/server1/party.toml",
        "dealer": f"mpcnet dealer --config {folder}/dealer/party.toml",
        **{twin: f"mpcnet replica --config {folder}/{twin}/party.toml" for twin in twins},
        "owner": serve if made.salt else f"put your {SALT_FILE} into {folder}/owner, then {serve}",
        "client": f'mpcnet infer --config {folder}/client/party.toml {table}"A text."',
    }
    title = f"{folder}: copy each folder to its own host, keep authority/ offline, then start"
    report.show(screen(), title, hosts)
