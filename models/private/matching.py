"""Whether a checkpoint can be served under a program that was made before: what the owner checks at its start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.families.config import Config
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.guarantees import unproved
from mpcnet.models.pooling import too_large
from mpcnet.models.private.prepare import with_activation


def mismatches(config: Config, checkpoint: Checkpoint) -> Iterator[str]:
    """Where the model is of another shape, or its texts are prepared otherwise, than the program says."""
    yield from _differences(config.shape.to_dict(), with_activation(checkpoint, config.suite).shape.to_dict())
    texts = (None if x is None else x.to_dict() for x in (config.preprocessing, checkpoint.preprocessing))
    ours, theirs = (found or {"tokenizer": "none"} for found in texts)
    yield from _differences(ours, theirs)


def overflows(config: Config, folded: Mapping[str, Tensor]) -> Iterator[str]:
    """What of these weights the program's number formats do not hold, for some text, and no audit looks at."""
    yield from too_large(config.shape, folded)
    yield from unproved(config.shape, config.formats, bounds(config.shape, folded))


def _differences(program: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(program.keys() | model.keys()):
        if program.get(name) != model.get(name):
            yield f"{name}: the program has {program.get(name)}, the model {model.get(name)}"
