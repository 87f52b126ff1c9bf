"""Which examples of a data set are evaluated: drawn by a seed, the private ones from among the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpcnet.models.picture import Picture
from mpcnet.models.texts.tasks import Split, Task, read, task_of
from mpcnet.models.texts.tokens import Text, Tokens, by_length

SPLIT: Split = "dev"  # GLUE's test sets have no labels


@dataclass(frozen=True, slots=True)
class Choice:
    """A task's examples; a limit of 0 takes all."""

    task: str
    data: str
    limit: int = 0
    private_limit: int = 256
    seed: int = 0


def drawn(count: int, limit: int, seed: int) -> list[int]:
    """At most `limit` of `count` rows, in order. Of one seed, fewer are always among more."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[: limit or count].tolist())


@dataclass(frozen=True, slots=True)
class Chosen:
    """The examples of a choice, of `available` ones; `private` are the rows (of those here) to run privately."""

    task: Task
    available: int
    texts: list[Text] = field(repr=False)
    labels: Tensor
    private: list[int]


def choose(choice: Choice) -> Chosen:
    """Read the data set, and draw from it.

    :raises LocalConfigError: there is no such task, or no such data.
    :raises LocalInputError: a row of it is damaged.
    """
    task = task_of(choice.task)
    found = read(task, choice.data, SPLIT)
    rows = drawn(len(found), choice.limit, choice.seed)
    private = set(drawn(len(found), min(choice.private_limit, len(rows)), choice.seed))
    texts, labels = [found.texts[row] for row in rows], [found.labels[row] for row in rows]
    return Chosen(
        task,
        len(found),
        texts,
        torch.tensor(labels, dtype=torch.float64),
        [place for place, row in enumerate(rows) if row in private],
    )


@dataclass(frozen=True, slots=True)
class Given:
    """Texts or images, and what they are called in the results."""

    name: str
    texts: Sequence[Text | Picture] = field(repr=False)


def single(texts: Sequence[Text | Picture]) -> list[Text | Picture]:
    """Each text once, the two of a pair as texts of their own: what an embedding model is given."""
    return list(dict.fromkeys(part for text in texts for part in (text if isinstance(text, tuple) else [text])))


def in_order(
    groups: Sequence[Sequence[int]], tokens: Tokens, run: Callable[[Tokens], Tensor], each: Callable[[], None]
) -> Tensor:
    """What `run` gives for every group of rows, in the order of the rows; `each` is called after a group."""
    parts = []
    for group in groups:
        parts.append(run(tokens.rows(group)))
        each()
    return restore(groups, torch.cat(parts))


def restore(groups: Sequence[Sequence[int]], values: Tensor) -> Tensor:
    """Values that are in the order of the groups, in the order of the rows."""
    places = torch.tensor([row for group in groups for row in group])
    return values[places.argsort()]


def groups(tokens: Tokens, size: int) -> list[list[int]]:
    """All rows, neighbours in length together."""
    return by_length(tokens, size, tokens.ids.shape[1])
