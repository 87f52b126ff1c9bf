"""The shape of a BERT: everything about a model that is public, and nothing that is learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from mpcnet.errors import LocalConfigError
from mpcnet.models.position_bias import BUCKETS

Activation: TypeAlias = Literal["gelu", "quad"]  # of the feed-forward: erf-GeLU, or MPCFormer's Quad
Softmax: TypeAlias = Literal["exact", "2quad", "2relu"]  # the latter two by SecFormer and MPCFormer: no exponentials
DenseActivation: TypeAlias = Literal["tanh", "identity"]
Head: TypeAlias = Literal["embedding", "classification", "token-classification", "question-answering"]
HEAD_POOLINGS: Mapping[str, str] = {
    "classification": "first",
    "token-classification": "none",
    "question-answering": "none",
}
LABELLED = ("classification", "token-classification")  # heads whose columns are labels
TOKEN_LINEARS: Mapping[str, str] = {"token-classification": "classifier", "question-answering": "span"}  # parameters
SPAN_COLUMNS = 2  # of a token: does an answer start with it, does one end with it
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")  # sentence-transformers' names
MOST, MOST_LAYERS = 1 << 24, 1024  # of any size, and of layers: far above any encoder; products of two sizes fit a word


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear map of the pooled vector to so many columns, and what follows it."""

    columns: int
    activation: DenseActivation


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes and head of a BERT encoder, or of an MPNet, which is one with a bias on its scores.

    layers, hidden (d), heads, ffn, vocab, positions and types count; eps is the LayerNorm's. types 0: no table of them.
    relative_buckets: rows of the table of biases (mpcnet.models.position_bias); 0: there is none.
    skipped_positions: rows of the position table before that of the first token.
    head "embedding": hidden states, pooled as `pooling` says: one of POOLINGS, or several joined by "+" whose vectors
    are concatenated. The first `pooled_from` tokens, a prompt's, are left out. `dense` maps follow; labels is 0.
    head "classification": BertForSequenceClassification, the pooler reads the first token. multi_label: each logit is a
    label of its own, not one of several to choose from. sigmoid: a cross-encoder's one score is the logit's.
    head "token-classification": logits of every token. head "question-answering": two logits of every token, whether an
    answer to the first text starts and ends there; labels is 0.

    :raises LocalConfigError: a size is out of range, heads do not divide hidden, or the head or activation is unknown.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int = 30522
    positions: int = 512
    types: int = 2
    eps: float = 1e-12  # what BERT was trained with
    head: Head = "embedding"
    labels: int = 0
    pooling: str = "mean"
    relative_buckets: int = 0
    skipped_positions: int = 0
    activation: Activation = "gelu"
    pooled_from: int = 0
    dense: tuple[Dense, ...] = ()
    multi_label: bool = False
    sigmoid: bool = False

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("layers", "hidden", "heads", "ffn", "vocab", "positions"), 1)
        sizes |= dict.fromkeys(("types", "skipped_positions", "pooled_from"), 0)
        wrong = [
            f"{name}: want a whole number of at least {least}, got {getattr(self, name)!r}"
            for name, least in sizes.items()
            if type(getattr(self, name)) is not int or getattr(self, name) < least
        ]
        limits = dict.fromkeys(sizes, MOST) | {"layers": MOST_LAYERS}  # or a typing error costs an hour of planning
        wrong += [
            f"{name}: want at most {limit}, got {getattr(self, name)}"
            for name, limit in limits.items()
            if type(getattr(self, name)) is int and getattr(self, name) > limit
        ]
        if self.relative_buckets not in (0, BUCKETS):
            wrong.append(f"relative_buckets: want 0 or {BUCKETS}, got {self.relative_buckets!r}")
        if not wrong and self.hidden % self.heads:
            wrong.append(f"heads: want a divisor of hidden = {self.hidden}, got {self.heads}")
        if not isinstance(self.eps, float) or not 0 < self.eps < 1:
            wrong.append(f"eps: want a number in (0, 1), got {self.eps!r}")
        if self.activation not in get_args(Activation):
            wrong.append(f"activation: want {' or '.join(get_args(Activation))}, got {self.activation!r}")
        wrong += self._wrong_head()
        if wrong:
            raise LocalConfigError("BERT shape: " + "; ".join(wrong))

    def _wrong_head(self) -> Iterator[str]:
        if not isinstance(self.pooling, str) or type(self.labels) is not int or self.labels > MOST:
            yield f"pooling, labels: want a text and a whole number, got {self.pooling!r} and {self.labels!r}"
            return
        embeds, classifies = self.head == "embedding", self.head == "classification"
        kinds = self.pooling.split("+")
        known = all(kind in POOLINGS for kind in kinds) if embeds else self.pooling == HEAD_POOLINGS.get(self.head)
        if self.head not in get_args(Head) or not known or (self.labels > 0) != (self.head in LABELLED):
            yield (
                "head, pooling, labels: want embedding, pooling kinds, 0 or classification, first, > 0 or "
                "token-classification, none, > 0 or another head, none, 0, "
                f"got {self.head}, {self.pooling}, {self.labels}"
            )
        if not embeds and (self.pooled_from or self.dense):
            yield f"pooled_from, dense: want none of {self.head}, got some"
        if self.multi_label and not classifies:
            yield f"multi_label: want a classifier, got {self.head}"
        if self.sigmoid and (not classifies or self.labels > 1):
            yield f"sigmoid: want a classifier of one label, got {self.head} of {self.labels}"
        for place, dense in enumerate(self.dense, 1):
            if (
                type(dense.columns) is not int
                or not 1 <= dense.columns <= MOST
                or dense.activation not in get_args(DenseActivation)
            ):
                yield f"dense: want columns and {' or '.join(get_args(DenseActivation))}, got {dense}"
            elif dense.activation == "identity" and place < len(self.dense):
                yield "dense: want maps without an activation between them as one, got two"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of pooling whose vectors are concatenated."""
        return tuple(self.pooling.split("+"))

    @property
    def columns(self) -> int:
        """Numbers of an answer, or of each token of one: logits, or an embedding's."""
        if self.head in LABELLED:
            return self.labels
        if self.head == "question-answering":
            return SPAN_COLUMNS
        return self.dense[-1].columns if self.dense else self.hidden * len(self.kinds)

    @property
    def tells_tokens(self) -> bool:
        """Whether an answer has a row for every token."""
        return self.head in TOKEN_LINEARS

    @property
    def chooses(self) -> bool:
        """Whether one of several labels can be asked for."""
        return self.head in LABELLED and self.labels >= 2 and not self.multi_label

    @property
    def head_dim(self) -> int:
        """Columns of one attention head."""
        return self.hidden // self.heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and msgpack."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertShape:
        """The inverse of :meth:`to_dict`.

        :raises LocalConfigError: a field is missing or unknown, or a value is out of range.
        """
        want = {field.name for field in fields(cls)}
        if set(values) != want:
            raise LocalConfigError(
                f"BERT shape: missing fields {sorted(want - set(values))}, unknown {sorted(set(values) - want)}"
            )
        try:
            dense = tuple(Dense(**dense) for dense in values["dense"])
        except TypeError as error:
            raise LocalConfigError(f"BERT shape: dense: want columns and activation, got {values['dense']}") from error
        return cls(**{**values, "dense": dense})


PRESETS: Mapping[str, BertShape] = {
    "bert-base": BertShape(layers=12, hidden=768, heads=12, ffn=3072),
    "bert-large": BertShape(layers=24, hidden=1024, heads=16, ffn=4096),
    "bert-tiny": BertShape(layers=2, hidden=128, heads=2, ffn=512),
    "minilm-l6": BertShape(layers=6, hidden=384, heads=12, ffn=1536),
}


def preset(name: str) -> BertShape:
    """A published shape by name.

    :raises LocalConfigError: no preset has this name.
    """
    if name not in PRESETS:
        raise LocalConfigError(f"BERT shape: want one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
