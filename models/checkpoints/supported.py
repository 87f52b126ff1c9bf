"""What a checkpoint may not ask for, because the private model does not compute it; all of it is named at once.

Each refusal says what was wanted, what was found, and what to do instead.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from mpcnet.models.checkpoints.families import FAMILIES, family_of
from mpcnet.models.checkpoints.families.family import HEADS_BY_ARCHITECTURE, Setting
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.head_shape import Head

KINDS_OF_HEADS = dict(
    zip(HEADS_BY_ARCHITECTURE, ("texts", "tokens", "questions", "masks", "images"), strict=True)
)  # what they are for
HEADS = (  # what an encoder's checkpoint may bring beside it
    "cls.", "lm_head.", "classifier.", "pre_classifier.", "qa_outputs.", "predictions.", "sop_classifier.", "vocab_",
    "generator_", "discriminator_predictions.", "head.", "decoder.", "lm_predictions.", "mask_predictions.",
)  # fmt: skip
ALONE = "save the encoder alone: AutoModel.from_pretrained(DIR).save_pretrained(OUT)"
FAMILY = "take one of these, or distil a BERT from it"


SETTINGS: Mapping[str, Setting] = {  # of every family
    "softmax": Setting((None, "exact", "2quad", "2relu"), "train it with one of these"),
    # transformers 5 ignores it, and would silently compute another model
    "position_embedding_type": Setting(("absolute",), "train it with absolute positions"),
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
    known = f"{', '.join(list(FAMILIES)[:-1])} or {list(FAMILIES)[-1]}"
    if kind is None:
        return f'model_type: want {known}, got none; if it is a BERT, add "model_type": "bert" to config.json'
    if not isinstance(kind, str) or kind not in FAMILIES:
        return f"model_type: want {known}, got {kind}; {FAMILY}"
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return f"architectures: want a list of names, got {str(names)[:80]}; save the model again"
    return ""


def head_of(config: Mapping[str, Any], header: Container[str]) -> Head:
    """The head that an architecture's name stands for. A masked language model without the weights of its head, as
    all-mpnet-base-v2 is published, is an encoder.
    """
    for name in config.get("architectures") or []:
        for end, head in HEADS_BY_ARCHITECTURE.items():
            if name.endswith(end):
                return "embedding" if head == "fill-mask" and "transform.weight" not in header else head
    return "embedding"


def unsupported_head(config: Mapping[str, Any], classifier: bool) -> str:
    """Another head than ours; "" for none. `classifier`: there are weights of one.

    An old configuration without architectures may mean one for tokens by it, or one for texts.
    """
    architectures = list(config.get("architectures") or [])
    accepted = family_of(config).architectures
    if len(architectures) > 1 or not set(architectures) <= set(accepted):
        kinds = [kind for end, kind in KINDS_OF_HEADS.items() if any(name.endswith(end) for name in accepted)]
        want = f"{accepted[0]} or its head for {', '.join(kinds[:-1])}{' or ' * (len(kinds) > 1)}{kinds[-1]}"
        return f"architectures: want {want}, got {', '.join(architectures)}; {ALONE}"
    if not architectures and classifier:
        return (
            f"architectures: want {' or '.join(accepted[:2])}, got none beside a classifier's weights; "
            f'if it is one for whole texts, add "architectures": ["{accepted[1]}"] to config.json'
        )
    return ""


def unsupported_settings(config: Mapping[str, Any]) -> list[str]:
    """What config.json asks for in vain."""
    family = family_of(config)
    settings = {**family.settings, **SETTINGS, **family.settings}  # a family's first, and in the place of others
    return [
        text for key, setting in settings.items() if key not in family.checks and (text := setting.wrong(key, config))
    ]


def unsupported_parameters(
    header: Mapping[str, Stored], unknown: Sequence[str], want: Mapping[str, tuple[int, ...]], heads: bool
) -> list[str]:
    """Parameters by our names against the wanted sizes, before a weight is read; `heads` may stand beside them."""
    here = [name for name in want if name in header]
    sizes = {name: header[name].size for name in here}
    beside = ("classifier.", "span.", "transform.", "decoder.") if heads else ()
    unused = ("pooler.", *beside)  # BertModel saves a pooler although it needs none
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
