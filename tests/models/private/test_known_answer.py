"""What a program's protocols compute is agreed upon: another constant anywhere in them is found in the handshake."""

import asyncio
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from constants import another, changed
from kernels import without_kernels
from parties import LABELS, tiny

from mpcnet.errors import LocalConfigError, RemoteMismatchError
from mpcnet.models.families.config import Config
from mpcnet.models.private import program
from mpcnet.models.private.known_answer import known_answer
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.handshake import COMPUTES, handshake

CONFIGS = {
    "fast": tiny().config("fast", "exact"),
    "2relu": tiny(LABELS).config("fast", "2relu"),
    "2quad": tiny(LABELS).config("secformer", "2quad"),
    "v1": tiny().config("secformer-v1", "exact"),
    "silu": replace(tiny().config(), shape=replace(tiny().config().shape, activation="silu")),
    "gelu_tanh": replace(tiny().config(), shape=replace(tiny().config().shape, activation="gelu_tanh")),
    "mpnet": replace(tiny().config(), shape=replace(tiny().config().shape, relative_buckets=32, types=0)),
}
CONSTANTS: list[tuple[str, str, str, Any]] = [  # the program, where, which, and what instead
    ("2quad", "softmax", "SHIFT", None),
    ("2relu", "softmax", "RELU_EPS", None),
    ("fast", "exponential", "PUBLIC_FRAC", None),
    ("fast", "exponential", "DEALT_FRAC", None),
    ("fast", "exponential", "EXACT_FRAC", None),
    ("fast", "exponential", "LAST", -1),
    ("fast", "rowmax", "WIDTH_BITS", None),
    ("fast", "gelu", "GELU_EVEN", None),
    ("fast", "gelu", "HIGH", 4.5),
    ("fast", "gelu", "TANH", None),
    ("silu", "gelu", "SILU_EVEN", None),
    ("silu", "gelu", "SILU_HIGH", 8.5),
    ("gelu_tanh", "gelu", "GELU_TANH_EVEN", None),
    ("2quad", "gelu", "ERF", None),
    ("v1", "gelu", "INNER", None),
    ("v1", "gelu", "SPLIT", 2.5),
    ("fast", "quad", "CONSTANT", None),
    ("fast", "series", "TRIG_FRAC", 29),
    ("fast", "cells", "TAU_FRAC", None),
    ("fast", "cells", "POWER_FRAC", None),
    ("2quad", "division", "RSQRT_LIMIT", 1.0),
    ("2quad", "division", "START_FRAC", None),
    ("2quad", "division", "Z_FRAC", None),
    ("2quad", "audit", "AGREE", 2.0**-6),
    ("fast", "audit", "MODULUS", (1 << 40) | 0b100111),
    ("fast", "audit", "WINDOW", 5),
    ("mpnet", "models.position_bias", "FARTHEST", 64),
    ("fast", "models.formats.fixed_point", "SCORE_FRAC", 11),
    ("fast", "models.pooling", "SHARE_FRAC", None),
]


def where(name: str) -> Any:
    return import_module(f"mpcnet.{name}" if "." in name else f"mpcnet.protocols.{name}")


def computed(config: Config) -> object:
    return program.agreement(config).settings[COMPUTES]


@pytest.mark.parametrize(
    ("name", "module", "constant", "value"), CONSTANTS, ids=lambda x: x if isinstance(x, str) else ""
)
def test_another_constant_is_another_answer(name: str, module: str, constant: str, value: Any) -> None:
    config, found = CONFIGS[name], where(module)
    before = computed(config)
    with another(found, constant, changed(getattr(found, constant)) if value is None else value):
        try:
            after = computed(config)
        except LocalConfigError:  # it cannot even run
            return
    assert after != before == computed(config)


async def test_both_ends_say_so() -> None:
    """server0 with another constant in protocols/softmax.py, and nothing else, does not get as far as a request."""
    config = CONFIGS["2quad"]
    ours = program.agreement(config)
    with another(where("softmax"), "SHIFT", 5.5):
        theirs = program.agreement(config)
    assert ours.digest == theirs.digest
    ends = memory_pair("server0", "server1")
    found = await asyncio.gather(
        handshake(ends[0], "server0", theirs), handshake(ends[1], "server1", ours), return_exceptions=True
    )
    for error, peer in zip(found, ("server1", "server0"), strict=True):
        assert isinstance(error, RemoteMismatchError)
        assert str(error).startswith(f"{peer} runs another program: what its protocols compute: ours ")
        assert str(error).endswith("; install one release at both, unchanged")


async def test_other_programs_are_told_apart_by_their_settings() -> None:
    """That they compute other numbers too is no news."""
    ours, theirs = program.agreement(CONFIGS["fast"]), program.agreement(CONFIGS["v1"])
    ends = memory_pair("server0", "server1")
    found = await asyncio.gather(
        handshake(ends[0], "server0", theirs), handshake(ends[1], "server1", ours), return_exceptions=True
    )
    assert all("suite: ours" in str(error) and COMPUTES not in str(error) for error in found)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_same_on_every_host(config: Config) -> None:
    """With kernels and without them; tests/models/private/test_format.py has the digests that others made."""
    before = known_answer(config)
    with without_kernels():
        assert known_answer(config) == before


@pytest.mark.parametrize("config", [CONFIGS["fast"], CONFIGS["2quad"]], ids=["fast", "secformer"])
def test_it_costs_little(config: Config) -> None:
    """In seconds of the processor, once its tables are made; well below one where nobody else computes."""
    known_answer(config)
    start = time.process_time()
    known_answer(config)
    assert time.process_time() - start < 3


def test_formats_that_nothing_can_run_with() -> None:
    config = CONFIGS["fast"]
    for formats in (replace(config.formats, rows={}), replace(config.formats, table_bits=0)):
        with pytest.raises(LocalConfigError, match="program: want formats that protocols can run with, got "):
            program.agreement(replace(config, formats=formats, suite=SUITES["fast"]))
