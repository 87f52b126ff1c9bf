"""What is public of a model's head: its kind, how tokens are pooled for it, and the maps of what is pooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mpcnet.models.size_limits import MOST

HeadActivation: TypeAlias = Literal["tanh", "relu", "gelu", "gelu_tanh", "silu"]
DenseActivation: TypeAlias = Literal["tanh", "identity"]
Head: TypeAlias = Literal["embedding", "classification", "token-classification", "question-answering", "fill-mask"]
HEAD_POOLINGS: Mapping[str, str] = {
    "classification": "first",
    "token-classification": "none",
    "question-answering": "none",
    "fill-mask": "none",
}
LABELLED = ("classification", "token-classification")  # heads whose columns are labels
TOKEN_LINEARS: Mapping[str, str] = {  # the last map of tokens, by head
    "token-classification": "classifier",
    "question-answering": "span",
    "fill-mask": "decoder",
}
SPAN_COLUMNS = 2  # of a token: does an answer start with it, does one end with it
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")  # sentence-transformers' names
IMAGE_POOLINGS = ("cls", "cls+patches")  # before a classifier of images: the class token, and the mean of the patches


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear map of the pooled vector to so many columns, and what follows it."""

    columns: int
    activation: DenseActivation


def wrong_pooling(head: str, labels: int, pooling: str, of_images: bool) -> Iterator[str]:
    """What does not go together of a head, its columns that are labels, and the pooling before it."""
    embeds, classifies = head == "embedding", head == "classification"
    mean = classifies and pooling == "mean"
    known = all(kind in POOLINGS for kind in pooling.split("+")) if embeds else pooling == HEAD_POOLINGS.get(head)
    if of_images and classifies:
        known, mean = pooling in IMAGE_POOLINGS, False
    if head not in get_args(Head) or not (known or mean) or (labels > 0) != (head in LABELLED):
        yield (
            "head, pooling, labels: want embedding, pooling kinds, 0 or classification, first or mean, > 0 or "
            "token-classification, none, > 0 or another head, none, 0, "
            f"got {head}, {pooling}, {labels}"
        )


def wrong_maps(maps: Sequence[Dense]) -> Iterator[str]:
    """What is wrong of the maps of what is pooled, which follow each other."""
    for place, dense in enumerate(maps, 1):
        if (
            type(dense.columns) is not int
            or not 1 <= dense.columns <= MOST
            or dense.activation not in get_args(DenseActivation)
        ):
            yield f"dense: want columns and {' or '.join(get_args(DenseActivation))}, got {dense}"
        elif dense.activation == "identity" and place < len(maps):
            yield "dense: want maps without an activation between them as one, got two"
