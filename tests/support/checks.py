"""What every protocol's test asks: the value, the cost to the byte, and that one corrupted reply is noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import torch
from hypothesis import settings
from lockstep import Build, Run, Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.ledger import Cost
from mpcnet.protocols.audit import Audit
from mpcnet.protocols.lockstep import Input, Result, run
from mpcnet.protocols.lockstep_session import check_cost as check_plan
from mpcnet.protocols.lockstep_session import plan, reveal
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared

few = settings(max_examples=15, derandomize=True, deadline=None)  # examples differ in size, sign and shares


def given_words(words: Sequence[int], bits: int, frac: int) -> Input:
    """Words of any size, as a ring of `bits` bits reads them."""
    half = 1 << (bits - 1)
    read = [(word + half) % (2 * half) - half for word in words]
    return Input(torch.tensor(read, dtype=torch.float64) * 2.0**-frac, bits, frac)


def uniform(shape: Sequence[int], low: float, high: float, bits: int, frac: int, seed: int = 0) -> Input:
    """Real numbers from [low, high] on the grid of 2^-frac; their two ends are among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(tuple(shape), generator=generator, dtype=torch.float64) * (high - low) + low
    if x.numel() > 1:
        x.view(-1)[0], x.view(-1)[-1] = low, high
    return Input(torch.round(x * 2.0**frac) * 2.0**-frac, bits, frac)


def log_uniform(count: int, low: float, high: float, bits: int, frac: int) -> Input:
    """From [low, high] evenly in the logarithm, and as many near the lower end, where 1/x is hardest."""
    wide = torch.logspace(0, 1, count, base=high / low, dtype=torch.float64) * low
    x = torch.cat([wide, torch.linspace(low, 1.1 * low, count, dtype=torch.float64)])
    return Input(torch.ceil(x.clamp(low, high) * 2.0**frac) * 2.0**-frac, bits, frac)


def numbers(*bits: Bits) -> Shared:
    """Bits, stacked, as shares mod 2^8 whose sum is right mod 2: what the checks below can decode."""
    values = [ring.unpack_bits(row.packed, row.shape) for row in bits]
    return Shared(torch.stack(values) if len(values) > 1 else values[0], 8, 0, bits[0].party)


def outcome(build: Build, *inputs: Input, seed: int = 0) -> Result:
    """Run on both servers and the dealer; the cost must be the plan's, the result's format the oracle's."""
    return run(build, *inputs, session=Session(seed))


def _run(build: Build, inputs: Sequence[Input], seed: int, tamper: Any = None) -> Run:
    session = Session(seed)
    shared = [session.share(i.x, i.bits, i.frac) for i in inputs]
    done = session.run(build, *shared, tamper=tamper)
    check_plan(done.ledger, plan(build, *shared))
    return done


@dataclass(frozen=True)
class Watched:
    """One lock-step run under an audit, and the oracle's: what was computed, and which sentences were flagged."""

    run: Run
    value: Tensor | None
    flagged: Tensor
    oracle: Tensor | None
    oracle_flagged: Tensor

    @property
    def cost(self) -> Cost:
        return self.run.ledger.total()


def under_audit(build: Callable[..., Any], keep: Tensor) -> Build:
    """The program under an audit with that padding mask; its result, if any, and the verdict."""

    async def program(p: Party, *inputs: Shared) -> tuple[Shared | None, Bits]:
        audit = Audit(keep)
        result = await build(replace(p, audit=audit), *inputs)
        return result, await audit.verdict(p)

    return program


def watched(build: Callable[..., Any], keep: Tensor, *inputs: Input, seed: int = 0) -> Watched:
    """Run on both servers and the dealer, and in the oracle, under an audit; the cost must be the plan's."""
    done = _run(under_audit(build, keep), inputs, seed)
    (first, bits), (second, others), _ = done.results
    value = None if first is None else reveal(first, second)
    return Watched(done, value, told(bits, others), *watched_oracle(build, keep, *inputs))


def watched_oracle(build: Callable[..., Any], keep: Tensor, *inputs: Input) -> tuple[Tensor | None, Tensor]:
    """What the oracle computes, and which sentences it flags."""
    result, verdict = evaluate(lambda p: under_audit(build, keep)(p, *(i.plain() for i in inputs)))
    return None if result is None else reveal(result), told(verdict)


def told(*verdicts: Bits) -> Tensor:
    """The sentences that shares of a verdict flag."""
    return reveal(*verdicts).bool().any(-1)


def check_cost(done: Result | Watched, rounds: int, sent: int, dealt: int | None = None) -> None:
    """Rounds and bytes as the docstring says, exactly. `dealt` is the dealer's traffic to both servers together."""
    cost = done.cost
    assert (cost.rounds, cost.sent_bytes, cost.received_bytes) == (rounds, sent, sent)
    assert dealt is None or sum(cost.dealt_bytes) == dealt, cost.dealt_bytes


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) if a.numel() else 0.0


def relative(a: Tensor, b: Tensor) -> float:
    return distance(a / b, torch.ones_like(b))


def check_corruption(build: Build, *inputs: Input, modulus: int = 1 << 62) -> None:
    """Flip high bits of one round's messages, each round in turn: with the same randomness, the result changes.

    `modulus` 2 is for results of :func:`numbers`.
    """
    starts: list[int] = []
    honest = _run(build, inputs, 7, lambda start, wires: starts.append(start))
    assert starts
    for index, at in enumerate(starts):

        def flip(start: int, wires: list[Tensor], at: int = at) -> None:
            for k, wire in enumerate(wires if start == at else []):
                bits = honest.opened[at + k][0].bits
                wires[k] = wire ^ ring.fit(torch.tensor(-1 << max(bits - 2 - k, 0)), bits)

        wrong = _run(build, inputs, 7, flip)
        difference = (wrong.value() - honest.value()) % modulus
        assert difference.any(), f"round {index} was corrupted without effect"


def chi_square(digits: Tensor, categories: int) -> float:
    """The statistic in standard deviations from its mean (Wilson and Hilferty's cube root)."""
    counts = torch.bincount(digits, minlength=categories).to(torch.float64)
    expected = digits.numel() / categories
    statistic = float(((counts - expected) ** 2 / expected).sum())
    free = categories - 1
    return float(((statistic / free) ** (1 / 3) - (1 - 2 / (9 * free))) / sqrt(2 / (9 * free)))
