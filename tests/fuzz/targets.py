"""All fuzz targets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial

from tests.cluster.run import many
from tests.fuzz import files
from tests.fuzz.decoder import Decoder
from tests.fuzz.greeting import Greeting
from tests.fuzz.live import Live
from tests.fuzz.target import Target

TARGETS: Mapping[str, Callable[[], Target]] = {
    "decoder": Decoder,
    "greeting": Greeting,
    "program": files.program_file,
    "roster": files.roster_file,
    "settings": files.settings_file,
    "calibration": files.calibration_file,
    "tensors": files.tensors_file,
    "pickle": files.pickle_file,
    "config": files.model_config,
    "adapter": files.adapter_settings,
    **{f"live-{who}": partial(Live, who) for who in ("client", "owner", "server0", "server1", "dealer", "replica0")},
}


@contextmanager
def target(name: str) -> Iterator[Target]:
    """It, and what it needs around it."""
    with many() if name.startswith("live-") else nullcontext():
        yield TARGETS[name]()
