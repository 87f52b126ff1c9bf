"""The description of a transformer encoder: everything about a model that is public, and nothing that is learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from mpcnet.errors import LocalConfigError
from mpcnet.models.head_shape import (
    LABELLED,
    SPAN_COLUMNS,
    TOKEN_LINEARS,
    Dense,
    Head,
    HeadActivation,
    wrong_maps,
    wrong_pooling,
)
from mpcnet.models.image_shape import Image, image_of
from mpcnet.models.position_bias import BUCKETS
from mpcnet.models.size_limits import (
    MOST,
    MOST_BASE,
    MOST_DISTANCES,
    MOST_FARTHEST,
    MOST_LAYERS,
    MOST_PLACES,
    wrong_sizes,
)

# Of the feed-forward: erf-GeLU, GeLU by tanh, ..., or MPCFormer's Quad.
Activation: TypeAlias = Literal["gelu", "gelu_tanh", "silu", "relu", "tanh", "quad"]
Norm: TypeAlias = Literal["after", "before"]
Softmax: TypeAlias = Literal["exact", "2quad", "2relu"]  # the latter two by SecFormer and MPCFormer: no exponentials


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes and head of an encoder: a BERT, or what differs from one as its further fields say.

    layers, hidden (d), heads, ffn, vocab, positions and types count; eps is the LayerNorm's. types 0: no table of them.
    embedding_width: columns of the embeddings, which a linear map behind their LayerNorm brings to d (ELECTRA, ALBERT);
    0: there is no map, and they have d.
    shared: which weights each layer has, counted from 0 as they come (ALBERT); (): each layer has its own.
    relative_buckets: rows of the table of biases (mpcnet.models.position_bias); 0: there is none.
    skipped_positions: rows of the position table before that of the first token.
    norm: "after" each half of a layer and its residual, or "before" each half, and once more behind the last layer.
    gated: the activation of one half of the feed-forward's columns multiplies the other half.
    rotary: RoPE's base by layer, in the place of a table of positions; (): none.
    distances: rows to either side of a table of distances, whose products are part of scores (DeBERTa), in the place of
    a table of positions; from half of them on rows are shared, up to distance `farthest`. 0: none.
    farthest 0 beside distances: each has its row, and layers have maps of their own for these (DeBERTa v1).
    alibi: scores fall by a public slope of each head times the distance of two tokens, in the place of a table of
    positions (mpcnet.models.position_bias).
    windows: how far from a token it attends, by layer, 0 for all tokens; (): all layers attend to all.
    head "embedding": hidden states, pooled as `pooling` says: one of POOLINGS, or several joined by "+" whose vectors
    are concatenated. The first `pooled_from` tokens, a prompt's, are left out. `dense` maps follow; labels is 0.
    head "classification": two linear maps of the first token with `head_activation` between them. multi_label: each
    logit is a label of its own, not one of several to choose from. sigmoid: a cross-encoder's one score is the logit's.
    pooling "mean": of the mean of all tokens (ModernBERT, if it says so), not of the "first".
    head_norm: a LayerNorm stands between the activation and the second map (ModernBERT).
    head "token-classification": logits of every token. head "question-answering": two logits of every token, whether an
    answer to the first text starts and ends there; labels is 0. head_norm: both behind a map of each token,
    `head_activation` and a LayerNorm (ModernBERT), else one map alone.
    head "fill-mask": a logit of every word, at the places that a client names in secret, by a map to the embeddings'
    width, `head_activation`, a LayerNorm, and the decoder; labels is 0.
    image: the model takes images, whose patches are its rows, behind a class token and registers; there is no
    vocabulary (0), no padding, and all images have all positions. Its first residual is what stands before a LayerNorm.
    A classifier of images is one linear map of what `pooling` says, one of IMAGE_POOLINGS.

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
    embedding_width: int = 0
    shared: tuple[int, ...] = ()
    head_activation: HeadActivation = "tanh"
    head_norm: bool = False
    norm: Norm = "after"
    gated: bool = False
    rotary: tuple[float, ...] = ()
    windows: tuple[int, ...] = ()
    distances: int = 0
    farthest: int = 0
    alibi: bool = False
    image: Image | None = None

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("layers", "hidden", "heads", "ffn", "vocab", "positions"), 1)
        sizes |= {} if self.image is None else {"vocab": 0}
        sizes |= dict.fromkeys(
            ("types", "skipped_positions", "pooled_from", "embedding_width", "distances", "farthest"), 0
        )
        limits = dict.fromkeys(sizes, MOST) | {"layers": MOST_LAYERS}
        wrong = list(wrong_sizes({name: getattr(self, name) for name in sizes}, sizes, limits))
        if self.relative_buckets not in (0, BUCKETS):
            wrong.append(f"relative_buckets: want 0 or {BUCKETS}, got {self.relative_buckets!r}")
        if not wrong and self.hidden % self.heads:
            wrong.append(f"heads: want a divisor of hidden = {self.hidden}, got {self.heads}")
        if not isinstance(self.eps, float) or not 0 < self.eps < 1:
            wrong.append(f"eps: want a number in (0, 1), got {self.eps!r}")
        for name, kinds in (("activation", Activation), ("head_activation", HeadActivation), ("norm", Norm)):
            if getattr(self, name) not in get_args(kinds):
                wrong.append(f"{name}: want {' or '.join(get_args(kinds))}, got {getattr(self, name)!r}")
        wrong += [
            f"{name}: want a list, got {given!r}"
            for name, given in (("shared", self.shared), ("rotary", self.rotary), ("windows", self.windows))
            if type(given) is not tuple
        ]
        if not wrong:
            wrong += self._wrong_layers()
        wrong += self._wrong_head()
        if wrong:
            raise LocalConfigError("BERT shape: " + "; ".join(wrong))

    def _wrong_layers(self) -> Iterator[str]:
        """What is said by layer, and what does not go together."""
        if self.shared and not self._shares():
            yield f"shared: want the weights of {self.layers} layers, counted as they come, got {self.shared}"
        for name, kind, least, most in (("rotary", float, 1.0, MOST_BASE), ("windows", int, 0, MOST)):
            values = getattr(self, name)
            if values and (
                len(values) != self.layers or any(type(x) is not kind or not least <= x <= most for x in values)
            ):
                yield f"{name}: want {self.layers} numbers from {least} to {most}, got {values}"
        if self.rotary and self.positions > MOST_PLACES:
            yield f"rotary: want at most {MOST_PLACES} positions, got {self.positions}"
        if self.rotary and (self.head_dim % 2 or self.relative_buckets or self.skipped_positions):
            yield "rotary: want an even width of heads and no other positions, got both"
        if self.distances and (self.rotary or self.relative_buckets or self.skipped_positions or self.shared):
            yield "distances: want no other positions, and no shared layers, got both"
        if type(self.alibi) is not bool or (self.alibi and (self.rotary or self.distances or self.relative_buckets)):
            yield f"alibi: want true, beside no other positions, or false, got {self.alibi!r}"
        if any(self.windows) and (self.alibi or self.distances or self.relative_buckets):
            yield "windows: want none beside biases or tables of distances, got both"
        known = self.own_distances or (
            2 <= self.distances // 2 < self.farthest - 1 and self.positions <= self.farthest <= MOST_FARTHEST
        )
        if self.distances and not (known and self.distances <= MOST_DISTANCES):
            yield (
                f"distances, farthest: want 4 to {MOST_DISTANCES}, and from all positions, and more than half of the "
                f"distances, to {MOST_FARTHEST}, got {self.distances}, {self.farthest}"
            )
        if type(self.gated) is not bool or (self.gated and self.activation == "quad"):
            yield f"gated: want true, or false for quad, got {self.gated!r}"
        if self.norm == "before" and (self.shared or self.embedding_width):
            yield "norm before: want layers with weights of their own, and embeddings of their width"
        if self.image is not None:
            yield from self._wrong_image(self.image)

    def _wrong_image(self, image: Image) -> Iterator[str]:
        """What a model of images has of one of texts."""
        of_texts = (self.vocab, self.types, self.skipped_positions, self.relative_buckets, self.distances)
        if any(of_texts) or self.rotary or any(self.windows) or self.norm != "before":
            yield "image: want LayerNorms before, a table of positions and nothing of texts, got a description of texts"
        if self.positions != image.rows:
            yield f"positions: want {image.rows}, one for each row of an image, got {self.positions}"
        if self.head not in ("embedding", "classification"):
            yield f"head: want an embedding or a classifier of images, got {self.head}"

    def _shares(self) -> bool:
        """Each layer has weights that came before, or the next."""
        return len(self.shared) == self.layers and all(
            type(number) is int and 0 <= number <= len(set(self.shared[:i])) for i, number in enumerate(self.shared)
        )

    def _wrong_head(self) -> Iterator[str]:
        if not isinstance(self.pooling, str) or type(self.labels) is not int or self.labels > MOST:
            yield f"pooling, labels: want a text and a whole number, got {self.pooling!r} and {self.labels!r}"
            return
        yield from wrong_pooling(self.head, self.labels, self.pooling, self.image is not None)
        embeds, classifies = self.head == "embedding", self.head == "classification"
        if not embeds and (self.pooled_from or self.dense):
            yield f"pooled_from, dense: want none of {self.head}, got some"
        if self.multi_label and not classifies:
            yield f"multi_label: want a classifier, got {self.head}"
        heads = (classifies and self.image is None) or self.tells_tokens
        if type(self.head_norm) is not bool or (self.head_norm and not heads):
            yield f"head_norm: want true, of a classifier, or false, got {self.head_norm!r} of {self.head}"
        if self.sigmoid and (not classifies or self.labels > 1):
            yield f"sigmoid: want a classifier of one label, got {self.head} of {self.labels}"
        yield from wrong_maps(self.dense)

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
        if self.head == "fill-mask":
            return self.vocab
        return self.dense[-1].columns if self.dense else self.hidden * len(self.kinds)

    @property
    def tells_tokens(self) -> bool:
        """Whether an answer has a row for every token."""
        return self.head in TOKEN_LINEARS and not self.fills

    @property
    def fills(self) -> bool:
        """Whether an answer has a row for every place that a client names."""
        return self.head == "fill-mask"

    @property
    def transforms(self) -> bool:
        """Whether a map, an activation and a LayerNorm of tokens stand before the last map."""
        return self.fills or (self.tells_tokens and self.head_norm)

    @property
    def decoded(self) -> int:
        """Columns of what the last map of tokens takes."""
        return self.embedded if self.transforms else self.hidden

    @property
    def chooses(self) -> bool:
        """Whether one of several labels can be asked for."""
        return self.head in LABELLED and self.labels >= 2 and not self.multi_label

    @property
    def inner(self) -> int:
        """Columns of the feed-forward part's first map."""
        return 2 * self.ffn if self.gated else self.ffn

    @property
    def own_distances(self) -> bool:
        """Whether each distance has a row, and each layer maps of them."""
        return self.distances > 0 and not self.farthest

    @property
    def placed(self) -> bool:
        """Whether there is a table of positions."""
        return not (self.rotary or self.distances or self.alibi)

    @property
    def pooler(self) -> bool:
        """Whether a map and an activation stand before a classifier's last map."""
        return self.head == "classification" and self.image is None

    def window(self, layer: int) -> int:
        """How far from a token it attends in a layer; 0: everywhere."""
        return self.windows[layer] if self.windows else 0

    @property
    def embedded(self) -> int:
        """Columns of an embedding."""
        return self.embedding_width or self.hidden

    def columns_at(self, site: str) -> int:
        """Columns of the LayerNorm at a site."""
        return self.embedded if site.startswith(("embedding", "transform")) else self.hidden

    def weights_of(self, layer: int) -> int:
        """The number of a layer's weights."""
        return self.shared[layer] if self.shared else layer

    def attention_of(self, layer: int) -> int:
        """The first layer with this one's attention, in whose weights the LayerNorm before it is folded."""
        before, own = self._before(layer), self.weights_of(layer)
        return next(i for i in range(layer + 1) if (self._before(i), self.weights_of(i)) == (before, own))

    def feed_forward_of(self, layer: int) -> int:
        """The first layer with this one's feed-forward part."""
        return next(i for i in range(layer + 1) if self.weights_of(i) == self.weights_of(layer))

    def _before(self, layer: int) -> int:
        return self.weights_of(layer - 1) if layer else -1

    @property
    def head_dim(self) -> int:
        """Columns of one attention head."""
        return self.hidden // self.heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and msgpack; of a model of texts without `image`."""
        values = asdict(self)
        return values if self.image is not None else {name: x for name, x in values.items() if name != "image"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertShape:
        """The inverse of :meth:`to_dict`.

        :raises LocalConfigError: a field is missing or unknown, or a value is out of range.
        """
        want = {field.name for field in fields(cls)}
        if "image" not in values:
            want.remove("image")
        if set(values) != want:
            raise LocalConfigError(
                f"BERT shape: missing fields {sorted(want - set(values))}, unknown {sorted(set(values) - want)}"
            )
        try:
            dense = tuple(Dense(**dense) for dense in values["dense"])
        except TypeError as error:
            raise LocalConfigError(f"BERT shape: dense: want columns and activation, got {values['dense']}") from error
        image = image_of(values["image"]) if "image" in values else None
        lists = {name: values[name] for name in ("shared", "rotary", "windows")}
        made = {name: tuple(found) if isinstance(found, list) else found for name, found in lists.items()}
        return cls(**{**values, "dense": dense, **made, "image": image})
