"""Costs for people and for machines: one set of keys, planned and measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import mpcnet
from mpcnet import checked_json
from mpcnet.ledger import Cost, Ledger
from mpcnet.randomness.meter import Plan
from mpcnet.runtime.prefill import prefill
from mpcnet.runtime.stream import Stream, nbytes


def cost(value: Cost) -> dict[str, Any]:
    """The public keys of a cost."""
    return {
        "rounds": value.rounds,
        "sent_bytes": value.sent_bytes,
        "received_bytes": value.received_bytes,
        "offline_bytes": value.offline_bytes,
        "dealt_bytes": list(value.dealt_bytes),
    }


def planned(ledger: Ledger, peak_bytes: int) -> dict[str, Any]:
    """What `plan --json` prints of a program."""
    operations = [{"name": name, **cost(value)} for name, value in ledger.operations.items()]
    return {**cost(ledger.total()), "peak_bytes": peak_bytes, "operations": operations}


def buffered(plan: Plan, limit_bytes: int) -> dict[str, Any]:
    """What of a program's corrections both servers receive before its run, if each has room for `limit_bytes`."""
    count = prefill([Stream(0, plan)], [limit_bytes] * 2)
    before = [sum(nbytes(segment.dealt[party]) for segment in plan.segments[:count]) for party in (0, 1)]
    return {"limit_bytes": limit_bytes, "before_run_bytes": before, "exceeded": count < len(plan.segments)}


def buffer_line(buffer: Mapping[str, Any]) -> str:
    """The same in words."""
    limit = f"buffer of {buffer['limit_bytes'] / 1e9:.2f} GB (buffer_mib)"
    if not buffer["exceeded"]:
        return f"all corrections fit in a server's {limit} before the run begins"
    before = " and ".join(f"{size / 1e9:.2f}" for size in buffer["before_run_bytes"])
    return f"more than a server's {limit}: the run begins with {before} GB, the rest is dealt while it computes"


def measured(ledger: Ledger, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys as measured by a server, with its seconds."""
    operations = [
        {"name": name, **cost(value), "compute_s": round(value.compute_s, 6), "wait_s": round(value.wait_s, 6)}
        for name, value in ledger.operations.items()
    ]
    total = ledger.total()
    seconds = {"compute_s": total.compute_s, "wait_s": total.wait_s}
    return {**cost(total), **facts, **seconds, "operations": operations}


def read(text: bytes) -> dict[str, Any]:
    """What a server says of a run's cost. It is not believed, but it has the numbers that are added up.

    :raises ValueError: it has not.
    """
    found = checked_json.mapping(text)
    dealt = found.get("dealt_bytes")
    counts = [found.get(name) for name in ("rounds", "sent_bytes", "received_bytes")]
    counts += dealt if isinstance(dealt, list) and len(dealt) == 2 else [None]
    if not all(type(count) is int and 0 <= count < 1 << 63 for count in counts):
        raise ValueError("rounds or bytes that are no counts")
    seconds = found.get("seconds_queued")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        raise ValueError("seconds_queued that is no time")
    if not isinstance(found.get("operations"), list):
        raise ValueError("operations that are no list")
    return found


GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # a hook sets them to its own repository
COST_KEYS = ("rounds", "sent_bytes", "received_bytes", "dealt_bytes")


def same(plan: Mapping[str, Any], measurement: Mapping[str, Any]) -> list[str]:
    """Where a measurement differs from its plan, operation by operation; empty if nowhere."""
    wanted = {row["name"]: row for row in plan["operations"]}
    got = {row["name"]: row for row in measurement["operations"]}
    names = [*wanted, *(name for name in got if name not in wanted)]
    return [
        f"{name}: {key}: planned {wanted.get(name, {}).get(key)}, measured {got.get(name, {}).get(key)}"
        for name in names
        for key in COST_KEYS
        if wanted.get(name, {}).get(key) != got.get(name, {}).get(key)
    ]


def table(operations: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Operations summed over layers, one row each."""
    timed = any("compute_s" in row for row in operations)
    result = Table(title=title, title_justify="left")
    result.add_column("operation", overflow="fold")
    columns = ["rounds", "sent MB", "dealt MB (S0 + S1)", *(["compute s", "wait s"] if timed else [])]
    for column in columns:
        result.add_column(column, justify="right")
    groups: dict[str, list[float]] = {}
    for row in operations:
        head, _, rest = str(row["name"]).partition("/")
        name = f"layers/{rest}" if head.startswith("layer") else str(row["name"])
        values = [row["rounds"], row["sent_bytes"] / 1e6, sum(row["dealt_bytes"]) / 1e6]
        values += [row.get("compute_s", 0.0), row.get("wait_s", 0.0)] if timed else []
        known = groups.setdefault(name, [0.0] * len(values))
        groups[name] = [a + b for a, b in zip(known, values, strict=True)]
    total = [sum(column) for column in zip(*groups.values(), strict=True)]
    for name, values in groups.items():
        result.add_row(name, *_cells(values))
    result.add_section()
    result.add_row("total", *_cells(total), style="bold")
    return result


def _cells(values: Sequence[float]) -> list[str]:
    return [f"{values[0]:.0f}", *(f"{value:.2f}" for value in values[1:])]


def show(console: Console, title: str, rows: Mapping[str, object]) -> None:
    """A small two-column table of facts."""
    grid = Table(title=title, title_justify="left", show_header=False)
    grid.add_column()
    grid.add_column()
    for name, value in rows.items():
        grid.add_row(name, str(value))
    console.print(grid)


def machine() -> str:
    """The machine in words: processor, cores, system."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def commit(source: Path = Path(__file__)) -> str:
    """What code is running: its commit, with a + if files differ from it, or else its version, as "version 0.1.0".

    The commit is that of the checkout which `source` belongs to. A copy that was installed into another project's
    repository belongs to none: that repository does not track it.
    """
    source = source.resolve()
    try:
        _git(source.parent, "ls-files", "--error-unmatch", source.name)
        return _git(source.parent, "describe", "--always", "--dirty=+", "--abbrev=10")
    except (OSError, subprocess.SubprocessError):
        return f"version {mpcnet.__version__}"


def _git(folder: Path, *arguments: str) -> str:
    """What git says in the folder, whatever repository the caller's environment names.

    :raises OSError: there is no git.
    :raises subprocess.SubprocessError: it fails: no repository, or none that it trusts; no such file in it.
    """
    own = {name: value for name, value in os.environ.items() if name not in GIT}
    line = ["git", "-C", str(folder), *arguments]
    ended = subprocess.run(line, env=own, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return ended.stdout.strip()
