"""Try a protocol in one process: both servers and the dealer in lock-step, without sockets, keys or a clock.

A protocol is a coroutine of a party and its shares that awaits openings only::

    async def squared(p, x):
        return square(p, own_ring(await p.open_one(x)))

    result = run(squared, torch.linspace(-2, 2, 9), expected=torch.square)
    print(result)          # rounds, bytes and errors, by operation
    result.value           # what the servers computed, in float64

The parties are real (:mod:`mpcnet.protocols.lockstep_session`): fresh masks, the wire's packing, and a measured cost
that has to be the meter's plan. It needs `mpcnet.protocols.party`, so it stands among the protocols and not in the
runtime below them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.errors import LocalInputError, describe
from mpcnet.ledger import Cost
from mpcnet.protocols.lockstep_session import Build, Run, Session, check_cost, check_form, plan, reveal
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.share import Shared

__all__ = ["Build", "Input", "Result", "Session", "run"]


@dataclass(frozen=True, repr=False, eq=False)
class Input:
    """Real numbers, and the ring that they are shared in: `bits` bits, of which `frac` are fraction bits.

    :raises LocalInputError: one of them does not fit.
    """

    x: Tensor
    bits: int = 64
    frac: int = 16

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= ring.MAX_BITS:
            raise LocalInputError(describe("lock-step, input", f"a ring of 2 to {ring.MAX_BITS} bits", self.bits))
        words, half = torch.round(self.x.to(torch.float64) * 2.0**self.frac), 2.0 ** (self.bits - 1)
        if not bool(((words >= -half) & (words < half)).all()):
            limit = f"numbers from {-half * 2.0**-self.frac:g} to {half * 2.0**-self.frac:g}"
            raise LocalInputError(describe("lock-step, input", limit, "others", "share them in a wider ring"))

    def plain(self) -> Shared:
        """The whole words, as the oracle holds them."""
        return Shared(ring.encode(self.x, self.frac, self.bits), self.bits, self.frac, 0)


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """What a protocol computed and cost, beside the oracle's result and the expected one, in float64.

    Printed, it is a table by operation.
    """

    name: str
    run: Run
    value: Tensor
    oracle: Tensor
    expected: Tensor | None = None

    @property
    def operations(self) -> dict[str, Cost]:
        """Measured costs by label, which are also the plan's."""
        return self.run.ledger.operations

    @property
    def cost(self) -> Cost:
        return self.run.ledger.total()

    @property
    def rounds(self) -> int:
        return self.cost.rounds

    @property
    def sent_bytes(self) -> int:
        """Of either server to the other: both send the same sizes."""
        return self.cost.sent_bytes

    @property
    def dealt_bytes(self) -> tuple[int, int]:
        """From the dealer to server 0 and to server 1."""
        first, second = self.cost.dealt_bytes
        return first, second

    @property
    def error(self) -> float | None:
        """The largest absolute error against the expected function of the inputs; None if none was given."""
        return None if self.expected is None else _largest(self.value - self.expected)

    @property
    def oracle_error(self) -> float:
        """The largest distance from the fixed-point oracle, which computes the same but for the shares' roundings."""
        return _largest(self.value - self.oracle)

    def __str__(self) -> str:
        costs = [*((label or self.name, cost) for label, cost in self.operations.items()), ("total", self.cost)]
        width = max(len("operation"), *(len(label) for label, _ in costs))
        lines = [f"{'operation':{width}}  rounds  bytes each way   dealt to S0   dealt to S1"]
        for label, cost in costs:
            first, second = cost.dealt_bytes
            lines.append(f"{label:{width}}  {cost.rounds:6}  {cost.sent_bytes:14,}  {first:12,}  {second:12,}")
        lines.append(f"{self.name}: within {self.oracle_error:.3g} of the fixed-point oracle")
        if self.error is not None:
            lines[-1] += f", {self.error:.3g} of what was expected"
        return "\n".join(lines)


def run(
    protocol: Build,
    *inputs: Tensor | Input,
    expected: Callable[..., Tensor] | None = None,
    session: Session | None = None,
) -> Result:
    """Plan `protocol`, run it on two servers and a dealer and in the oracle, and compare.

    It is called with a party and a `Shared` for each input, and returns a `Shared` or `Bits`; what else it needs, say a
    public mask, it has in its closure. Tensors are shared in 64 bits, 16 of them fraction bits; :class:`Input` says
    otherwise. `expected` is the function that it stands for, of the inputs as given. Runs of one `session` go on under
    fresh masks; by default each has its own.

    :raises LocalInputError: an input does not fit its ring; the parties do not open and deal alike, or not as planned;
        they return something else; the expected shape differs.
    """
    session = session or Session()
    given = [x if isinstance(x, Input) else Input(x) for x in inputs]
    shares = [session.share(x.x, x.bits, x.frac) for x in given]
    planned = plan(protocol, *shares)
    done = session.run(protocol, *shares)
    check_cost(done.ledger, planned)
    whole = evaluate(lambda p: protocol(p, *(x.plain() for x in given)))
    check_form(done.results[0], whole)
    exact = reveal(whole)
    wanted = None if expected is None else expected(*(x.x for x in given)).to(torch.float64)
    if wanted is not None and wanted.shape != exact.shape:
        raise LocalInputError(describe("lock-step, expected", f"a shape {list(exact.shape)}", list(wanted.shape)))
    name = getattr(protocol, "__name__", type(protocol).__name__)
    return Result(name, done, done.value(), exact, wanted)


def _largest(difference: Tensor) -> float:
    """Of absolute values; 0 if there are none."""
    return float(difference.abs().max()) if difference.numel() else 0.0
