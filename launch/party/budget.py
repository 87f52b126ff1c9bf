"""What a server's memory is for: weights, corrections, waiting requests, and one run at a time.

A request is refused before its first share is taken if its run would need more than is left for runs, by the plan's
metered peak. So no request can exhaust a server's memory, and a server that admits one can finish it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mpcnet.errors import LocalConfigError, LocalSizeError, describe
from mpcnet.launch.deployment.machine import memory_bytes
from mpcnet.models.private.program import Plans, Size, least_length

if TYPE_CHECKING:
    from mpcnet.launch.deployment.settings import Settings
    from mpcnet.randomness.meter import Plan

RUNTIME_BYTES = 300_000_000  # Python and torch before the first array, as a client's peak shows
OF_MACHINE = 0.8  # of its memory, by default: the system and other programs need the rest
RUN_FACTOR = 2.0  # a run's memory over its metered arrays: frames under way, kernels, gaps of the heap; 1.0 to 1.7 seen
OF_BUFFER, OF_QUEUE = 2, 8  # the most that corrections and requests take: half and an eighth of what weights leave
HELD_BYTES = 256 << 20  # of what its server passes on to a replica, and no thread of it has taken
AHEAD_BYTES = 128 << 20  # of corrections that the dealer made and has not sent


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes. `held_bytes` are there whatever is asked."""

    total_bytes: int
    held_bytes: int
    buffer_bytes: int
    queue_bytes: int

    @property
    def run_bytes(self) -> int:
        """What is left for the arrays of a run."""
        return self.total_bytes - self.held_bytes - self.buffer_bytes - self.queue_bytes

    def within(self, run_bytes: int) -> Budget:
        """The same for a deployment in which another party has less for runs."""
        return replace(self, total_bytes=self.total_bytes - max(0, self.run_bytes - run_bytes))

    def fits(self, plan: Plan) -> bool:
        """A run of this plan stays within the budget."""
        return run_bytes(plan) <= self.run_bytes

    def check(self, plans: Plans, size: Size) -> None:
        """:raises LocalSizeError: a request of this size can never run here."""
        largest = self.largest(plans, size)
        if largest < size.batch:
            hint = f"ask for {largest} or fewer at a time" if largest else "shorten the text"
            want = f"sentences x tokens whose run takes at most {self.run_bytes / 1e9:.1f} GB (memory_mib)"
            raise LocalSizeError(describe("request", want, f"{size.batch} x {size.length}", hint), largest)

    def largest(self, plans: Plans, size: Size) -> int:
        """How many sentences of such a request fit, at most all of them.

        A further sentence takes at least as much as the second, so that no plan is made that is far too large.
        """

        def fits(batch: int) -> bool:
            return self.fits(plans.infer(replace(size, batch=batch)))

        if not fits(1):
            return 0
        one, two = (run_bytes(plans.infer(replace(size, batch=batch))) for batch in (1, 2))
        there, beyond = 1, min(size.batch, 1 + (self.run_bytes - one) // max(1, two - one)) + 1
        while beyond - there > 1:
            middle = beyond - 1 if there == 1 else (there + beyond) // 2
            there, beyond = (middle, beyond) if fits(middle) else (there, middle)
        return there


def run_bytes(plan: Plan) -> int:
    """What a run of this plan takes beyond weights and buffered corrections."""
    return int(RUN_FACTOR * plan.peak_bytes)


def of_server(settings: Settings, plans: Plans) -> Budget:
    """:raises LocalConfigError: there is no room for the shortest request."""
    total, held = _total(settings), RUNTIME_BYTES + plans.load.kept_bytes
    left = max(0, total - held)
    buffer, queue = min(left // OF_BUFFER, settings.buffer_mib << 20), min(left // OF_QUEUE, settings.queue_mib << 20)
    return _checked(Budget(total, held, buffer, queue), plans)


def of_dealer(settings: Settings, plans: Plans) -> Budget:
    """The dealer keeps no requests, and few corrections.

    :raises LocalConfigError: as :func:`of_server`.
    """
    return _checked(Budget(_total(settings), RUNTIME_BYTES + plans.load.kept_bytes, AHEAD_BYTES, 0), plans)


def of_replica(settings: Settings, plans: Plans) -> Budget:
    """A replica keeps no requests, and corrections until its threads have used them.

    :raises LocalConfigError: as :func:`of_server`.
    """
    return _checked(Budget(_total(settings), RUNTIME_BYTES + plans.load.kept_bytes, HELD_BYTES, 0), plans)


def _total(settings: Settings) -> int:
    return settings.memory_mib << 20 if settings.memory_mib else int(OF_MACHINE * memory_bytes())


def _checked(budget: Budget, plans: Plans) -> Budget:
    need = max(
        run_bytes(plans.infer(Size(1, least_length(plans.config, 1)))), plans.load.peak_bytes - plans.load.kept_bytes
    )
    if budget.run_bytes < need:
        want = (budget.total_bytes - budget.run_bytes + need + (1 << 20)) >> 20
        raise LocalConfigError(
            describe("memory_mib", f"{want} or more for this program", budget.total_bytes >> 20,
                     "give the process more, or lower buffer_mib")
        )  # fmt: skip
    return budget
