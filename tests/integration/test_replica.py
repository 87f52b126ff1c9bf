"""Live replicas: they compute what their servers should have sent, and without their word there is no answer."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rogue
from limits import LIMIT_S, PATIENT_S
from parties import Parties, change, deployed, some_tokens, tiny
from rogue import RogueChannel, RogueNode
from running import COMMANDS, Running, save
from typer.testing import CliRunner
from uploads import announce, asks_in_vain, others, uploads

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalConfigError, MpcError
from mpcnet.launch.cli import app
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.party import client, frames
from mpcnet.launch.party import server as server_module
from mpcnet.launch.party.clients import Clients
from mpcnet.launch.party.control_frames import SHARES
from mpcnet.launch.party.recording import Record, Recording
from mpcnet.launch.party.witness import Seen, Witness
from mpcnet.models.private import program
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols.share import Shared
from mpcnet.randomness.source import Tape
from mpcnet.runtime.correction_buffer import CorrectionBuffer
from mpcnet.runtime.record import Frames
from mpcnet.transport.handshake import Seed
from mpcnet.transport.wire import Header

TOKENS = some_tokens([5, 3])
TWO = {"replicas": ("replica0", "replica1")}
BOTH = pytest.mark.parametrize("parties", [{**TWO, "streams": 2}], indirect=True, ids=["two replicas"])
ONE = pytest.mark.parametrize("parties", [{"replicas": ("replica0",)}], indirect=True, ids=["replica0"])
PLANS = Plans(tiny().config())
RUN, LOADED = (sum(bool(s.exchange) for s in plan.segments) for plan in (PLANS.infer(Size(1, 5)), PLANS.load))


def changed(raw: Bytes) -> Bytes:
    """The same, but for a bit of its middle."""
    copy = raw.copy()
    copy[len(copy) // 2] ^= 4
    return copy


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
    check = client.check_tag
    monkeypatch.setattr(client, "check_tag", lambda *given: (checked.append(given[3]), check(*given)))
    parties.serve()
    async with asyncio.timeout(LIMIT_S):
        answer = await parties.ask(TOKENS, kind="label", audit=True)
    assert (answer.values.sum(1) == 1).all() and answer.out_of_range == [False, False]
    assert len(set(checked)) == 2 and all(len(tag) == 32 for tag in checked)
    await parties.stop()


async def flipped(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """The right frame but for a bit."""
    await channel.inner.send(header, changed(np.frombuffer(payload, np.uint8)).data)


@ONE
@pytest.mark.parametrize("when", [4, *(pytest.param(when, marks=pytest.mark.slow) for when in (1, 9))])
async def test_a_bit_that_server0_flips_is_caught_and_named(parties: Parties, when: int) -> None:
    bad = parties.node("server0", RogueNode, victim="server1", which=rogue.of_run("round"), when=when, misdeed=flipped)
    parties.serve(bad)
    words = await parties.refused(parties.ask(TOKENS))
    stream = Plans(parties.nodes["client"].config).infer(Size(2, 5))
    where = [number for number, segment in enumerate(stream.segments) if segment.exchange][when - 1]
    named = f"stream 1, segment {where} ({stream.segments[where].label})"
    assert f"server1: replica0: run 1: server0, {named}: want the frame that follows from what it received" in words
    assert "server1 received another" in words
    await parties.said("replica0", re.escape(named))
    await parties.answered(TOKENS)  # in the next session
    await parties.stop()


@ONE
async def test_a_bit_that_server0_flips_while_the_weights_are_opened(parties: Parties) -> None:
    bad = parties.node("server0", RogueNode, victim="server1", which=rogue.of_load("round"), when=1, misdeed=flipped)
    parties.serve(bad)
    await parties.said("server1", r"session ended: replica0: run 0: server0, stream 0, segment \d+ ")
    await parties.answered(TOKENS)
    await parties.stop()


def computes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run, server0 sends another frame than it should, and believes in it."""
    honest = Frames.sent

    async def lying(frames: Frames, index: int, sequence: int, packed: list[Bytes]) -> None:
        if frames._party == 0 and sequence > LOADED + 1:  # there are no such segments in the loading
            packed[:] = map(changed, packed)
        await honest(frames, index, sequence, packed)

    monkeypatch.setattr(Frames, "sent", lying)


def takes_another_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    """server0 computes with another text than the client's, and passes that on."""
    tokens_of, upload = server_module.tokens_of, Record.upload

    def lying_tokens(config: Any, party: int, requests: Any, streams: Any) -> Any:
        if party == 0:
            requests = [(size, replace(held, explicit=list(map(changed, held.explicit)))) for size, held in requests]
        return tokens_of(config, party, requests, streams)

    async def lying_upload(record: Record, index: int, pieces: Sequence[Bytes]) -> None:
        run = bool(len(pieces[0]) < 32)  # the mask; weights begin with a seed
        if record._recording.node.role == "server0" and run:
            pieces = [*pieces[:2], *map(changed, pieces[2:])]
        await upload(record, index, pieces)

    monkeypatch.setattr(server_module, "tokens_of", lying_tokens)
    monkeypatch.setattr(Record, "upload", lying_upload)


def takes_other_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    """server0 computes with other corrections than the dealer's, and passes those on."""
    honest = CorrectionBuffer.next

    async def lying(buffer: CorrectionBuffer, index: int) -> Tape:
        tape = await honest(buffer, index)
        if buffer._receiver.party == 0 and buffer.streams[0].number and tape.payload is not None:
            tape.payload = changed(tape.payload)
        return tape

    monkeypatch.setattr(CorrectionBuffer, "next", lying)


def tells_another_seed(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """server0 gives its replica another seed of masks, or of refreshing words."""

    def misdeed(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Recording.begin

        async def lying(recording: Recording, number: int, *more: Any) -> Any:
            lies = recording.node.role == "server0" and number
            told = replace(recording, **{name: Seed(bytes(32))}) if lies else recording
            return await honest(told, number, *more)

        monkeypatch.setattr(Recording, "begin", lying)

    return misdeed


MISDEEDS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (computes_otherwise, r"server0, stream 1, segment \d+ \(.*\): want the frame that follows from what it received"),
    (takes_another_upload, "server0: uploads: want what server1 was told of, it passed on another"),
    (takes_other_corrections, "server0: corrections, or masks: want what server1 was told of"),
    (tells_another_seed("masks"), "server0: corrections, or masks: want what server1 was told of"),
    (tells_another_seed("refresh"), "server0: seed of refreshing words: want what server1 was told of"),
]


@ONE
@pytest.mark.parametrize(("misdeed", "words"), MISDEEDS, ids=[row[1][:24] for row in MISDEEDS])
async def test_a_server_that_lies_to_its_replica_too(
    parties: Parties, monkeypatch: pytest.MonkeyPatch, misdeed: Callable[[pytest.MonkeyPatch], None], words: str
) -> None:
    """What it passes on agrees with what it sends: it is found because others tell digests of the truth."""
    misdeed(monkeypatch)
    parties.serve()
    assert re.search(f"server1: replica0: run 1: {words}", await parties.refused(parties.ask(TOKENS)))
    monkeypatch.undo()
    await parties.cancel()


@ONE
async def test_a_frame_that_server0_did_not_get_so(parties: Parties) -> None:
    """Or, for all that anybody can know, that server1 did not send so: somebody of the two deviates."""
    bad = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), when=3, misdeed=flipped)
    parties.serve(bad)
    words = await parties.refused(parties.ask(TOKENS))
    assert re.search(
        r"replica0: run 1: server0, stream 1, segment \d+ \(.*\): want the frame that server1 says that it sent", words
    )
    await parties.answered(TOKENS)
    await parties.stop()


@ONE
async def test_a_share_of_the_answer_that_server0_changes_is_refused_by_the_client(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Clients.reply

    def lying(clients: Clients, request: Any, result: Response, *more: Any) -> None:
        if clients.node.role == "server0":
            values = result.values
            result = replace(result, values=Shared(values.value + 1, values.bits, values.frac, values.party))
        honest(clients, request, result, *more)

    monkeypatch.setattr(Clients, "reply", lying)
    parties.serve()
    words = await parties.refused(parties.ask(TOKENS))
    assert words.startswith("server0: want the share of the answer that its replica computed, got another")
    monkeypatch.undo()
    await parties.answered(TOKENS)
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


@ONE
async def test_a_client_that_lies_about_the_other_upload_costs_itself_only(parties: Parties) -> None:
    parties.serve()
    await parties.answered(TOKENS)
    node, (one, two) = parties.node("client:alice"), uploads(parties, TOKENS)
    peers = [await node.dial(role) for role in ("server0", "server1")]
    for peer, upload, other in zip(peers, (one, two), (others(two), {"others": bytes(32)}), strict=True):
        await announce(peer, TOKENS, id=bytes(16))
        await frames.send(peer, SHARES, upload, **other)
    with pytest.raises(MpcError, match="server0 has got another size, mask, upload or answer of this request"):
        while True:
            await peers[1].channel.receive(lambda header: memoryview(bytearray(header.payload_bytes)), patient=True)
    await parties.answered(TOKENS)
    await parties.stop()
    assert not parties.lost()


HOSTILE: list[tuple[str, int, rogue.Misdeed, str]] = [
    ("entry", 8, rogue.twice, r"server0, run \d+, entry . 0/\d+: want no bytes, got \d+"),
    ("entry", 8, rogue.too_large, r"server0, run \d+, entry . 0/\d+: want \d+ bytes, got 1099511627776"),
    ("entry", 8, rogue.forge(fields={"of": "S", "index": 0, "sequence": 0}), "want an entry of a run that has begun"),
    ("entry", 8, rogue.forge(fields={"of": ["D"], "index": 0, "sequence": 0}), "of a run that has begun, got another"),
    ("entry", 8, rogue.forge(fields={"of": "D", "index": -1, "sequence": 0}), "entry: index: want a whole number in 0"),
    ("entry", 8, rogue.flattened, r"server0, entry: want \[\(8, \(\d+,\)\)\], got \[\(8, \(\d+, 1\)\)\]"),
    ("begin", 1, rogue.twice, "server0: it begins a run before the last one has been confirmed"),
    ("begin", 1, rogue.forge(fields=lambda now: now | {"stream": 1}), "order, answer: want logits of a model"),
    ("begin", 2, rogue.forge(fields=lambda now: now | {"requests": [9, 5]}), "want requests that fit into their run"),
    (
        "begin",
        2,
        rogue.forge(fields=lambda now: now | {"sizes": [256, 16] * 17}),
        "want up to 16 streams of one length",
    ),
    ("begin", 2, rogue.forge(fields=lambda now: now | {"sizes": [60000, 16]}), "run 1: want a run of at most .* GB"),
    ("begin", 2, rogue.forge(fields=lambda now: now | {"stream": 0}), "want loading without sizes, got some"),
]


@ONE
@pytest.mark.parametrize(
    ("name", "when", "misdeed", "words"),
    [
        pytest.param(*row, marks=[pytest.mark.slow] if index % 3 else [], id=row[3][-24:])
        for index, row in enumerate(HOSTILE)
    ],
)
async def test_a_server_that_sends_its_replica_something_else(
    parties: Parties, name: str, when: int, misdeed: rogue.Misdeed, words: str
) -> None:
    """The session ends before memory is spent, and the next one serves."""
    bad = parties.node(
        "server0", RogueNode, victim="replica0", which=rogue.named(name), when=when, misdeed=misdeed
    )  # fmt: skip
    parties.serve(bad)
    if name == "begin" and when == 2:
        await parties.refused(parties.ask(TOKENS))
    await parties.has_said("replica0", f"session ended: .*{words}")
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
async def test_a_run_begins_once(parties: Parties) -> None:
    """Or its keystreams would be opened twice."""
    again = rogue.forge(fields=lambda now: now | {"stream": 1})
    bad = parties.node(
        "server0", RogueNode, victim="replica0", which=rogue.named("begin"), when=3, misdeed=again
    )  # fmt: skip
    parties.serve(bad)
    await parties.answered(TOKENS)
    await parties.refused(parties.ask(TOKENS))
    await parties.has_said("replica0", "session ended: server0: want loading, then runs once each, got run 1")
    await parties.answered(TOKENS)
    await parties.stop()


@ONE
async def test_a_server_that_tells_a_replica_of_a_run_twice(parties: Parties) -> None:
    """It is named; not the other one, of whose run it tells nothing."""
    bad = parties.node(
        "server1", RogueNode, victim="replica0", which=rogue.named("witness"), when=2, misdeed=rogue.twice
    )  # fmt: skip
    parties.serve(bad)
    await parties.answered(TOKENS)
    await parties.refused(parties.ask(TOKENS))
    words = "session ended: server1, witness: want what it has seen of run 2, got that of a former run"
    await parties.has_said("replica0", words)
    await parties.answered(TOKENS)
    await parties.stop()


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
