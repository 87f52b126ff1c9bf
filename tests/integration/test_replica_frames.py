"""Frames that a server should not send its replica: the session ends, and the next one serves."""

import pytest
import rogue
from parties import Parties
from replicas import ONE, TOKENS
from rogue import RogueNode

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
