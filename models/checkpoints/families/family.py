"""What a family of encoders is: its configuration as the description, and its parameters' names as ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.head_shape import Head
from mpcnet.models.shape import Activation

IMAGES = "ForImageClassification"
HEADS_BY_ARCHITECTURE: Mapping[str, Head] = {  # by how an architecture's name ends
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    IMAGES: "classification",
}
HEADS: Mapping[str, str] = {"classifier": "classifier", "qa_outputs": "span"}  # single maps, of most families
PREDICTIONS: Mapping[str, str] = {  # of masked tokens, as BERT has them
    "cls.predictions.transform.dense": "transform",
    "cls.predictions.transform.LayerNorm": "transform.norm",
    "cls.predictions.transform.layer_norm": "transform.norm",
    "cls.predictions.decoder": "decoder",
    "cls.predictions": "decoder",  # its bias alone
}
LM_HEAD: Mapping[str, str] = {  # the same, as RoBERTa and MPNet have them
    "lm_head.dense": "transform",
    "lm_head.layer_norm": "transform.norm",
    "lm_head.decoder": "decoder",
    "lm_head": "decoder",
}
OWN_MAP: Mapping[str, str] = {  # of texts, by a classifier with a map of its own: there is no pooler below it
    **HEADS,
    "classifier.dense": "pooler",
    "classifier.out_proj": "classifier",
}
LONGEST = 2048  # positions of a family without a table of them: as long as the longest calibrated row

ACTIVATIONS: Mapping[str, Activation] = {  # by transformers' names; those that are not here are other functions
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "tanh": "tanh",
    "quad": "quad",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """The accepted values of a key of config.json, the first of an absent one, and what to do about others.

    named: how an error names them, "" for each by itself.
    """

    accepted: tuple[Any, ...]
    instead: str
    named: str = ""

    def wrong(self, key: str, config: Mapping[str, Any]) -> str:
        """What is wrong with a configuration; "" if nothing."""
        value = config.get(key, self.accepted[0])
        if value in self.accepted:
            return ""
        wanted = self.named or " or ".join(
            str(x).lower() if isinstance(x, bool) else str(x) for x in self.accepted if x is not None
        )
        return f"{key}: want {wanted or 'none'}, got {value}; {self.instead}"


NOTHING = re.compile(r"(?!)")
FUNCTION = Setting(
    tuple(ACTIVATIONS), "make a student: mpcnet distill", "gelu, gelu_new, gelu_pytorch_tanh, silu, relu, tanh or quad"
)


@dataclass(frozen=True, slots=True)
class Family:
    """How transformers saves the encoders of a family, and heads on top of one.

    architectures: the encoder's class, those with heads, and others of which the encoder is taken.
    prefix: stands before the encoder's names below a head.
    layer: what stands before the names inside a layer, whose number is its group.
    outside, inside: their modules' names and ours, outside the layers and inside one.
    behind: likewise those inside a layer that ours has behind the layer before: a LayerNorm before a layer.
    first: those of the first layer that ours has outside of it.
    table: our name of a parameter that every checkpoint has, by which a wrapper's prefix is told.
    resized: of images, the table of positions for another number of patches to a side; None: there is no other.
    rewritten: tensors as files have them, by the encoder's own names, to tensors of modules with a weight and a bias.
    describe: from config.json's values, absent ones filled in, to the description without its head; "classifies" is a
    classifier's pooling, where that is not the first token's.
    heads: further names outside the layers, by config.json: where a head's depend on it.
    masks: the activation before a mask is filled, of the description: the layers' own, if nothing else is said.
    settings: what config.json may say, beyond what holds for all families.
    checks: settings that hold for all other families, and that `describe` looks at here.
    joined: modules that hold several of these one above the other, by the ends of their names.
    by_head: these are one above the other within each head.
    alone: ends of parameters' names that are no module's, and as they would be.
    lacks: our names of parameters that it has not, which are 0: biases.
    """

    architectures: tuple[str, ...]
    prefix: str
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    describe: Callable[[Mapping[str, Any]], dict[str, Any]]
    layer: str = r"encoder\.layer\.(\d+)\."
    behind: Mapping[str, str] = field(default_factory=dict)
    heads: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda config: {}
    masks: Callable[[Mapping[str, Any]], str] = lambda described: str(described["activation"])
    settings: Mapping[str, Setting] = field(default_factory=lambda: {"hidden_act": FUNCTION})
    checks: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_head: bool = False
    alone: Mapping[str, str] = field(default_factory=dict)
    lacks: Callable[[Mapping[str, Any]], re.Pattern[str]] = lambda config: NOTHING
    first: Mapping[str, str] = field(default_factory=dict)
    table: str = "embedding.word"
    rewritten: Callable[[Mapping[str, Stored]], dict[str, Stored]] = dict
    resized: Callable[[Tensor, int], Tensor] | None = None

    @property
    def words(self) -> str:
        """Their name of a table that every checkpoint has, the vocabulary's."""
        return next(theirs for theirs, ours in self.outside.items() if ours == self.table) + ".weight"

    def configured(self, config: Mapping[str, Any]) -> Family:
        """With the names that the head of a configuration has."""
        return replace(self, outside={**self.outside, **self.heads(config)})

    def module(self, theirs: str) -> str | None:
        """Our name of a module, without the prefix; None if the family has no such one."""
        layer = re.match(self.layer, theirs)
        if layer is None:
            return self.outside.get(theirs)
        number, name = int(layer[1]), theirs[layer.end() :]
        if (behind := self.behind.get(name)) is not None and number:
            return f"layer{number - 1}.{behind}"
        if not number and name in self.first:
            return self.first[name]
        inner = self.inside.get(name)
        return None if inner is None else f"layer{number}.{inner}"


def architectures(name: str) -> tuple[str, ...]:
    """A family's class and those of its heads for texts, by the name that all begin with."""
    return (f"{name}Model", *(f"{name}{head}" for head in HEADS_BY_ARCHITECTURE if head != IMAGES))


def by_gelu(described: Mapping[str, Any]) -> str:
    """What fills masks behind GeLU, whatever the layers have."""
    return "gelu"


def rope_base(parameters: Any) -> float:
    """The base of RoPE, where nothing but a base is asked for.

    :raises LocalConfigError: its angles grow otherwise.
    """
    more = {name: value for name, value in parameters.items() if name not in ("rope_theta", "rope_type")}
    if parameters.get("rope_type", "default") != "default" or any(value is not None for value in more.values()):
        raise LocalConfigError(
            f"rope_parameters: want rope_type default and rope_theta alone, got {parameters}; take a model without "
            "scaled positions"
        )
    return float(parameters["rope_theta"])


def sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """What most families call the same: a BERT's description but for its types and positions."""
    return {
        "layers": values["num_hidden_layers"],
        "hidden": values["hidden_size"],
        "heads": values["num_attention_heads"],
        "ffn": values["intermediate_size"],
        "vocab": values["vocab_size"],
        "eps": float(values["layer_norm_eps"]),
        "activation": ACTIVATIONS.get(values["hidden_act"], "gelu"),  # another is refused by its name
    }


def gated_rotary(values: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a BERT with rotary positions in all layers and a gated feed-forward part."""
    return sizes(values) | {
        "positions": min(values["max_position_embeddings"], LONGEST),
        "types": values["type_vocab_size"],
        "gated": True,
        "rotary": (rope_base(values["rope_parameters"]),) * values["num_hidden_layers"],
    }
