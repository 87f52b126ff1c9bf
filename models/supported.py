"""What a checkpoint may not ask for, because the private model does not compute it; all of it is named at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {  # by model_type; a BERT's if that is not supported either
    "bert": ("BertModel", "BertForSequenceClassification"),
    "mpnet": ("MPNetModel", "MPNetForSequenceClassification", "MPNetForMaskedLM"),  # without the head of the last
}
FLOATS = ("F64", "F32", "F16", "BF16")
SETTINGS: Mapping[str, tuple[Any, ...]] = {  # the accepted values; the first is the default of an absent key
    "model_type": tuple(ARCHITECTURES),
    "hidden_act": ("gelu", "quad"),  # the erf form; "gelu_new" and "gelu_pytorch_tanh" are other functions
    "softmax": (None, "exact", "2quad", "2relu"),  # what a student was distilled with
    "position_embedding_type": ("absolute",),  # transformers 5 ignores it, and would silently compute another model
    "relative_attention_num_buckets": (None, 32),  # transformers' MPNet uses 32, whatever is written here
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "problem_type": (None, "single_label_classification", "regression"),
    "quantization_config": (None,),
    "auto_map": (None,),  # the checkpoint brings code of its own
}
LISTED = 4  # names an error shows of each kind; a wrong architecture has hundreds


def unsupported_settings(config: Mapping[str, Any], pooling: Mapping[str, Any], adapter: bool) -> list[str]:
    """What config.json, sentence-transformers' pooling configuration and a PEFT adapter beside it ask for in vain."""
    wrong = [
        f"{key}: want {' or '.join(str(value) for value in values if value is not None) or 'none'}, got {config[key]}"
        for key, values in SETTINGS.items()
        if config.get(key, values[0]) not in values
    ]
    if config.get("pruned_heads"):
        wrong.append(f"pruned_heads: want none, got {config['pruned_heads']}")
    architectures = list(config.get("architectures") or ["none"])
    accepted = ARCHITECTURES.get(str(config.get("model_type")), ARCHITECTURES["bert"])
    if len(architectures) != 1 or architectures[0] not in accepted:
        wrong.append(f"architectures: want {' or '.join(accepted)}, got {', '.join(architectures)}")
    if adapter:
        wrong.append("adapters: want them merged into the weights, got adapter_config.json")
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode") and value is True]
    if modes not in ([], ["pooling_mode_mean_tokens"]):
        wrong.append(f"pooling: want pooling_mode_mean_tokens, got {', '.join(modes)}")
    return wrong


def unsupported_parameters(
    header: Mapping[str, Any], unknown: list[str], want: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Parameters of the file's header (safetensors slices) against the wanted shapes, without reading a weight."""
    here = [name for name in want if name in header]
    sizes = {name: tuple(header[name].get_shape()) for name in here}
    groups = {
        "unknown parameters": unknown,
        "parameters the configuration does not have": [name for name in header if not (name in want or _unused(name))],
        "missing parameters": [name for name in want if name not in header],
        "wrong sizes": [f"{name} want {want[name]}, got {sizes[name]}" for name in here if sizes[name] != want[name]],
        "not float": [f"{name} {header[name].get_dtype()}" for name in here if header[name].get_dtype() not in FLOATS],
    }
    return [
        f"{len(names)} {what}: {', '.join(names[:LISTED])}{', ...' if names[LISTED:] else ''}"
        for what, names in groups.items()
        if names
    ]


def _unused(name: str) -> bool:
    """BertModel saves a pooler although its hidden states do not need it."""
    return name in ("pooler.weight", "pooler.bias")
