"""A server that computes one bit otherwise than it should, and goes on with it as if it were right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.models.private.inference import Response
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Exchange

WHERE = ("run", "run", "loading", "answer")


@dataclass
class Flip:
    """Once: in frame number `when` of runs or of loadings, or in the server's share of answer number `when`."""

    server: str
    where: str
    when: int
    done: bool = False
    named: bool = False
    session: bytes = b""  # of the servers, in which it was done
    stream: int = -1
    segment: int = -1
    request: bytes = b""  # of the answer

    def due(self, server: str, where: str) -> bool:
        """True at that moment, once."""
        if self.done or (server, where) != (self.server, self.where):
            return False
        self.when -= 1
        self.done = self.when <= 0
        return self.done

    def of_run(self, session: bytes, streams: Sequence[int]) -> bool:
        """It was done in one of these streams."""
        return self.done and self.session == session and self.stream in streams

    @property
    def name(self) -> str:
        """What whoever finds it must say."""
        return f"{self.server}, stream {self.stream}, segment {self.segment} ("


def flipped(draw: random.Random, step: Exchange) -> tuple[Exchange, list[Bytes]]:
    """The same exchange, but for a bit of the masked shares that are sent, and computed with; and its wire form."""
    index = draw.choice([index for index, part in enumerate(step.parts) if part.nbytes])
    bits, mine = step.parts[index].bits, step.mine[index].clone()
    flat = mine.view(-1)
    place = 0 if bits == 1 else draw.randrange(len(flat))  # of single bits, the last byte may have spare ones
    flat[place] ^= _word(0 if bits == 1 else draw.randrange(bits), flat.element_size())
    changed = replace(step, mine=(*step.mine[:index], mine, *step.mine[index + 1 :]))
    return changed, [ring.pack(value, part.bits) for value, part in zip(changed.mine, changed.parts, strict=True)]


def flipped_answer(draw: random.Random, answer: Response) -> Response:
    """The same share, but for a bit."""
    values: Any = answer.values
    share = values.value.clone()
    share.view(-1)[draw.randrange(share.numel())] ^= _word(draw.randrange(values.bits), share.element_size())
    return replace(answer, values=Shared(share, values.bits, values.frac, values.party))


def _word(bit: int, size: int) -> int:
    """A signed word of so many bytes with this bit alone; unsigned if there is only one byte."""
    return -(1 << bit) if size > 1 and bit == 8 * size - 1 else 1 << bit
