"""What a caller gets: vectors, classes, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mpcnet.launch.party.answer import Answer
from mpcnet.launch.requests import answers
from mpcnet.models.families.config import Config

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Classification:
    """A classifier's answer to one text or pair of texts.

    `scores` has every label. Of a model with several labels they are probabilities that add up to 1; of a multi-label
    model each label's own probability; of a model with a single label its raw value, or of a cross-encoder its score as
    its folder says. `label` has the largest, `score`.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    out_of_range: bool = False  # accepted although a value left its range: the answer may be wrong


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place among those that were ranked: its number from 0, the score for the query, and its text."""

    index: int
    score: float
    document: str = field(repr=False)
    out_of_range: bool = False  # accepted although a value left its range: the score may be wrong


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost, all its requests together; bytes and rounds are those of `mpcnet.plan` for the same sizes.

    A request that ran together with other clients' has the cost of the whole run.
    """

    requests: int = 0
    rounds: int = 0
    sent_bytes: int = 0  # by each server to the other
    dealt_bytes: tuple[int, int] = (0, 0)  # by the dealer to server0 and to server1
    seconds: float = 0.0  # from the call to its return
    seconds_queued: float = 0.0  # waiting for its turn, or for the servers to be ready
    seconds_offline: float = 0.0  # the dealer's work
    seconds_online: float = 0.0
    out_of_range: tuple[int, ...] = field(default=())  # places of texts whose values left their range


def usage(found: Sequence[Answer], seconds: float, out_of_range: Sequence[int]) -> Usage:
    """The sum over a call's answers."""
    reports = [answer.reports[0] for answer in found]
    return Usage(
        requests=len(found),
        rounds=sum(report["rounds"] for report in reports),
        sent_bytes=sum(report["sent_bytes"] for report in reports),
        dealt_bytes=(
            sum(report["dealt_bytes"][0] for report in reports),
            sum(report["dealt_bytes"][1] for report in reports),
        ),
        seconds=seconds,
        seconds_queued=sum(answer.seconds_queued for answer in found),
        seconds_offline=sum(answer.seconds_offline for answer in found),
        seconds_online=sum(answer.seconds_online for answer in found),
        out_of_range=tuple(out_of_range),
    )


def classification(config: Config, logits: Tensor, out_of_range: bool) -> Classification:
    """Of one row of logits [labels]."""
    names, shape = answers.names(config), config.shape
    if shape.labels == 1 and not shape.multi_label:
        values = answers.as_score(shape, logits)
    else:
        values = logits.sigmoid() if shape.multi_label else logits.softmax(0)
    best = int(values.argmax())
    scores = dict(zip(names, values.tolist(), strict=True))
    return Classification(names[best], values[best].item(), scores, out_of_range)


def ranked(config: Config, place: int, logit: Tensor, document: str, out_of_range: bool) -> Ranked:
    """Of one document's logit [1]."""
    return Ranked(place, answers.as_score(config.shape, logit).item(), document, out_of_range)


def vector(values: Tensor) -> Vectors:
    """One row of an embedding, [dim]."""
    found: Vectors = values.float().numpy()
    return found
