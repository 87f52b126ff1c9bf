"""One process's settings, from a TOML file beside its keys.

::

    role = "server0"
    program = "program.json"        # beside this file; the same at every party
    timeout_s = 60.0                # how long to wait for a peer
    stock_mib = 2048                # corrections kept ahead of use
    threads = 0                     # of the local kernels; 0: all cores
    net = "none"                    # none, lan, wan, or rtt=40ms,bw=100mbps: for experiments on one machine

    [addresses]                     # of those who listen
    server0 = "10.0.0.1:4100"
    server1 = "10.0.0.2:4100"
    dealer = "10.0.0.3:4100"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.latency import Link, parse_link
from mpcnet.tls import parse_address

FILE = "party.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process is told. Paths are relative to `folder`, which also holds its keys."""

    folder: Path
    role: str
    addresses: Mapping[str, str]
    program: str = "program.json"
    timeout_s: float = 60.0
    stock_mib: int = 2048
    threads: int = 0
    net: str = "none"
    link: Link = field(default_factory=Link)

    @property
    def program_path(self) -> Path:
        return self.folder / self.program


_TYPES: Mapping[str, tuple[type, ...]] = {
    "role": (str,),
    "addresses": (dict,),
    "program": (str,),
    "timeout_s": (int, float),
    "stock_mib": (int,),
    "threads": (int,),
    "net": (str,),
}
_LEAST: Mapping[str, float] = {"timeout_s": 0.1, "stock_mib": 0, "threads": 0}


def read(path: Path) -> Settings:
    """:raises LocalConfigError: the file is missing or malformed; all that is wrong is named at once."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{path}: want a TOML file, got {error}") from error
    wrong = [f"unknown setting {name!r}" for name in values.keys() - _TYPES.keys()]
    wrong += [f"{name} is missing" for name in ("role", "addresses") if name not in values]
    wrong += [
        f"{name}: want {kinds[0].__name__}, got {values[name]!r}"
        for name, kinds in _TYPES.items()
        if name in values and (not isinstance(values[name], kinds) or isinstance(values[name], bool))
    ]
    wrong += [
        f"{name}: want at least {least}, got {values[name]}"
        for name, least in _LEAST.items()
        if name in values and isinstance(values[name], (int, float)) and not values[name] >= least
    ]
    if wrong:
        raise LocalConfigError(f"{path}: " + "; ".join(sorted(wrong)))
    for role, address in values["addresses"].items():
        parse_address(_text(path, f"addresses.{role}", address))
    return Settings(folder=path.parent, link=parse_link(values.get("net", "none")), **values)


def _text(path: Path, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise LocalConfigError(f"{path}: {name}: want a text, got {value!r}")
    return value


def write(settings: Settings) -> Path:
    """Write the settings as TOML into their folder. Keys and values are plain, so no writer library is needed."""
    lines = []
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if entry.name in _TYPES and not isinstance(value, Mapping):
            lines.append(f'{entry.name} = "{value}"' if isinstance(value, str) else f"{entry.name} = {value}")
    lines += ["", "[addresses]", *(f'{role} = "{address}"' for role, address in settings.addresses.items())]
    path = settings.folder / FILE
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
