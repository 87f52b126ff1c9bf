"""What a family of encoders is: its configuration as the description, and its parameters' names as ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpcnet.models.shape import Activation

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


FUNCTION = Setting(
    tuple(ACTIVATIONS), "make a student: mpcnet distill", "gelu, gelu_new, gelu_pytorch_tanh, silu, relu, tanh or quad"
)


@dataclass(frozen=True, slots=True)
class Family:
    """How transformers saves the encoders of a family, and a classifier on top of one.

    architectures: the encoder's class, the classifier's, and others of which the encoder is taken.
    prefix: stands before the encoder's names below a head.
    layer: what stands before the names inside a layer, whose number is its group.
    outside, inside: their modules' names and ours, outside the layers and inside one.
    describe: from config.json's values, absent ones filled in, to the description without its head.
    settings: what config.json may say, beyond what holds for all families.
    """

    architectures: tuple[str, ...]
    prefix: str
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    describe: Callable[[Mapping[str, Any]], dict[str, Any]]
    layer: str = r"encoder\.layer\.(\d+)\."
    settings: Mapping[str, Setting] = field(default_factory=lambda: {"hidden_act": FUNCTION})

    @property
    def words(self) -> str:
        """Their name of the vocabulary's table, which every checkpoint has."""
        return next(theirs for theirs, ours in self.outside.items() if ours == "embedding.word") + ".weight"

    def module(self, theirs: str) -> str | None:
        """Our name of a module, without the prefix; None if the family has no such one."""
        layer = re.match(self.layer, theirs)
        if layer is None:
            return self.outside.get(theirs)
        inner = self.inside.get(theirs[layer.end() :])
        return None if inner is None else f"layer{layer[1]}.{inner}"


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
