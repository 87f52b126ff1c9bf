"""A party with a proper certificate that misbehaves in mid-run ends everybody, each with one line that says why."""

import re

import pytest
from integration import rogue
from integration.parties import Parties, some_tokens
from integration.rogue import Misdeed, RogueNode

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
    "silent": (rogue.silence, "waited 1 s for WHO to send a frame"),
    "stalled in a frame": (rogue.stall, "waited 1 s for WHO to send the rest of a frame"),
}
PAIRS = [("server1", "server0"), ("server0", "server1"), ("dealer", "server0"), ("dealer", "server1")]


async def misbehave(parties: Parties, who: str, victim: str, misdeed: Misdeed) -> dict[str, str]:
    """Everybody's last line, after `who` did `misdeed` to `victim` in mid-run."""
    frames = "deal" if who == "dealer" else "round"
    node = parties.node(who, RogueNode, victim=victim, frames=frames, misdeed=misdeed)
    parties.serve(**{who: node})
    await parties.give_weights()
    parties.ask(some_tokens([5, 3]))
    lines = await parties.fail("server0", "server1", "dealer", "client")
    assert node.made[0].did.is_set()
    return lines


def check(lines: dict[str, str], who: str, victim: str, words: str) -> None:
    """The victim says what it saw, the others that they were told; nobody says more than one public line."""
    assert re.match(PLACE + words.replace("WHO", who), lines[victim]), lines
    for line in lines.values():
        assert re.search("server0|server1|dealer", line), lines
        assert "\n" not in line and len(line) < 400 and not re.search("[0-9a-f]{20}", line), lines


@pytest.mark.parametrize(("who", "victim"), PAIRS)
@pytest.mark.parametrize("what", MISDEEDS)
async def test_bytes(parties: Parties, who: str, victim: str, what: str) -> None:
    misdeed, words = MISDEEDS[what]
    check(await misbehave(parties, who, victim, misdeed), who, victim, words)


@pytest.mark.parametrize("parties", [{"timeout_s": 1.0}], indirect=True, ids=["1 s"])
@pytest.mark.parametrize(("who", "victim"), PAIRS)
@pytest.mark.parametrize("what", STILL)
async def test_nothing_more(parties: Parties, who: str, victim: str, what: str) -> None:
    misdeed, words = STILL[what]
    check(await misbehave(parties, who, victim, misdeed), who, victim, words)
