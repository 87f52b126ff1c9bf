"""The names of a checkpoint's parameters, and ours.

Ours are the same for every family: `layer{i}.` in front inside the encoder, then `query`, `out.norm` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpcnet.models.checkpoints.families.family import Family

LEAVES: Mapping[str, str] = {  # gamma, beta: TensorFlow's names
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
}
UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids")  # buffers that old releases of transformers saved


def parameter_name(theirs: str, family: Family) -> str | None:
    """Our name of a Hugging Face parameter; None if the family has no such one."""
    for end, instead in family.alone.items():
        if theirs.endswith(end):
            theirs = theirs.removesuffix(end) + instead
    module, _, leaf = theirs.removeprefix(family.prefix).rpartition(".")
    ours = family.module(module)
    return None if ours is None or leaf not in LEAVES else f"{ours}.{LEAVES[leaf]}"


def common_prefix(keys: Sequence[str], family: Family) -> str:
    """What a wrapper has put before all names, as "module." by DataParallel; "" if nothing, or not before all."""
    tables = [key for key in keys if key.endswith(family.words)]
    if len(tables) != 1:
        return ""
    prefix = tables[0].removesuffix(family.words).removesuffix(family.prefix)
    return prefix if all(key.startswith(prefix) for key in keys) else ""


def known_parameters(keys: Sequence[str], family: Family) -> tuple[dict[str, str], list[str]]:
    """Our name of each known parameter with the file's name of it, and the file's names that are not known."""
    prefix = common_prefix(keys, family)
    known: dict[str, str] = {}
    unknown = []
    for key in keys:
        theirs = key.removeprefix(prefix)
        if theirs.removeprefix(family.prefix) in UNUSED:
            continue
        name = parameter_name(theirs, family)
        if name is None or name in known:  # two parameters of one name cannot both be used
            unknown.append(key)
        else:
            known[name] = key
    return known, unknown
