"""What an inference will cost, from shapes alone: no data, no keys, no peer. A run measures the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcnet.launch.api.loop import LoopThread
from mpcnet.launch.api.progress import shown
from mpcnet.launch.deployment import settings
from mpcnet.launch.reporting import formats, report
from mpcnet.models.families.config import AnswerKind, Embedding
from mpcnet.models.private.prepare import BUILTIN, Prepared, asked_length, prepare
from mpcnet.models.private.program import Plans, Size, extent_of, wanted_answer
from mpcnet.models.shape import Softmax
from mpcnet.randomness.meter import Plan as Metered

PLANNED = 128  # tokens of a text, if nobody says how many


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation's share of a plan. Rounds, and bytes as in :class:`Plan`."""

    name: str
    rounds: int
    sent_bytes: int
    received_bytes: int
    offline_bytes: int
    dealt_bytes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The static cost of one request of `batch` texts of `length` tokens; the same keys as `mpcnet plan --json`."""

    rounds: int
    sent_bytes: int  # by each server to the other
    received_bytes: int
    offline_bytes: int  # the larger of dealt_bytes
    dealt_bytes: tuple[int, int]  # by the dealer to server0 and to server1
    peak_bytes: int  # of a server's arrays, with its buffer of corrections
    operations: tuple[Operation, ...]
    buffer: dict[str, Any]  # what of the corrections comes before the run, for a server's limit
    model: str
    length: int
    batch: int
    suite: str
    softmax: Softmax
    embedding: Embedding
    answer: AnswerKind
    audit: bool
    extent: int  # columns of an embedding that are computed, 0 for all; or masks that are filled, 0 for one
    random_weights: bool  # an architecture without weights: its cost is real, an answer would mean nothing
    load: dict[str, Any]  # the cost of loading the weights, once for each session of the servers
    formats: tuple[dict[str, Any], ...]  # by site: its limit, proved for every text or not, and its room

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and tuples, for JSON."""
        return asdict(self)


def plan(
    model: str | Path = "demo",
    *,
    length: int = 0,
    batch: int = 1,
    suite: str = "fast",
    softmax: Softmax | None = None,
    embedding: Embedding = "private",
    calibration: str | Path | None = None,
    answer: AnswerKind = "logits",
    audit: bool = True,
    dim: int = 0,
    masks: int = 0,
    progress: bool = True,
) -> Plan:
    """The cost of a request of `batch` texts of `length` tokens each; the arguments are those of `mpcnet plan`.

    `length` 0: 128, or of an image all its rows. `dim`: the first columns of an embedding, 0 for all; `masks`: those of
    a text that are filled, 0 for one.

    :raises LocalConfigError: there is no such model, suite or calibration, or it takes fewer tokens.
    :raises LocalInputError: the model has no such answer.
    """
    file = None if calibration is None else Path(calibration)

    def work(say: Callable[[str], None]) -> Plan:
        prepared = prepare(str(model), suite, softmax, length, file, embedding, say, usual=PLANNED)
        rows = asked_length(prepared.config.shape, length, PLANNED)
        kind = wanted_answer(prepared.config, answer), audit, extent_of(prepared.config, dim or None, masks or None)
        return plan_of(prepared, str(model), Size(batch, rows, *kind))

    async def planned() -> Plan:
        with shown("preparing", enabled=progress) as step:
            return await asyncio.to_thread(work, step.say)

    loop = LoopThread()
    try:
        return loop.call(planned())
    finally:
        loop.close()


def plan_of(prepared: Prepared, model: str, size: Size) -> Plan:
    """Of a model that is prepared already, under the name that its caller gave it."""
    plans = Plans(prepared.config)
    loading = report.planned(plans.load.ledger, plans.load.peak_bytes)
    metered = plans.infer(size)
    buffer = report.buffered(metered, settings.BUFFER_MIB << 20)
    held = min(max(metered.ledger.total().dealt_bytes), buffer["limit_bytes"])
    total = metered.ledger.total()
    return Plan(
        rounds=total.rounds,
        sent_bytes=total.sent_bytes,
        received_bytes=total.received_bytes,
        offline_bytes=total.offline_bytes,
        dealt_bytes=_both(total.dealt_bytes),
        peak_bytes=max(plans.load.peak_bytes, plans.load.kept_bytes + metered.peak_bytes + held),
        operations=_operations(metered),
        buffer=buffer,
        model=model.removeprefix(BUILTIN),
        length=size.length,
        batch=size.batch,
        suite=prepared.config.suite.name,
        softmax=prepared.config.formats.softmax,
        embedding=prepared.config.embedding,
        answer=size.answer,
        audit=size.audit,
        extent=size.extent,
        random_weights=prepared.random,
        load={key: loading[key] for key in report.COST_KEYS},
        formats=tuple(formats.row(site) for site in formats.known(prepared)),
    )


def _both(dealt_bytes: Sequence[int]) -> tuple[int, int]:
    first, second = dealt_bytes
    return first, second


def _operations(metered: Metered) -> tuple[Operation, ...]:
    return tuple(
        Operation(name, cost.rounds, cost.sent_bytes, cost.received_bytes, cost.offline_bytes, _both(cost.dealt_bytes))
        for name, cost in metered.ledger.operations.items()
    )
