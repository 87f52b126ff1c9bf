"""All fuzz targets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.fuzz import files
from tests.fuzz.decoder import Decoder
from tests.fuzz.greeting import Greeting
from tests.fuzz.target import Target

TARGETS: Mapping[str, Callable[[], Target]] = {
    "decoder": Decoder,
    "greeting": Greeting,
    "program": files.program_file,
    "roster": files.roster_file,
    "settings": files.settings_file,
    "calibration": files.calibration_file,
    "tensors": files.tensors_file,
    "config": files.model_config,
}


@contextmanager
def target(name: str) -> Iterator[Target]:
    yield TARGETS[name]()
