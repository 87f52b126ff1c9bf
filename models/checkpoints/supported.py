"""What a checkpoint may not ask for, because the private model does not compute it; all of it is named at once.

Each refusal says what was wanted, what was found, and what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.shape import Head

HEADS_BY_ARCHITECTURE: Mapping[str, Head] = {  # by how an architecture's name ends
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {  # by model_type
    "bert": ("BertModel", *(f"Bert{name}" for name in HEADS_BY_ARCHITECTURE)),
    # without the head of the last
    "mpnet": ("MPNetModel", *(f"MPNet{name}" for name in HEADS_BY_ARCHITECTURE), "MPNetForMaskedLM"),
}
KINDS_OF_HEADS = "texts, tokens or questions"
HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.")  # what an encoder's checkpoint may bring beside it
ALONE = "save the encoder alone: AutoModel.from_pretrained(DIR).save_pretrained(OUT)"
FAMILY = "take a BERT or an MPNet, or distil one from it"


@dataclass(frozen=True, slots=True)
class Setting:
    """The accepted values of a key of config.json, the first of an absent one, and what to do about others."""

    accepted: tuple[Any, ...]
    instead: str

    def wrong(self, key: str, config: Mapping[str, Any]) -> str:
        """What is wrong with a configuration; "" if nothing."""
        value = config.get(key, self.accepted[0])
        if value in self.accepted:
            return ""
        wanted = " or ".join(str(x).lower() if isinstance(x, bool) else str(x) for x in self.accepted if x is not None)
        return f"{key}: want {wanted or 'none'}, got {value}; {self.instead}"


SETTINGS: Mapping[str, Setting] = {
    # gelu and gelu_python are the erf form; "gelu_new" and "gelu_pytorch_tanh" are other functions
    "hidden_act": Setting(("gelu", "quad", "gelu_python"), "train it with gelu, or make a student: mpcnet distill"),
    "softmax": Setting((None, "exact", "2quad", "2relu"), "train it with one of these"),
    # transformers 5 ignores it, and would silently compute another model
    "position_embedding_type": Setting(("absolute",), "train it with absolute positions"),
    # transformers' MPNet uses 32, whatever is written here
    "relative_attention_num_buckets": Setting((None, 32), "correct config.json"),
    "is_decoder": Setting((False,), "set it to false if the model was trained to read texts whole"),
    "add_cross_attention": Setting((False,), "take a model that reads one text"),
    "is_encoder_decoder": Setting((False,), "take an encoder"),
    "problem_type": Setting(
        (None, "single_label_classification", "multi_label_classification", "regression"), "correct config.json"
    ),
    "quantization_config": Setting((None,), "load it in transformers, dequantize() it, and save it"),
    "auto_map": Setting((None,), "take a model of transformers' own code"),  # it brings code of its own
    "pruned_heads": Setting((None, {}), "take the model of before its pruning"),
}
FLOATS = ("F64", "F32", "F16", "BF16")
LISTED = 4  # names an error shows of each kind; a wrong architecture has hundreds


def unsupported_family(config: Mapping[str, Any]) -> str:
    """Another family of models, of which nothing else needs to be said; "" for ours."""
    kind = config.get("model_type")
    if kind is None:
        return 'model_type: want bert or mpnet, got none; if it is a BERT, add "model_type": "bert" to config.json'
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        return f"model_type: want {' or '.join(ARCHITECTURES)}, got {kind}; {FAMILY}"
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return f"architectures: want a list of names, got {str(names)[:80]}; save the model again"
    return ""


def head_of(config: Mapping[str, Any]) -> Head:
    """The head that an architecture's name stands for."""
    for name in config.get("architectures") or []:
        for end, head in HEADS_BY_ARCHITECTURE.items():
            if name.endswith(end):
                return head
    return "embedding"


def unsupported_head(config: Mapping[str, Any], classifier: bool) -> str:
    """Another head than ours; "" for none. `classifier`: there are weights of one.

    An old configuration without architectures may mean one for tokens by it, or one for texts.
    """
    architectures = list(config.get("architectures") or [])
    accepted = ARCHITECTURES[config["model_type"]]
    if len(architectures) > 1 or not set(architectures) <= set(accepted):
        want = f"{accepted[0]} or its head for {KINDS_OF_HEADS}"
        return f"architectures: want {want}, got {', '.join(architectures)}; {ALONE}"
    if not architectures and classifier:
        return (
            f"architectures: want {' or '.join(accepted[:2])}, got none beside a classifier's weights; "
            f'if it is one for whole texts, add "architectures": ["{accepted[1]}"] to config.json'
        )
    return ""


def unsupported_settings(config: Mapping[str, Any], adapter: bool) -> list[str]:
    """What config.json and a PEFT adapter beside it ask for in vain."""
    wrong = [text for key, setting in SETTINGS.items() if (text := setting.wrong(key, config))]
    if adapter:
        wrong.append(
            "adapters: want them merged into the weights, got adapter_config.json; PEFT's merge_and_unload() does that"
        )
    return wrong


def unsupported_parameters(
    header: Mapping[str, Stored], unknown: Sequence[str], want: Mapping[str, tuple[int, ...]], heads: bool
) -> list[str]:
    """Parameters by our names against the wanted sizes, before a weight is read; `heads` may stand beside them."""
    here = [name for name in want if name in header]
    sizes = {name: header[name].size for name in here}
    unused = (
        ("pooler.", "classifier.", "span.") if heads else ("pooler.",)
    )  # BertModel saves a pooler although it needs none
    groups = {
        "unknown parameters": ([name for name in unknown if not (heads and name.startswith(HEADS))], ALONE),
        "parameters the configuration does not have": (
            [name for name in header if not (name in want or name.startswith(unused))],
            "take the config.json that was saved with them",
        ),
        "missing parameters": (
            [name for name in want if name not in header], "save the whole model again by save_pretrained"
        ),
        "wrong sizes": (
            [f"{name} want {want[name]}, got {sizes[name]}" for name in here if sizes[name] != want[name]],
            "take the config.json that was saved with them",
        ),
        "not float": (
            [f"{name} {header[name].type}" for name in here if header[name].type not in FLOATS],
            "save them as float32",
        ),
    }  # fmt: skip
    return [
        f"{len(names)} {what}: {', '.join(names[:LISTED])}{', ...' if names[LISTED:] else ''}; {instead}"
        for what, (names, instead) in groups.items()
        if names
    ]
