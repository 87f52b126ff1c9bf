"""The configuration page, made of the declarations of the settings.

::

    python -m mpcnet.launch.deployment.config_page > docs/configuration.md

The page has no other source, so it cannot disagree with the program. A test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from mpcnet.launch.deployment.settings import FILE, KEY, LEADER, PARTIES, SERVERS, Key, Settings
from mpcnet.launch.reporting.markdown import table

SECTIONS: Mapping[str, tuple[str, str]] = {
    "all": ("Every process", "Read by server0, server1, dealer, replicas, owner and clients."),
    PARTIES: ("Parties", "Read by server0, server1, the dealer and replicas."),
    SERVERS: ("Servers", "Read by server0 and server1. The two may differ."),
    LEADER: ("server0", "Read by server0 alone, which decides what runs."),
}
TYPES: Mapping[type, str] = {str: "text", int: "integer", float: "number", list: "list of texts", dict: "table"}
ENVIRONMENT: Mapping[str, str] = {
    "XDG_CACHE_HOME": "Where the cache folder `mpcnet` is: calibrations and unpacked models. Default: `~/.cache`.",
    "MPCNET_TRACEBACK": "If set, an error ends with its traceback, which may show values. For debugging only.",
}
EXAMPLE = {"server0": "10.0.0.1:4100", "server1": "10.0.0.2:4100", "dealer": "10.0.0.3:4100"}


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield f"Each process reads one file, `{FILE}`, in the folder that also holds its keys. `mpcnet init` writes it with"
    yield "the defaults below. Paths are relative to that folder. A key that is unknown, has another type or is out of"
    yield "range is an error at the start, and all such errors are named at once."
    yield f"`mpcnet doctor --config {FILE}` checks the file and what it points to."
    yield ""
    yield from ("```toml", 'role = "server0"', "buffer_mib = 4096", "", "[addresses]")
    yield from (f"{role} = {json.dumps(address)}" for role, address in EXAMPLE.items())
    yield "```"
    titles = ("key", "type", "default", "range", "unit", "meaning")
    for roles, (title, readers) in SECTIONS.items():
        yield from ("", f"## {title}", "", readers, "")
        yield from table(titles, [_row(entry) for entry in _declared(roles)], left=len(titles))
    yield from ("", "## Environment", "")
    yield from table(("variable", "meaning"), [(f"`{name}`", meaning) for name, meaning in ENVIRONMENT.items()])
    yield ""
    yield "This page is generated from the declarations in `settings.py`. Edit them there."


def _declared(roles: str) -> list[Field[Any]]:
    return [entry for entry in fields(Settings) if KEY in entry.metadata and entry.metadata[KEY].roles == roles]


def _row(entry: Field[Any]) -> Sequence[str]:
    key: Key = entry.metadata[KEY]
    default = "required" if entry.default is MISSING else f"`{json.dumps(entry.default)}`"
    return f"`{entry.name}`", TYPES[key.kinds[-1]], default, _range(key), key.unit, key.meaning


def _range(key: Key) -> str:
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    return "" if key.most == float("inf") else f"{key.least:,g} to {key.most:,.10g}"


if __name__ == "__main__":
    print(page(), end="")
