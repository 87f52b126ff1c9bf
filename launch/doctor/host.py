"""The doctor's look at the program and at this machine: calibration, kernels, device, names, memory, disk."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import socket
from collections.abc import Iterator

import mpcnet
from mpcnet.arrays import accelerator
from mpcnet.arrays.native import library
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.doctor.findings import Finding, attempt, error, ok, warning
from mpcnet.launch.party.budget import RUNTIME_BYTES, run_bytes
from mpcnet.models.families.config import Config
from mpcnet.models.formats.planner import WINDOW_BITS
from mpcnet.models.private import program
from mpcnet.models.private.program import Plans, Size, least_length
from mpcnet.transport.handshake import FORMAT_VERSION
from mpcnet.transport.tls import parse_address

LENGTH = 128  # tokens of the request whose memory is planned
ROOM = 0.8  # of the machine: the system and the kernels' own buffers need the rest


def check_program(config: Config) -> list[Finding]:
    """The public program: what it is, and whether its calibrated ranges make sense."""
    shape, digest = config.shape, program.digest(config).hex()[:16]
    what = f"{shape.layers} layers, {shape.hidden} wide, {config.suite.name} suite, {config.formats.softmax} softmax"
    versions = f"format version {FORMAT_VERSION}, mpcnet {mpcnet.__version__}"
    found = [ok("program", f"{what}; {versions}, digest {digest}")]
    if wrong := list(_unsound(config)):
        return [*found, error("calibration", "; ".join(wrong), "make the program again with mpcnet init")]
    text = f"{len(config.formats.rows)} ranges, for texts of up to {config.formats.longest} tokens"
    return [*found, ok("calibration", text)]


def _unsound(config: Config) -> Iterator[str]:
    """Ranges that no calibration makes, and ranges that a run would miss."""
    formats = config.formats
    for site, rows in formats.rows.items():
        if not 0 < rows.low < rows.high < math.inf:
            yield f"{site}: want 0 < low < high, got {rows.low:g} and {rows.high:g}"
    if len(formats.value_sizes) != config.shape.layers or not all(0 < size < math.inf for size in formats.value_sizes):
        yield f"value_sizes: want {config.shape.layers} numbers > 0, got {list(formats.value_sizes)}"
    if not 0 < formats.longest <= config.shape.positions:
        yield f"longest: want 1 to {config.shape.positions} tokens, got {formats.longest}"
    bits = [window.bits for layer in formats.windows for window in layer]
    if formats.softmax == "exact" and (
        len(formats.windows) != config.shape.layers or not set(bits) <= set(WINDOW_BITS)
    ):
        yield f"windows: want one of {' or '.join(map(str, WINDOW_BITS))} bits in each layer, got {bits}"
    if not 0 <= formats.table_frac <= formats.table_bits - 2 <= 62:
        yield f"table: want fraction bits in a ring, got {formats.table_frac} in {formats.table_bits} bits"
    layers = [f"layer{i}" for i in range(config.shape.layers)]
    norms = ["embedding", *(f"{layer}.{part}" for layer in layers for part in ("out", "down"))]
    try:
        for site in norms:
            formats.norm_rows(site)
        for layer in range(config.shape.layers):
            formats.softmax_rows(layer, LENGTH)
    except KeyError as missing:
        yield f"{missing.args[0]}: want a range, got none"


def check_kernels() -> Finding:
    """Whether the native kernels are there, and what they may use of this processor."""
    if library.best() < 0:
        return warning("kernels", *library.MISSING.split("; "))
    return ok("kernels", library.level())


def check_device(settings: Settings) -> list[Finding]:
    """Whether the device is there, for those who compute on one."""
    found: list[Finding] = []
    name = settings.device
    what = attempt("device", "correct device in party.toml", lambda: accelerator.describe(name), found)
    return found if what is None else [ok("device", name if what == name else f"{name}: {what}")]


async def check_names(addresses: dict[str, str]) -> tuple[list[Finding], set[str]]:
    """Whether each of these hosts is known here; the roles of those that are."""
    loop, found, known = asyncio.get_running_loop(), [], set()
    for role, address in addresses.items():
        host, port = parse_address(address)
        try:
            places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as failure:
            advice = f"set addresses.{role} to a name or number that this machine can resolve"
            found.append(error(f"address of {role}", f"{address}: {failure.strerror}", advice))
        else:
            known.add(role)
            resolved = ", ".join(dict.fromkeys(str(place[4][0]) for place in places))
            found.append(ok(f"address of {role}", f"{address}" if resolved == host else f"{address} is {resolved}"))
    return found, known


def check_memory(plans: Plans, total_bytes: int) -> Finding:
    """A server's planned peak for one request against the memory of this machine."""
    size = _usual(plans)
    plan = plans.infer(size)
    peak = RUNTIME_BYTES + plans.load.kept_bytes + run_bytes(plan) + max(plan.ledger.total().dealt_bytes)
    text = f"{size.batch} x {size.length} tokens need {peak / 1e9:.2f} GB, this machine has {total_bytes / 1e9:.2f} GB"
    if peak > total_bytes:
        return error("memory", text, "take a machine (or a MemoryMax) with more")
    if peak > ROOM * total_bytes:
        return warning("memory", text, "longer texts, batches and other programs will not fit beside it")
    return ok("memory", text)


def _usual(plans: Plans) -> Size:
    return Size(1, least_length(plans.config, LENGTH))


def check_disk(plans: Plans, settings: Settings) -> Finding:
    """Room for the tapes that the settings ask for ahead of requests, and for one request more."""
    longest = plans.config.formats.longest
    if late := [f"{size.batch}x{size.length}" for size in settings.ahead_sizes if size.length > longest]:
        return error("tapes", f"ahead: {', '.join(late)}, the program takes {longest} tokens", "ask for shorter ones")
    folder = settings.folder / settings.tapes
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return error("tapes", f"{there} is no folder that we may write to", "name another, or change its owner")
    sizes = [_usual(plans), *settings.ahead_sizes * settings.ahead_runs]
    need = sum(max(plans.infer(size).ledger.total().dealt_bytes) for size in sizes)
    free = shutil.disk_usage(there).free
    text = f"{len(sizes)} runs need {need / 1e9:.2f} GB, {there} has {free / 1e9:.2f} GB free"
    if need > free:
        return error("tapes", text, "free some, name another folder, or lower ahead_runs")
    return ok("tapes", text)
