"""Where a private model's error comes from, layer by layer.

The fixed-point oracle runs the private program (mpcnet.models.private.oracle_trace) twice. As it is, it shows the error
that has added up behind each layer. With the input of every operation replaced by the float model's value on the same
grid, it shows what each operation does wrong by itself, the rounding of its result included. Those own errors are then
added to the float model's values, one operation at a time, which shows what each does to its layer's normalised result,
and to the answer.

The oracle rounds to nearest. Servers round at random, by up to one unit instead of half of one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import Folded
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import Model
from mpcnet.models.float_model import reference
from mpcnet.models.float_model.watch import Observe, valid_pairs
from mpcnet.models.private.oracle_trace import Place, normal_values, numerators, places
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.softmax import RELU_EPS
from mpcnet.rounds import Part

EMBEDDING: Mapping[str, str] = {"table": "centred", "norm": "normal"}  # operations and the sites of their results
LAYER: Mapping[str, str] = {
    "qkv": "qkv",
    "scores": "scores",
    "softmax": "weights",
    "context": "context",
    "out": "out.centred",
    "out norm": "out.normal",
    "up": "up",
    "activation": "activation",
    "down": "down.centred",
    "down norm": "normal",
}
Values = dict[str, Tensor]  # by site, valid tokens only


@dataclass(frozen=True, slots=True)
class Size:
    """Largest and mean absolute error."""

    largest: float
    mean: float

    @staticmethod
    def of(error: Tensor) -> Size:
        return Size(float(error.abs().max()), float(error.abs().mean()))


@dataclass(frozen=True, slots=True)
class Block:
    """The embedding, or a layer: the error of its normalised result, and what each operation adds to it.

    `value` is what the float model has where that error is largest. `own` are the operations' own errors at their
    results, in those results' units (of softmax: probabilities, or 2ReLU's numerators).
    """

    name: str
    total: Size
    value: float
    added: Mapping[str, Size]
    own: Mapping[str, Size]

    @property
    def source(self) -> str:
        """The operation that adds the largest error."""
        return max(self.added, key=lambda operation: self.added[operation].largest)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an error does to the answers: the largest difference, and the least cosine."""

    largest: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Report:
    """Errors by block; and the answers' errors, of the whole program and by operation, over all layers."""

    tokens: int
    blocks: tuple[Block, ...]
    total: Answer
    answers: Mapping[str, Answer]

    def to_dict(self) -> dict[str, Any]:
        blocks = [asdict(block) | {"source": block.source} for block in self.blocks]
        return asdict(self) | {"blocks": blocks}


def measure(model: Model, folded: Folded, tokens: Tokens) -> Report:
    """Compare the oracle's `model` (`oracle_trace.load_plain`) with the float model on some tokens.

    :raises LocalConfigError: its layers hold more than a BERT's.
    """
    config = model.config
    if config.shape.norm == "before" or config.shape.gated or config.shape.rotary:
        raise LocalConfigError(
            "errors by layer: want layers as BERT has them, got others; compare whole answers: mpcnet simulate"
        )
    floats = _Floats(config, folded, tokens)
    exact: Values = {}
    answer = floats.run(exact.__setitem__)
    last = f"layer{config.shape.layers - 1}.normal"
    total, private = _added_up(model, folded, tokens, exact)
    own = _own_errors(model, folded, tokens, floats)
    added = {site: _added(floats, exact, site, own) for site in {*EMBEDDING.values(), *LAYER.values()}}
    operations = {"embedding": EMBEDDING} | {f"layer{i}": LAYER for i in range(config.shape.layers)}
    blocks = [_block(name, sites, total, exact, added, own) for name, sites in operations.items()]
    whole = floats.run(lambda site, value: private if site == last else None)
    answers = {
        operation: _answer(floats.run(_adding(floats, own, names)), answer)
        for operation, names in _operations(config).items()
    }
    return Report(int(tokens.mask.sum()), tuple(blocks), _answer(whole, answer), answers)


@dataclass(frozen=True, slots=True, eq=False)
class _Floats:
    """The float model on some tokens."""

    config: Config
    folded: Folded
    tokens: Tokens

    @property
    def mask(self) -> Tensor:
        return self.tokens.mask.bool()

    def run(self, observe: Observe) -> Tensor:
        """The answers, [batch, columns]."""
        shape, tokens = self.config.shape, self.tokens
        return reference.answer(
            shape, self.folded, tokens.ids, tokens.types, tokens.mask, self.config.formats.softmax, observe=observe
        )

    def square(self, pairs: Tensor) -> Tensor:
        """Valid pairs [pair, head] to [batch, head, query, key], zero elsewhere."""
        batch, length = self.tokens.mask.shape
        full = pairs.new_zeros(batch, length, length, self.config.shape.heads)
        full[valid_pairs(self.mask)] = pairs
        return full.permute(0, 3, 1, 2)

    def probabilities(self, weights: Tensor) -> Tensor:
        """Weights of valid pairs divided by their row's sum, and 2ReLU's by a little more."""
        full, eps = self.square(weights), RELU_EPS if self.config.formats.softmax == "2relu" else 0.0
        return (full / (full.sum(-1, keepdim=True) + eps)).permute(0, 2, 3, 1)[valid_pairs(self.mask)]

    def stated(self, weights: Tensor) -> Tensor:
        """What errors of weights refer to: probabilities; under 2ReLU, where a row may sum to 0, the weights."""
        return weights if self.config.formats.softmax == "2relu" else self.probabilities(weights)

    def context(self, weights: Tensor, qkv: Tensor) -> Tensor:
        """Valid tokens' contexts from weights and from qkv's values."""
        (batch, length), shape = self.tokens.mask.shape, self.config.shape
        value = qkv.new_zeros(batch, length, shape.hidden)
        value[self.mask] = qkv[:, 2 * shape.hidden :]
        heads = value.reshape(batch, length, shape.heads, shape.head_dim).transpose(1, 2)
        context: Tensor = self.square(self.probabilities(weights)) @ heads
        return context.transpose(1, 2).flatten(2)[self.mask]


def _operations(config: Config) -> dict[str, set[str]]:
    """The sites of each operation's results, in all layers."""
    layers = range(config.shape.layers)
    found = {f"embedding {name}": {f"embedding.{site}"} for name, site in EMBEDDING.items()}
    return found | {name: {f"layer{i}.{site}" for i in layers} for name, site in LAYER.items()}


def _added_up(model: Model, folded: Folded, tokens: Tokens, exact: Values) -> tuple[Values, Tensor]:
    """The program as it is: errors of the blocks' results, and the last layer's values."""
    find = {place.key: place for place in places(model.config, tokens.ids.shape[1])}
    mask = tokens.mask.bool()
    errors: Values = {}

    def look(part: Part, count: int, word: Tensor) -> Tensor:
        place = find.get((part.label, part.bits, count))
        if place is not None and place.site.endswith("normal"):
            errors[place.site] = place.read(word, mask) - exact[place.site]
        return word

    normal = normal_values(model, folded, tokens, look)[mask]
    last = f"layer{model.config.shape.layers - 1}.normal"
    return errors | {last: normal - exact[last]}, normal


def _own_errors(model: Model, folded: Folded, tokens: Tokens, floats: _Floats) -> Values:
    """Each operation's error at its result, where its inputs are the float model's values on their grids."""
    config, mask, length = model.config, tokens.mask.bool(), tokens.ids.shape[1]
    find = {place.key: place for place in places(config, length)}
    want, given = _on_grids(floats, list(find.values()))
    layers = [f"layer{i}" for i in range(config.shape.layers)]
    weights = {place.key: place for place in (numerators(config, i, length) for i in range(config.shape.layers))}
    own: Values = {site: torch.zeros_like(value) for site, value in (want | given).items()}

    def look(part: Part, count: int, word: Tensor) -> Tensor:
        key = (part.label, part.bits, count)
        if (shown := weights.pop(key, None)) is not None:
            own[shown.site] = shown.read(word, mask)
        if (place := find.pop(key, None)) is None:
            return word
        site, columns = place.site, place.columns
        value, exact = place.read(word, mask), want[site][..., columns]
        own[site][..., columns] = value - exact
        return place.write(word, mask, given[site][..., columns])

    last = f"{layers[-1]}.normal"
    own[last] = normal_values(model, folded, tokens, look)[mask] - want[last]
    if missed := [place.site for place in (*find.values(), *weights.values())]:
        raise ValueError(f"the program did not open {', '.join(missed)}")
    for layer in layers:
        used = own[f"{layer}.weights"]
        own[f"{layer}.context"] += want[f"{layer}.context"] - floats.context(used, given[f"{layer}.qkv"])
        own[f"{layer}.weights"] = floats.stated(used) - floats.stated(want[f"{layer}.weights"])
    return own


def _on_grids(floats: _Floats, found: list[Place]) -> tuple[Values, Values]:
    """The float model where each opened value is rounded to its grid: results before rounding, and after."""
    want: Values = {}
    given: Values = {}
    at: dict[str, list[Place]] = defaultdict(list)
    for place in found:
        at[place.site].append(place)

    def observe(site: str, value: Tensor) -> Tensor | None:
        want[site] = value
        if site not in at:
            return None
        given[site] = value.clone()
        for place in at[site]:
            scale = 2.0**place.frac
            given[site][..., place.columns] = torch.round(value[..., place.columns] * scale) / scale
        return given[site]

    floats.run(observe)
    return want, given


def _adding(floats: _Floats, own: Values, sites: set[str]) -> Observe:
    """An observer that adds own errors at some sites."""

    def observe(site: str, value: Tensor) -> Tensor | None:
        if site not in sites:
            return None
        return (floats.stated(value) if site.endswith("weights") else value) + own[site]

    return observe


def _added(floats: _Floats, exact: Values, suffix: str, own: Values) -> Values:
    """By block: what the errors at one site of each block do to the block's result, all inputs being exact."""
    add = _adding(floats, own, {site for site in own if site.partition(".")[2] == suffix})
    changes: Values = {}

    def observe(site: str, value: Tensor) -> Tensor | None:
        changed = add(site, value)
        block, _, rest = site.partition(".")
        if rest != "normal":
            return changed
        changes[block] = (value if changed is None else changed) - exact[site]
        return exact[site]

    floats.run(observe)
    return changes


def _block(
    name: str, operations: Mapping[str, str], total: Values, exact: Values, added: Mapping[str, Values], own: Values
) -> Block:
    error, normal = total[f"{name}.normal"], exact[f"{name}.normal"]
    return Block(
        name,
        Size.of(error),
        float(normal.flatten()[error.abs().argmax()]),
        {operation: Size.of(added[site][name]) for operation, site in operations.items()},
        {operation: Size.of(own[f"{name}.{site}"]) for operation, site in operations.items()},
    )


def _answer(changed: Tensor, exact: Tensor) -> Answer:
    cosines = torch.cosine_similarity(changed, exact, dim=1)
    return Answer(float((changed - exact).abs().max()), float(cosines.min()))
