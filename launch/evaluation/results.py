"""What an evaluation found: how private answers compare with the float model's, and what they cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mpcnet.launch.reporting import jsonlines
from mpcnet.models.families.config import AnswerKind

FILE = "evaluations.jsonl"
WAYS = ("float", "oracle", "private")  # the plaintext model, the private program on whole values, the private run
Scores = Mapping[str, float]  # by metric


@dataclass(frozen=True, slots=True)
class Difference:
    """Two ways' outputs of the same examples: the share of equal labels (of classes), and the errors of outputs.

    Without errors if one way tells labels only.
    """

    same: float | None
    largest: float | None
    mean: float | None

    @classmethod
    def of(cls, first: Tensor, second: Tensor, answer: AnswerKind = "logits") -> Difference:
        """Of outputs [n, labels], or [n, 1] of a regression."""
        errors = (first - second).abs()
        same = (first.argmax(1) == second.argmax(1)).double().mean().item() if first.shape[1] > 1 else None
        if answer == "label":
            return cls(same, None, None)
        return cls(same, errors.max().item(), errors.mean().item())


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model on one task. Counts, bytes and seconds are a private example's, but for rounds, which are a request's.

    `scores` are of all `n` examples, `private_scores` of the `private_n` among them that ran privately, in all ways.
    """

    task: str
    headline: str
    model: str
    suite: str
    softmax: str
    answer: AnswerKind
    seed: int
    available: int
    n: int
    private_n: int
    longest: int  # tokens of an example
    scores: Mapping[str, Scores]
    private_scores: Mapping[str, Scores]
    differences: Mapping[str, Difference]  # by the ways, "private-float" say, and "transformers-float"
    batch: int
    requests: int
    rounds: tuple[int, int]  # of a request: least, most
    sent_bytes: float
    dealt_bytes: float  # to the server that gets more
    seconds: Mapping[str, float]  # upload, offline, online
    load: float  # of the machine before the run, in processes that want a core
    threads: int
    kernels: str
    machine: str
    commit: str
    labels: list[float] = field(repr=False)  # of the private examples
    outputs: Mapping[str, list[list[float]]] = field(repr=False)  # likewise, by way
    out_of_range: int | None = None  # of the private examples; None if they were not audited

    @property
    def key(self) -> tuple[str, ...]:
        """What is evaluated; the last line of each counts."""
        return self.task, self.model, self.suite, self.softmax, self.answer

    @property
    def name(self) -> str:
        return f"{self.task}, {self.model} ({self.how})"

    @property
    def how(self) -> str:
        """The program in words."""
        return f"{self.suite}, {self.softmax}{', label' if self.answer == 'label' else ''}"

    def change(self, way: str = "private") -> float:
        """The headline metric less the float model's, on the same examples."""
        return self.private_scores[way][self.headline] - self.private_scores["float"][self.headline]

    def same_labels(self) -> list[bool]:
        """Of each private example: has the private run the float model's label?"""
        pairs = zip(self.outputs["private"], self.outputs["float"], strict=True)
        return [_label(private) == _label(floats) for private, floats in pairs]

    @property
    def quiet(self) -> bool:
        """Were the cores the run's own? If not, its seconds say little."""
        return self.load < 0.5


def load(folder: Path) -> list[Evaluation]:
    """The last of each key, in the order in which they were first made.

    :raises LocalConfigError: the file cannot be read, or a line is none of this version.
    """
    return list({row.key: row for row in jsonlines.load(folder / FILE, parse)}.values())


def append(folder: Path, found: Evaluation) -> None:
    """:raises LocalConfigError: it cannot be written."""
    jsonlines.append(folder / FILE, asdict(found))


def parse(row: dict[str, Any]) -> Evaluation:
    """The inverse of `asdict`."""
    differences = {name: Difference(**each) for name, each in row.pop("differences").items()}
    least, most = row.pop("rounds")
    return Evaluation(differences=differences, rounds=(least, most), **row)


def load_now() -> float:
    """Processes that wanted a core in the last minute."""
    return os.getloadavg()[0]


def display_name(model: str) -> str:
    """A model's name without the folders of this machine."""
    return Path(model).name if Path(model).is_dir() else model


def rows_of(outputs: Tensor) -> list[list[float]]:
    """As JSON holds them."""
    return [[round(value, 8) for value in row] for row in outputs.tolist()]


def _label(output: Sequence[float]) -> int:
    return max(range(len(output)), key=output.__getitem__)


def margins(outputs: Sequence[Sequence[float]]) -> list[float]:
    """How far each example's largest output is ahead of the second."""
    ordered = [sorted(output, reverse=True) for output in outputs]
    return [first - second for first, second, *_ in ordered]
