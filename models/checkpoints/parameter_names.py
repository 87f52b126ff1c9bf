"""Hugging Face's names of a checkpoint's parameters, and ours.

Ours are the same for every architecture: `layer{i}.` in front inside the encoder, then `query`, `out.norm` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_EMBEDDINGS = {
    "embeddings.word_embeddings": "embedding.word",
    "embeddings.position_embeddings": "embedding.position",
    "embeddings.LayerNorm": "embedding.norm",
}
_FEED_FORWARD = {
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "down.norm",
}
_HEADS = {"classifier": "classifier", "qa_outputs": "span"}
MODULES: Mapping[str, Mapping[str, str]] = {  # by model_type, which is also the prefix below a head
    "bert": {
        **_EMBEDDINGS,
        "embeddings.token_type_embeddings": "embedding.type",
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "out",
        "attention.output.LayerNorm": "out.norm",
        **_FEED_FORWARD,
        "pooler.dense": "pooler",
        **_HEADS,
    },
    "mpnet": {
        **_EMBEDDINGS,
        "encoder.relative_attention_bias": "relative",
        "attention.attn.q": "query",
        "attention.attn.k": "key",
        "attention.attn.v": "value",
        "attention.attn.o": "out",
        "attention.LayerNorm": "out.norm",
        **_FEED_FORWARD,
        "pooler.dense": "pooler",
        "classifier.dense": "pooler",  # a classifier has a dense layer of its own, and then no pooler below it
        "classifier.out_proj": "classifier",
        **_HEADS,  # its classifier of tokens is a single map
    },
}
LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}  # gamma, beta: TensorFlow's names
UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids")  # buffers that old releases of transformers saved
WORDS = "embeddings.word_embeddings.weight"  # which every checkpoint has
OUTSIDE = ("embeddings.", "pooler.", "classifier", "qa_outputs", "encoder.relative")


def parameter_name(theirs: str, model_type: str = "bert") -> str | None:
    """Our name of a Hugging Face parameter; None if the architecture has no such one."""
    module, _, leaf = theirs.removeprefix(f"{model_type}.").rpartition(".")
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", module)
    inner = layer[2] if layer else module
    modules = MODULES[model_type]
    if inner not in modules or leaf not in LEAVES or inner.startswith(OUTSIDE) == bool(layer):
        return None
    return (f"layer{layer[1]}." if layer else "") + f"{modules[inner]}.{LEAVES[leaf]}"


def common_prefix(keys: Sequence[str], model_type: str) -> str:
    """What a wrapper has put before all names, as "module." by DataParallel; "" if nothing, or not before all."""
    tables = [key for key in keys if key.endswith(WORDS)]
    if len(tables) != 1:
        return ""
    prefix = tables[0].removesuffix(WORDS).removesuffix(f"{model_type}.")
    return prefix if all(key.startswith(prefix) for key in keys) else ""


def known_parameters(keys: Sequence[str], model_type: str) -> tuple[dict[str, str], list[str]]:
    """Our name of each known parameter with the file's name of it, and the file's names that are not known."""
    prefix = common_prefix(keys, model_type)
    known: dict[str, str] = {}
    unknown = []
    for key in keys:
        theirs = key.removeprefix(prefix)
        if theirs.removeprefix(f"{model_type}.") in UNUSED:
            continue
        name = parameter_name(theirs, model_type)
        if name is None or name in known:  # two parameters of one name cannot both be used
            unknown.append(key)
        else:
            known[name] = key
    return known, unknown
