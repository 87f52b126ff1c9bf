"""A party with a proper certificate that misbehaves in mid-run: the session ends, all say why, and the next one serves."""

import asyncio
import re
from typing import Any

import pytest
import rogue
from parties import ALL, SERVERS, Parties, some_tokens
from patience import too_long
from rogue import Misdeed, RogueChannel, RogueNode
from sockets import until

from mpcnet.launch.party import party
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header, Stage

PLACE = r"stream 1, segment \d+ \([a-z0-9/]+\): "
MISDEEDS: dict[str, tuple[Misdeed, str]] = {  # what it does, what the server that sees it says
    "garbage": (rogue.garbage, "WHO: these bytes are not a frame"),
    "truncated frame": (rogue.cut, "WHO closed the channel"),
    "header length": (rogue.long_header, r"WHO, header length: want 1\.\.65536, got 2147483648"),
    "payload length": (rogue.long_payload, r"WHO, payload length: want <= \d+, got 1152921504606846976"),
    "a terabyte": (rogue.too_large, r"WHO: want \d+ parts of \d+ bytes .*, got 1 parts of 1099511627776 bytes"),
    "repeated frame": (rogue.twice, r"WHO: want sequence (\d+), got \d+"),
    "lost frame": (rogue.lost, r"WHO: want sequence \d+, got \d+"),
    "another shape": (rogue.flattened, r"WHO: want \d+ parts of \d+ bytes .*, got \d+ parts of \d+ bytes"),
    "another stream": (rogue.forge(stream=7), "WHO: want stream 1, got 7"),
    "another session": (rogue.forge(session=bytes(16)), "WHO: want session ours, got another"),
    "another round": (rogue.forge(sequence=lambda n: n + 1), r"WHO: want sequence \d+, got \d+"),
    "another operation": (rogue.forge(label="nonsense"), r"WHO: want label [a-z0-9/]+, got nonsense"),
    "another program": (rogue.forge(chain=bytes(8)), "WHO: want transcript [0-9a-f]{16}, got 0{16}"),
    "another kind": (rogue.forge(kind="control", label="order"), "WHO: want kind (round|deal), got control"),
}
STILL: dict[str, tuple[Misdeed, str]] = {
    "silent": (rogue.silence, "waited (0|60) s for WHO to send a frame"),
    "stalled in a frame": (rogue.stall, "waited 60 s for WHO to send the rest of a frame"),
}
PAIRS = [("server1", "server0"), ("server0", "server1"), ("dealer", "server0"), ("dealer", "server1")]


async def misbehave(parties: Parties, who: str, victim: str, misdeed: Misdeed, words: str) -> None:
    """The victim says what it saw, the others that they were told; the client gets no answer, and the next one does."""
    kind = "deal" if who == "dealer" else "round"
    node = parties.node(who, RogueNode, victim=victim, which=rogue.of_run(kind), misdeed=misdeed)
    parties.serve(node)
    for role in SERVERS:
        await parties.said(role, "connected with")  # who asks does not wait for them, then
    lost = parties.ask(some_tokens([5, 3]))
    lines = dict(zip(ALL, await parties.all_say("the session ended: .*; connecting anew"), strict=True))
    assert node.did.is_set()
    place = f"({PLACE})?" if who == "dealer" else PLACE  # who deals ahead may be heard before the run begins
    assert re.search(f"ended: {place}{words.replace('WHO', who)}", lines[victim]), lines
    lines["client"] = await parties.refused(lost)
    for line in lines.values():
        assert re.search("server0|server1|dealer", line), lines
        assert "\n" not in line and len(line) < 500 and not re.search("[0-9a-f]{20}", line), lines
    await parties.answered(some_tokens([4]))


@pytest.mark.parametrize(
    ("who", "victim"), [PAIRS[0], *(pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS[1:])]
)
@pytest.mark.parametrize("what", MISDEEDS)
async def test_bytes(parties: Parties, who: str, victim: str, what: str) -> None:
    await misbehave(parties, who, victim, *MISDEEDS[what])


@pytest.mark.slow
@pytest.mark.parametrize(("who", "victim"), PAIRS)
@pytest.mark.parametrize("what", STILL)
async def test_nothing_more(
    parties: Parties, who: str, victim: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    misdeed, words = STILL[what]
    receivers: dict[int, CorrectionReceiver] = {}

    def receiver(dealer: Peer, number: int, *more: Any) -> CorrectionReceiver:
        receivers[number] = CorrectionReceiver(dealer, number, *more)
        return receivers[number]

    monkeypatch.setattr(party, "CorrectionReceiver", receiver)

    async def and_time_passes(channel: RogueChannel, header: Header, payload: bytes) -> None:
        [theirs] = [each for each in parties.nodes[victim].channels if each.peer == who and each._failure is None]
        misbehaving = asyncio.ensure_future(misdeed(channel, header, payload))
        await until(lambda: theirs.received_bytes == channel.inner.sent_bytes)  # all that came before
        if misdeed is rogue.stall:
            await until(lambda: theirs._decoder.stage is Stage.PAYLOAD)
        if (
            who == "dealer" and misdeed is rogue.silence
        ):  # its frames are awaited patiently; who needs them is not patient
            receivers[SERVERS.index(victim)]._patience_s = 0.0
            receivers[SERVERS.index(victim)]._changed.set()
        else:
            await too_long(theirs)
        await misbehaving

    await misbehave(parties, who, victim, and_time_passes, words)
