"""The fixed-point oracle's driver: a program run by one party that holds every value whole, under masks of zero.

It is the servers' own program, so its result differs from theirs by their roundings alone. What it opens are the values
themselves: whoever drives it sees the input of every operation, and may open another value in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.party import Party
from mpcnet.randomness.source import PlainSource
from mpcnet.rounds import Done, Part, Program, T, advance

Look: TypeAlias = Callable[[Part, int, Tensor], Tensor]


def unchanged(part: Part, count: int, word: Tensor) -> Tensor:
    """The look that opens every word as it is."""
    return word


def evaluate(build: Callable[[Party], Program[T]], look: Look = unchanged) -> T:
    """Run `build`'s program as the oracle; it holds its inputs whole, as `Shared` of party 0.

    `look(part, count, word)` is given each opened word, canonical, and returns what is opened; `count` says how many
    words of this label and width were opened before.
    """
    program = build(Party(PlainSource()))
    seen: Counter[tuple[str, int]] = Counter()
    reply: list[Tensor] | None = None
    while not isinstance(step := advance(program, reply), Done):
        reply = []
        for part, mine in zip(step.parts, step.mine, strict=True):
            reply.append(look(part, seen[part.label, part.bits], ring.reduce(mine, part.bits)))
            seen[part.label, part.bits] += 1
    return step.value
