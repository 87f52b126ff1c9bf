"""GLUE's metrics, as fractions of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.models.texts.tasks import Task


def score(task: Task, outputs: Tensor, labels: Sequence[float] | Tensor) -> dict[str, float]:
    """The task's metrics of outputs [n, labels] (a regression's [n, 1]): the largest output is the answer.

    :raises LocalInputError: the outputs are not of that shape, or are not finite.
    """
    truth = torch.as_tensor(labels, dtype=torch.float64)
    if outputs.shape != (len(truth), task.outputs) or not len(truth):
        raise LocalInputError(f"outputs: want [{len(truth) or 'some'}, {task.outputs}], got {list(outputs.shape)}")
    if not bool(torch.isfinite(outputs).all()):
        raise LocalInputError("outputs: want finite values, got inf or nan")
    answers = (outputs.argmax(1) if task.labels else outputs[:, 0]).double()
    return {name: METRICS[name](answers, truth) for name in task.metrics}


def accuracy(answers: Tensor, truth: Tensor) -> float:
    return (answers == truth).double().mean().item()


def f1(answers: Tensor, truth: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) of label 1; 0 if there is none in either."""
    both = ((answers == 1) & (truth == 1)).sum().item()
    either = (answers == 1).sum().item() + (truth == 1).sum().item()
    return 2 * both / either if either else 0.0


def matthews(answers: Tensor, truth: Tensor) -> float:
    """Matthews' correlation: of two labels, Pearson's of the 0/1 values; 0 if either is constant."""
    return pearson(answers, truth)


def pearson(answers: Tensor, truth: Tensor) -> float:
    """Pearson's correlation; 0, where it is not defined, if either is constant."""
    if not all(bool((values != values[0]).any()) for values in (answers, truth)):
        return 0.0
    return torch.corrcoef(torch.stack([answers, truth]))[0, 1].item()


def spearman(answers: Tensor, truth: Tensor) -> float:
    """Pearson's correlation of the ranks; equal values share their mean rank."""
    return pearson(_ranks(answers), _ranks(truth))


def _ranks(values: Tensor) -> Tensor:
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: Tensor = counts.cumsum(0).double() - (counts - 1) / 2
    return ranks[group]


METRICS: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
