"""Which method asks a model of which kind; of another kind it is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping

from mpcnet.errors import LocalInputError
from mpcnet.models.head_shape import Head
from mpcnet.models.private.program import kind_of
from mpcnet.models.shape import BertShape

METHODS: Mapping[Head, str] = {  # the method that a model of each kind is made for
    "embedding": "embed",
    "classification": "classify",
    "token-classification": "tag",
    "question-answering": "answer",
    "fill-mask": "fill",
}
WANTED: Mapping[str, tuple[Head, str]] = {  # by method
    "embed": ("embedding", "a model of embeddings"),
    "classify": ("classification", "a classifier"),
    "labels": ("classification", "a classifier"),
    "rerank": ("classification", "a cross-encoder, which has one label"),
    "tag": ("token-classification", "a classifier of tokens"),
    "fill": ("fill-mask", "a model that fills masks"),
    "answer": ("question-answering", "a model that answers questions"),
}


def check_method(method: str, shape: BertShape) -> None:
    """:raises LocalInputError: the model is of another kind than the method asks."""
    head, want = WANTED[method]
    if shape.head != head or (method == "rerank" and shape.labels != 1):
        raise LocalInputError(f"{method}: want {want}, got {kind_of(shape)}; call {METHODS[shape.head]}")
