"""The parties of a model in a folder, planned on a few random texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from parties import Parties, Tiny, deployed

from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.families.config import Config
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.formats.calibration_batches import built_in_batches
from mpcnet.models.formats.planner import plan
from mpcnet.models.preprocessing import copy_tokenizer
from mpcnet.models.private.prepare import random_tokens, tokenizer_source
from mpcnet.protocols.suites import SUITES


@contextmanager
def served(folder: Path, place: Path, *, astray: bool = False, **settings: Any) -> Iterator[Parties]:
    """A model's parties; `astray` if its scores are sought in windows where they are not."""
    found = load_checkpoint(folder)
    folded = fold(found)
    if found.shape.image is None:
        batches = [random_tokens(found, 16, length) for length in (3, 8, 16)]
    else:
        batches = built_in_batches(found, found.shape.positions)
    known = calibrate(found.shape, folded, batches, found.sha256)
    formats = plan(found.shape, bounds(found.shape, folded), known, "exact", SUITES["fast"])
    if astray:
        windows = [
            [replace(w, centres=tuple(c + 100.0 for c in w.centres)) for w in layer] for layer in formats.windows
        ]
        formats = replace(formats, windows=tuple(map(tuple, windows)))
    config = Config(found.shape, formats, SUITES["fast"], "private", found.preprocessing, found.labels)
    with deployed(config, place, **settings) as made:
        copy_tokenizer(tokenizer_source(str(folder)), made.config("client").parent / TOKENIZER)
        yield Parties(made, Tiny(found, folded, known))
