"""Live replicas: they compute what their servers should have sent, and without their word there is no answer."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
import rogue
from limits import LIMIT_S, PATIENT_S
from parties import Parties, change, deployed, some_tokens, tiny
from replicas import ONE, TOKENS
from rogue import RogueNode
from running import COMMANDS, Running, save
from typer.testing import CliRunner
from uploads import asks_in_vain

from mpcnet.errors import LocalConfigError
from mpcnet.launch.cli import app
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.party import answer as answer_module
from mpcnet.launch.party.witness import Seen, Witness
from mpcnet.models.private import program
from mpcnet.models.private.program import Plans, Size

TWO = {"replicas": ("replica0", "replica1")}
BOTH = pytest.mark.parametrize("parties", [{**TWO, "streams": 2}], indirect=True, ids=["two replicas"])
RUN = sum(bool(s.exchange) for s in Plans(tiny().config()).infer(Size(1, 5)).segments)


@BOTH
async def test_replicas_confirm_an_honest_run(parties: Parties) -> None:
    parties.serve()
    for seed in range(2):
        await parties.answered(some_tokens([5, 3], seed))
    for role in ("replica0", "replica1"):
        lines = [line for line in parties.logs[role].lines if line.startswith("run ")]
        assert [line.partition(":")[0] for line in lines] == ["run 0", "run 1", "run 3"]
        assert all(f"confirmed, {2 * RUN} rounds" in line for line in lines[1:])
    await parties.stop()
    assert not parties.lost()


@pytest.mark.parametrize("parties", [{**TWO, "labels": 3}], indirect=True, ids=["classifier"])
async def test_labels_have_tags_too(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = list[bytes]()
    check = answer_module.check_tag
    monkeypatch.setattr(answer_module, "check_tag", lambda *given: (checked.append(given[3]), check(*given)))
    parties.serve()
    async with asyncio.timeout(LIMIT_S):
        answer = await parties.ask(TOKENS, kind="label", audit=True)
    assert (answer.values.sum(1) == 1).all() and answer.out_of_range == [False, False]
    assert len(set(checked)) == 2 and all(len(tag) == 32 for tag in checked)
    await parties.stop()


@ONE
async def test_without_its_replica_nothing_is_answered_and_nobody_waits_for_ever(parties: Parties) -> None:
    for role in ("server0", "server1", "dealer", "owner"):
        parties.start(role)
    await parties.has_said("server0", "waiting for replica0: has not dialled us")
    await parties.has_said("server1", "waiting for replica0: has not dialled us")
    await asks_in_vain(parties)
    await parties.has_said("client", "it has our request, and waits for ")
    parties.start("replica0")
    await parties.answered(TOKENS)
    await parties.stop("replica0")
    await parties.said("server1", "the session ended: .*replica0 is stopping; connecting anew")
    parties.start("replica0")
    await parties.answered(TOKENS)
    await parties.stop()


@ONE
async def test_a_replica_that_says_nothing_has_a_deadline(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    confirmed, waits_s = Witness.confirmed, [0.1]

    async def soon(witness: Witness, seen: Seen, ran_s: float) -> list[bytes]:
        """The first run has little time, and all that comes later has much."""
        if seen.number and waits_s:
            witness = replace(witness, timeout_s=waits_s.pop())
        return await confirmed(witness, seen, ran_s)

    monkeypatch.setattr(Witness, "confirmed", soon)
    silent = parties.node(
        "replica0", RogueNode, victim="server1", which=rogue.named("confirm"), when=2, misdeed=rogue.silence
    )
    parties.serve(silent)
    words = await parties.refused(parties.ask(TOKENS))
    assert re.search(r"server1: waited \d+\.\d s for replica0 to confirm run 1", words)
    await parties.answered(TOKENS)
    await parties.stop()


@pytest.mark.parametrize("parties", [{"replicas": ("replica0",), "ahead": ("1x5",)}], indirect=True, ids=["ahead"])
async def test_what_is_dealt_ahead_may_run_later_than_what_is_dealt_behind_it(parties: Parties) -> None:
    parties.serve()
    await parties.has_said("server0", "buffered: 1")
    await parties.answered(TOKENS)
    await parties.answered(some_tokens([5]))
    lines = [line for line in parties.logs["replica0"].lines if line.startswith("run ")]
    assert [line.partition(":")[0] for line in lines] == ["run 0", "run 2", "run 1"]
    await parties.stop()
    assert not parties.lost()


@ONE
async def test_a_dealer_without_the_setting_is_told(parties: Parties) -> None:
    change(parties.made, "dealer", replicas=())
    parties.serve()
    line = await parties.said("server1", "session ended: dealer")
    assert r"sums (replicas in its party.toml): want 1 digest(s) of 32 bytes, got something else" in line
    await parties.cancel()


@pytest.mark.slow
async def test_a_replica_as_a_process(tmp_path: Path) -> None:
    """Started by hand, as `mpcnet init --replica` says."""
    model = tiny()
    save(model.checkpoint, tmp_path / "model")
    with deployed(model.config(), tmp_path / "deployment", replicas=("replica0",), timeout_s=PATIENT_S) as made:
        running = Running(made, model, tmp_path / "model")
        for role in (*COMMANDS, "replica0"):
            running.start(role)
        await (await running.begun()).answered(TOKENS)
        await running.has_said("replica0", r"run 1: confirmed, \d+ rounds")
        await asyncio.to_thread(made.finish, [*COMMANDS, "replica0"])
        running.check_logs()


def test_init_makes_replicas(tmp_path: Path) -> None:
    line = ["init", str(tmp_path / "d"), "--server0", "127.0.0.1:1", "--server1", "127.0.0.1:2", "--replica", "server1"]
    program.save(tiny().config(), tmp_path / "program.json")
    line += ["--program", str(tmp_path / "program.json")]
    with pytest.raises(LocalConfigError, match="--replica: want server0 or server1, got dealer"):
        CliRunner().invoke(app, [*line, "--replica", "dealer"], catch_exceptions=False)
    assert CliRunner().invoke(app, line).exit_code == 0
    for role in ("server0", "server1", "dealer", "replica1"):
        assert settings_file.read(tmp_path / "d" / role / "party.toml").replicas == ("replica1",)
    assert not (tmp_path / "d" / "replica0").exists()
    assert settings_file.read(tmp_path / "d" / "replica1" / "party.toml").role == "replica1"
