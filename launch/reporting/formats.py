"""What `mpcnet plan` tells of number formats: site by site, proved for every text, or calibrated with which margin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mpcnet.models.formats.guarantees import Guarantee, guarantees, row_guarantees
from mpcnet.models.private.prepare import Prepared


def known(prepared: Prepared) -> list[Guarantee]:
    """Of every limited site of a program."""
    config = prepared.config
    arguments = prepared.bounds, prepared.calibration
    return [*guarantees(config.shape, config.formats, *arguments), *row_guarantees(config.formats, *arguments)]


def row(site: Guarantee) -> dict[str, Any]:
    """For --json."""
    return {
        "site": site.name,
        "limit": site.limit,
        "proved": site.sure,
        "bound": site.proved,
        "calibrated": site.calibrated,
        "room": _room(site),
    }


def table(sites: Sequence[Guarantee]) -> Table:
    """Sites of all layers and heads together, by kind."""
    shown = Table(title="number formats", title_justify="left")
    for name in ("values of", "sites", "for every text", "otherwise, audited", "room beyond calibration"):
        shown.add_column(name, justify="left" if name == "values of" else "right")
    kinds: dict[str, list[Guarantee]] = {}
    for site in sites:
        kinds.setdefault(re.sub(r"^layer\d+\.(head\d+\.)?", "", site.name), []).append(site)
    for kind, found in kinds.items():
        sure = sum(site.sure for site in found)
        rest = [_room(site) for site in found if not site.sure]
        room = f"{min(rest):.2f} times" if rest else ""
        shown.add_row(kind, str(len(found)), f"{sure} proved" if sure else "", f"{len(rest)}" if rest else "", room)
    return shown


def _room(site: Guarantee) -> float:
    """How many times what was calibrated fits its format."""
    return site.limit / site.calibrated if site.calibrated else float("inf")
