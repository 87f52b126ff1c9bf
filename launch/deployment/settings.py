"""One process's settings, from a TOML file beside its keys.

::

    role = "server0"
    program = "program.json"
    buffer_mib = 4096

    [addresses]
    server0 = "10.0.0.1:4100"
    server1 = "10.0.0.2:4100"
    dealer = "10.0.0.3:4100"

Each key is declared once, as a field of :class:`Settings`: its type, its default, what it may be, and what it means.
`docs/configuration.md` is made of these declarations (:mod:`mpcnet.launch.deployment.config_page`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.certs import LISTENERS
from mpcnet.models.private.program import Size
from mpcnet.transport.latency import Link, parse_link
from mpcnet.transport.rendezvous import REPLICAS, dials
from mpcnet.transport.tls import parse_address

T = TypeVar("T")
FILE = "party.toml"
KEY = "key"  # of a field's metadata
PARTIES = "server0, server1, dealer"
SERVERS = "server0, server1"
LEADER = "server0"  # who decides what runs
BUFFER_MIB = 2048  # a quarter of a server with 8 GB


@dataclass(frozen=True, slots=True)
class Key:
    """What the reader and the configuration page know of a key besides its default.

    `kinds` are the types that TOML may give it, `least` and `most` bound a number (both included), `choices` are all
    that a text may be. `roles` says which processes read the key.
    """

    kinds: tuple[type, ...]
    meaning: str
    roles: str
    unit: str = ""
    least: float = 0
    most: float = float("inf")
    choices: tuple[str, ...] = ()


def _key(
    default: T,
    meaning: str,
    *,
    roles: str = "all",
    unit: str = "",
    between: tuple[float, float] = (0, float("inf")),
    choices: tuple[str, ...] = (),
) -> T:
    """A field of Settings that stands in the file; TOML gives it the type of its default."""
    kinds: Mapping[type, tuple[type, ...]] = {float: (int, float), tuple: (list,)}
    key = Key(kinds.get(type(default), (type(default),)), meaning, roles, unit, *between, choices)
    declared: T = field(default=default, metadata={KEY: key})
    return declared


def _required(kind: type, meaning: str) -> Any:
    return field(metadata={KEY: Key((kind,), meaning, "all")})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process is told. Paths are relative to `folder`, which also holds its keys."""

    folder: Path
    role: str = _required(str, "The role of this process. It must be the one that its certificate names.")
    addresses: Mapping[str, str] = _required(
        dict,
        "HOST:PORT of each party that listens, as the other parties reach it. Without an entry for `dealer`, the "
        "dealer dials both servers, and may stand behind NAT.",
    )
    program: str = _key("program.json", "File of the public program. It must be the same at every party.")
    timeout_s: float = _key(
        60.0, "How long to wait for a peer's next frame before the connection counts as lost.", unit="s",
        between=(0.1, 86400),
    )  # fmt: skip
    threads: int = _key(0, "Threads of the arithmetic kernels. 0: one for each core.", between=(0, 4096))
    log: str = _key("text", "Format of the log lines.", choices=("text", "json"))
    log_file: str = _key("", "File to log to. Empty: standard error.")
    net: str = _key(
        "none",
        "Delay and bandwidth that this process adds to its own connections: `none`, `lan`, `wan`, or "
        "`rtt=40ms,bw=100mbps`. For experiments on one machine.",
    )
    listen: str = _key(
        "", "HOST:PORT to listen at, where that differs from the public address (NAT, a container). Empty: the "
        "address of this role in `[addresses]`.", roles=PARTIES,
    )  # fmt: skip
    monitor_port: int = _key(0, "Port of health and metrics on 127.0.0.1. 0: off.", roles=PARTIES, between=(0, 65535))
    device: str = _key(
        "cpu", "Where products by weights are computed: `cpu`, `cuda`, or `cuda:1` for the second GPU.", roles=PARTIES
    )
    memory_mib: int = _key(
        0, "Memory that this process may take. A request whose run needs more than is left beside the weights, "
        "corrections and waiting requests is refused. 0: four fifths of the machine's, or of the control group's.",
        roles=PARTIES, unit="MiB", between=(0, 1 << 24),
    )  # fmt: skip
    replicas: tuple[str, ...] = _key(
        (), "Replicas of the deployment, the same at these three: `[\"replica0\", \"replica1\"]`. A replica computes "
        "again what its server sends; without its word the other server gives no answer.", roles=PARTIES,
    )  # fmt: skip
    buffer_mib: int = _key(
        BUFFER_MIB, "Memory for corrections that wait for their use, at most half of what the weights leave. A run "
        "that needs more begins when it is full.", roles=SERVERS, unit="MiB", between=(0, 1 << 24),
    )  # fmt: skip
    queue_mib: int = _key(
        512, "Memory for requests that wait for their turn, at most an eighth of what the weights leave; one client "
        "gets half of it. A request beyond it is refused.", roles=SERVERS, unit="MiB", between=(1, 1 << 24),
    )  # fmt: skip
    tapes: str = _key(
        "", "Folder for corrections dealt ahead, on disk, sealed and read once. Empty: they stay in memory.",
        roles=SERVERS,
    )  # fmt: skip
    record: str = _key(
        "", "Folder for sealed records of runs, from which `mpcnet replay` computes again what this server sent. "
        "Empty: none are kept.", roles=SERVERS,
    )  # fmt: skip
    record_mib: int = _key(
        4096, "Disk for records; the oldest give way.", roles=SERVERS, unit="MiB", between=(1, 1 << 24)
    )
    batch_tokens: int = _key(
        512, "Requests of similar length run as one batch of up to so many tokens, padding included.", roles=LEADER,
        unit="tokens", between=(1, 1 << 20),
    )  # fmt: skip
    streams: int = _key(
        1, "Micro-batches of a run. One computes while another waits for the link.", roles=LEADER, between=(1, 16)
    )
    ahead: tuple[str, ...] = _key(
        (), "Sizes whose corrections are dealt before anybody asks, each as sentences x tokens: `[\"1x128\"]`. For "
        "requests that want embeddings or logits; for labels where the program allows nothing else.", roles=LEADER,
    )  # fmt: skip
    ahead_runs: int = _key(
        1, "How many runs of each size in `ahead` are kept ready.", roles=LEADER, unit="runs", between=(1, 10_000)
    )
    link: Link = field(default_factory=Link)
    ahead_sizes: tuple[Size, ...] = ()

    @property
    def program_path(self) -> Path:
        return self.folder / self.program


KEYS: Mapping[str, Key] = {entry.name: entry.metadata[KEY] for entry in fields(Settings) if KEY in entry.metadata}


def read(path: Path) -> Settings:
    """:raises LocalConfigError: the file is missing or malformed; all that is wrong is named at once."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
    values["replicas"] = tuple(values.get("replicas", ()))
    if unknown := [name for name in values["replicas"] if name not in REPLICAS]:
        raise LocalConfigError(f"{path}: replicas: want some of {', '.join(REPLICAS)}, got {unknown[0]!r}")
    return Settings(folder=path.parent, link=parse_link(values.get("net", "none")), ahead_sizes=sizes, **values)


def _flaws(values: Mapping[str, Any]) -> list[str]:
    wrong = [f"unknown setting {name!r}" for name in values.keys() - KEYS.keys()]
    wrong += [f"{name} is missing" for name in ("role", "addresses") if name not in values]
    wrong += [
        f"{name}: want {key.kinds[0].__name__}, got {values[name]!r}"
        for name, key in KEYS.items()
        if name in values and (not isinstance(values[name], key.kinds) or isinstance(values[name], bool))
    ]
    wrong += [
        f"{name}: want {key.least:g} to {key.most:g}, got {values[name]}"
        for name, key in KEYS.items()
        if isinstance(values.get(name), (int, float)) and not key.least <= values[name] <= key.most
    ]
    addresses = values.get("addresses")
    if isinstance(addresses, dict):  # a misspelt dealer would be taken for one that has no address
        wrong += [
            f"addresses: want {', '.join(LISTENERS)}, got {name!r}" for name in addresses if name not in LISTENERS
        ]
    wrong += [
        f"{name}: want {' or '.join(key.choices)}, got {values[name]!r}"
        for name, key in KEYS.items()
        if key.choices and name in values and values[name] not in key.choices
    ]
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
        if entry.name in KEYS and entry.name != "addresses"
    ]
    lines += ["", "[addresses]", *(f"{role} = {_toml(address)}" for role, address in settings.addresses.items())]
    path = settings.folder / FILE
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
