"""Private transformer inference by secure multi-party computation: `mpcnet.local`, `mpcnet.connect`, `mpcnet.plan`.

What `__all__` names is the public surface, in docs/python.md; everything else may change. It is loaded when it is first
used: importing this package is cheap, and so it is for the runtime below (bytes, rounds, rings, randomness).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpcnet import errors

if TYPE_CHECKING:
    from mpcnet.launch.api import (
        AsyncClient,
        Classification,
        Client,
        Entity,
        Operation,
        Plan,
        Ranked,
        Span,
        Usage,
        connect,
        local,
        plan,
    )

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Entity",
    "Operation",
    "Plan",
    "Ranked",
    "Span",
    "Usage",
    "__version__",
    "connect",
    "errors",
    "local",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("mpcnet.launch.api"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
