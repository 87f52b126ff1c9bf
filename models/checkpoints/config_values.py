"""What transformers makes of a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def config_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a known model_type: absent keys filled in, and older names of keys read."""
    from transformers import AutoConfig  # two seconds to import: only who loads a checkpoint waits for it

    default = AutoConfig.for_model(config["model_type"])
    try:
        values: dict[str, Any] = type(default).from_dict(dict(config)).to_dict()
    except Exception:  # values that it refuses by many kinds of errors, and that are named here one by one
        other = default.attribute_map  # names that it takes for another one's
        values = default.to_dict() | {other.get(name, name): value for name, value in config.items()}
    return values
