"""One process's settings, from a TOML file beside its keys.

::

    role = "server0"
    program = "program.json"        # beside this file; the same at every party
    timeout_s = 60.0                # how long to wait for a frame of a peer that should come now
    threads = 0                     # of the local kernels; 0: all cores
    device = "cpu"                  # servers, dealer: or "cuda", "cuda:1", a GPU for products by weights
    listen = ""                     # HOST:PORT to listen at, where that is not our own address below (NAT, a container)
    log = "text"                    # or "json"
    log_file = ""                   # "": standard error
    monitor_port = 0                # health and metrics on 127.0.0.1; 0: off
    net = "none"                    # none, lan, wan, or rtt=40ms,bw=100mbps: for experiments on one machine

    # servers
    stock_mib = 2048                # corrections kept in memory ahead of use; a run with more begins when it is full
    queue_mib = 512                 # requests that wait
    tapes = ""                      # folder for corrections on disk, sealed and used once; "": in memory

    # server0, who decides what runs
    batch_tokens = 512              # requests of like length run as one batch up to so many tokens
    streams = 1                     # micro-batches of a run: one computes while another waits for the link
    ahead = []                      # sizes dealt ahead of any request but for labels, as "1x128" (sentences x tokens)
    ahead_runs = 1                  # of each size

    [addresses]                     # of those who listen; a dealer that cannot be reached has none, and dials
    server0 = "10.0.0.1:4100"
    server1 = "10.0.0.2:4100"
    dealer = "10.0.0.3:4100"
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.certs import LISTENERS
from mpcnet.models.private.program import Size
from mpcnet.transport.latency import Link, parse_link
from mpcnet.transport.rendezvous import dials
from mpcnet.transport.tls import parse_address

FILE = "party.toml"
STOCK_MIB = 2048  # a quarter of a server with 8 GB


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process is told. Paths are relative to `folder`, which also holds its keys."""

    folder: Path
    role: str
    addresses: Mapping[str, str]
    program: str = "program.json"
    timeout_s: float = 60.0
    threads: int = 0
    device: str = "cpu"
    listen: str = ""
    log: str = "text"
    log_file: str = ""
    monitor_port: int = 0
    net: str = "none"
    stock_mib: int = STOCK_MIB
    queue_mib: int = 512
    tapes: str = ""
    batch_tokens: int = 512
    streams: int = 1
    ahead: tuple[str, ...] = ()
    ahead_runs: int = 1
    link: Link = field(default_factory=Link)
    ahead_sizes: tuple[Size, ...] = ()

    @property
    def program_path(self) -> Path:
        return self.folder / self.program


_TYPES: Mapping[str, tuple[type, ...]] = {
    "role": (str,),
    "addresses": (dict,),
    "program": (str,),
    "timeout_s": (int, float),
    "threads": (int,),
    "device": (str,),
    "listen": (str,),
    "log": (str,),
    "log_file": (str,),
    "monitor_port": (int,),
    "net": (str,),
    "stock_mib": (int,),
    "queue_mib": (int,),
    "tapes": (str,),
    "batch_tokens": (int,),
    "streams": (int,),
    "ahead": (list,),
    "ahead_runs": (int,),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "timeout_s": (0.1, 86400),
    "threads": (0, 4096),
    "monitor_port": (0, 65535),
    "stock_mib": (0, 1 << 24),
    "queue_mib": (1, 1 << 24),
    "batch_tokens": (1, 1 << 20),
    "streams": (1, 16),
    "ahead_runs": (1, 10_000),
}


def read(path: Path) -> Settings:
    """:raises LocalConfigError: the file is missing or malformed; all that is wrong is named at once."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{path}: want a TOML file, got {error}") from error
    if wrong := _flaws(values):
        raise LocalConfigError(f"{path}: " + "; ".join(sorted(wrong)))
    for role, address in values["addresses"].items():
        parse_address(_text(path, f"addresses.{role}", address))
    if values.get("listen"):
        parse_address(values["listen"])
    dials(values["role"], values["addresses"])
    sizes = tuple(_size(path, text) for text in values.get("ahead", ()))
    values["ahead"] = tuple(values.get("ahead", ()))
    return Settings(folder=path.parent, link=parse_link(values.get("net", "none")), ahead_sizes=sizes, **values)


def _flaws(values: Mapping[str, Any]) -> list[str]:
    wrong = [f"unknown setting {name!r}" for name in values.keys() - _TYPES.keys()]
    wrong += [f"{name} is missing" for name in ("role", "addresses") if name not in values]
    wrong += [
        f"{name}: want {kinds[0].__name__}, got {values[name]!r}"
        for name, kinds in _TYPES.items()
        if name in values and (not isinstance(values[name], kinds) or isinstance(values[name], bool))
    ]
    wrong += [
        f"{name}: want {low:g} to {high:g}, got {values[name]}"
        for name, (low, high) in _RANGES.items()
        if name in values and isinstance(values[name], (int, float)) and not low <= values[name] <= high
    ]
    addresses = values.get("addresses")
    if isinstance(addresses, dict):  # a misspelt dealer would be taken for one that has no address
        wrong += [
            f"addresses: want {', '.join(LISTENERS)}, got {name!r}" for name in addresses if name not in LISTENERS
        ]
    if values.get("log", "text") not in ("text", "json"):
        wrong.append(f"log: want text or json, got {values['log']!r}")
    return wrong


def _text(path: Path, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise LocalConfigError(f"{path}: {name}: want a text, got {value!r}")
    return value


def _size(path: Path, text: Any) -> Size:
    match = re.fullmatch(r"([1-9][0-9]{0,2})x([1-9][0-9]{0,3})", _text(path, "ahead", text))
    if match is None:
        raise LocalConfigError(f'{path}: ahead: want sentences x tokens as "1x128", got {text!r}')
    return Size(int(match[1]), int(match[2]))


def write(settings: Settings) -> Path:
    """Write the settings as TOML into their folder: texts are as in JSON, so no writer library is needed."""
    lines = [
        f"{entry.name} = {_toml(getattr(settings, entry.name))}"
        for entry in fields(settings)
        if entry.name in _TYPES and entry.name != "addresses"
    ]
    lines += ["", "[addresses]", *(f"{role} = {_toml(address)}" for role, address in settings.addresses.items())]
    path = settings.folder / FILE
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
