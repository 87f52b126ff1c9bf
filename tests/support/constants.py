"""Other constants in the protocols of this process, for tests of who notices."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from mpcnet.protocols.series import Series

MODULES = ("mpcnet.protocols.", "mpcnet.models.", "mpcnet.randomness.", "mpcnet.arrays.ring")


def modules() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(MODULES)]


def forget() -> None:
    """What was computed from the constants as they were."""
    for module in modules():
        for value in list(vars(module).values()):
            if callable(clear := getattr(value, "cache_clear", None)):
                clear()


@contextmanager
def another(module: Any, name: str, value: Any) -> Iterator[None]:
    """`value` for the constant, wherever it was imported to."""
    former = getattr(module, name)
    holders = [each for each in modules() if vars(each).get(name) is former]
    for holder in holders:
        setattr(holder, name, value)
    forget()
    try:
        yield
    finally:
        for holder in holders:
            setattr(holder, name, former)
        forget()


def changed(value: Any) -> Any:
    """A value close by; None for what is no number."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.01 + 1e-9
    if isinstance(value, Fraction):
        return value - 1
    if isinstance(value, Series):
        pairs = [tuple((k, c * 1.001) for k, c in waves) for waves in (value.cosine, value.sine)]
        return Series(value.period, *pairs)
    if isinstance(value, tuple) and value and all(isinstance(x, float) for x in value):
        return (*value[:-1], value[-1] * 1.01)
    return None


def constants(module: Any) -> Iterator[str]:
    """The names of a module's own constants that are numbers."""
    for name, value in vars(module).items():
        if name.isupper() and changed(value) is not None:
            yield name
