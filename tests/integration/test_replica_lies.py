"""Who computes, sends or tells something else than it should is found by a replica, and named."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rogue
from parties import Parties, tiny
from replicas import ONE, TOKENS
from rogue import RogueChannel, RogueNode
from uploads import announce, others, uploads

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import MpcError
from mpcnet.launch.party import frames
from mpcnet.launch.party import server as server_module
from mpcnet.launch.party.clients import Clients
from mpcnet.launch.party.control_frames import SHARES
from mpcnet.launch.party.recording import Record, Recording
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols.share import Shared
from mpcnet.randomness.source import Tape
from mpcnet.runtime.correction_buffer import CorrectionBuffer
from mpcnet.runtime.record import Frames
from mpcnet.transport.handshake import Seed
from mpcnet.transport.wire import Header

LOADED = sum(bool(s.exchange) for s in Plans(tiny().config()).load.segments)


def changed(raw: Bytes) -> Bytes:
    """The same, but for a bit of its middle."""
    copy = raw.copy()
    copy[len(copy) // 2] ^= 4
    return copy


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
