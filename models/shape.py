"""The shape of a BERT: everything about a model that is public, and nothing that is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from models.relative import BUCKETS
from mpcnet.errors import LocalConfigError

Activation: TypeAlias = Literal["gelu", "quad"]  # of the feed-forward: erf-GeLU, or MPCFormer's Quad
Softmax: TypeAlias = Literal["exact", "2quad", "2relu"]  # the latter two by SecFormer and MPCFormer: no exponentials


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes and head of a BERT encoder, or of an MPNet, which is one with a bias on its scores.

    layers, hidden (d), heads, ffn, vocab, positions and types count; eps is the LayerNorm's. types 0: no table of them.
    relative_buckets: rows of the table of biases (models.relative); 0: there is none.
    skipped_positions: rows of the position table before that of the first token.
    head "embedding": hidden states, pooled by their mean; labels is 0.
    head "classification": BertForSequenceClassification, the pooler reads the first token.

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
    head: str = "embedding"
    labels: int = 0
    pooling: str = "mean"
    relative_buckets: int = 0
    skipped_positions: int = 0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("layers", "hidden", "heads", "ffn", "vocab", "positions"), 1)
        sizes |= dict.fromkeys(("types", "skipped_positions"), 0)
        wrong = [
            f"{name}: want a whole number of at least {least}, got {getattr(self, name)!r}"
            for name, least in sizes.items()
            if type(getattr(self, name)) is not int or getattr(self, name) < least
        ]
        if self.relative_buckets not in (0, BUCKETS):
            wrong.append(f"relative_buckets: want 0 or {BUCKETS}, got {self.relative_buckets!r}")
        if not wrong and self.hidden % self.heads:
            wrong.append(f"heads: want a divisor of hidden = {self.hidden}, got {self.heads}")
        if not isinstance(self.eps, float) or not 0 < self.eps < 1:
            wrong.append(f"eps: want a number in (0, 1), got {self.eps!r}")
        if self.activation not in get_args(Activation):
            wrong.append(f"activation: want {' or '.join(get_args(Activation))}, got {self.activation!r}")
        kind = (self.head, self.pooling, self.labels > 0)
        if kind not in {("embedding", "mean", False), ("classification", "first", True)}:
            wrong.append(
                "head, pooling, labels: want embedding, mean, 0 or classification, first, > 0, "
                f"got {self.head}, {self.pooling}, {self.labels}"
            )
        if wrong:
            raise LocalConfigError("BERT shape: " + "; ".join(wrong))

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
        return cls(**values)


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
