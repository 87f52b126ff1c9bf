"""`mpcnet bench kernels`: each kernel at the sizes of BERT-base with 128 tokens, against torch and against its bound.

The bound of a product is what this core multiplies and adds per second with the same instructions on registers alone;
that of a pass over memory is what torch copies per second. Both are measured between the runs of the kernel. A single
thread is timed by its own CPU clock, so that what else runs on the machine counts less.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mpcnet.arrays import bitmatrix, ring
from mpcnet.arrays.native import bound, library
from mpcnet.errors import LocalInputError
from mpcnet.launch.party.heap import keep_freed
from mpcnet.launch.reporting import report
from mpcnet.randomness.prg import SEED_BYTES, Domain, Guard, Keystream
from mpcnet.rounds import Part

TOKENS, HIDDEN, FFN, HEADS, VOCAB = 128, 768, 3072, 12, 30_522  # BERT-base
LONGEST_S = 2.0  # of the runs of one formula: slow ones run less often than asked for
BOUND_WORK = 1 << 26  # multiply-adds: some milliseconds

Run = Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A kernel, torch's formula for the same, and the seconds below which neither can go."""

    name: str
    size: str
    bits: int
    kernel: Run
    torch: Run | None
    bound_s: Callable[[], float] | None


def words(shape: Sequence[int], bits: int) -> Tensor:
    """Uniform words, in the ring."""
    stream = Keystream(bytes(SEED_BYTES), Domain(b"bench", 0, f"{shape} {bits}"), Guard())
    return ring.reduce(stream.words(shape, bits), bits)


def cases(combine: ring.Combine) -> Iterator[Case]:
    """Everything that is measured, one after the other, since some of it is large; products by weights by `combine`."""
    yield _linear(combine, "query, key, value", 48, HIDDEN, 3 * HIDDEN)
    yield _linear(combine, "attention output", 40, HIDDEN, HIDDEN)
    yield _linear(combine, "up", 40, HIDDEN, FFN)
    yield _linear(combine, "down", 40, FFN, HIDDEN)
    yield _lookup("embedding", 16)
    yield _lookup("embedding, wide", 24)
    yield _linear(combine, "64 bits", 64, HIDDEN, HIDDEN)
    keys = words((HEADS, TOKENS, HIDDEN // HEADS), 32).transpose(1, 2)
    yield _product("scores", 32, words((HEADS, TOKENS, HIDDEN // HEADS), 32), keys)
    values = words((HEADS, TOKENS, HIDDEN // HEADS), 40)
    yield _product("context", 40, words((HEADS, TOKENS, TOKENS), 40), values)
    for bits in (22, 24, 40, 48):
        yield from _packing(bits)
    yield _keystream()


def _linear(combine: ring.Combine, name: str, bits: int, depth: int, columns: int) -> Case:
    """[x] W^ - x^ [r_W] + cross, as a server computes it, from weights at wire width."""
    share, opened = words((TOKENS, depth), bits), words((TOKENS, depth), bits)
    weight, mask = words((depth, columns), bits), words((columns, depth), bits).t().contiguous()
    cross = words((TOKENS, columns), bits)
    terms = ((1, share, ring.narrow(weight, bits)), (-1, opened, ring.narrow(mask, bits)))
    return Case(
        name, f"2 x {TOKENS} x {depth} x {columns}", bits,
        lambda: combine(terms, cross, bits),
        lambda: share @ weight - opened @ mask + cross,
        None if combine is not ring.combine else lambda: 2 * TOKENS * depth * columns / _rate(bits),
    )  # fmt: skip


def _lookup(name: str, bits: int) -> Case:
    """[x] W^ + x^ [r_W] mod 2, as a server computes it: sums of rows of words of `bits` bits."""
    columns = HIDDEN * bits // 8
    chosen, opened = (words((TOKENS, 8 * ((VOCAB + 7) // 8)), 1).reshape(TOKENS, -1) for _ in range(2))
    table, mask = (words((VOCAB, 8 * columns), 1).reshape(VOCAB, columns) for _ in range(2))
    terms = (chosen, table), (opened, mask)
    return Case(
        name, f"2 x {TOKENS} x {VOCAB} x {HIDDEN}", bits,
        lambda: bitmatrix.product(*terms), lambda: bitmatrix.product_in_numpy(*terms), None,
    )  # fmt: skip


def _product(name: str, bits: int, a: Tensor, b: Tensor) -> Case:
    work = a.numel() * b.shape[-1]
    return Case(
        name, " x ".join(map(str, (*a.shape, b.shape[-1]))), bits,
        lambda: ring.matmul(a, b, bits),
        lambda: a @ b,
        lambda: work / _rate(bits),
    )  # fmt: skip


def _rate(bits: int) -> float:
    """Multiply-adds a second of the processor; infinite where the level has no instructions of its own."""
    done = 0

    def run() -> None:
        nonlocal done
        done = bound.multiply_adds(bits, BOUND_WORK)

    seconds = _seconds(run)
    return torch.get_num_threads() * done / seconds if done else float("inf")


def _packing(bits: int) -> Iterator[Case]:
    """The wire form of the feed-forward layer's activations: made, made of a difference, read, and opened."""
    shape = (TOKENS, FFN)
    mine, other, part = words(shape, bits), words(shape, bits), Part(bits, shape)
    raw = ring.pack(mine, bits).copy()
    stored, width = mine.element_size(), (bits + 7) // 8

    def pack(x: Tensor) -> object:
        return np.ascontiguousarray(ring.reduce(x, bits).numpy().view(np.uint8).reshape(-1, stored)[:, :width])

    def unpack() -> Tensor:
        wide = np.zeros((raw.size // width, stored), np.uint8)
        wide[:, :width] = raw.reshape(-1, width)
        return ring.from_stored(wide.reshape(-1), bits, shape)

    def case(name: str, kernel: Run, torch: Run, tensors: int) -> Case:
        moved = mine.numel() * (tensors * stored + width)
        return Case(name, f"{TOKENS} x {FFN}", bits, kernel, torch, lambda: moved / _copy_rate(moved // 2))

    yield case("pack", lambda: ring.pack(mine, bits), lambda: pack(mine), 1)
    difference = case(
        "pack a difference", lambda: ring.pack_difference(mine, other, bits), lambda: pack(mine - other), 2
    )
    yield difference
    yield case("unpack", lambda: ring.unpack(raw, part), unpack, 1)
    yield case("open", lambda: ring.unpack_opened(mine, raw, part), lambda: ring.reduce(mine + unpack(), bits), 2)


def _copy_rate(nbytes: int) -> float:
    """Bytes read and written a second by a copy of so many."""
    source, target = torch.zeros(nbytes, dtype=torch.uint8), torch.zeros(nbytes, dtype=torch.uint8)
    return 2 * nbytes / _seconds(lambda: target.copy_(source))


def _keystream() -> Case:
    shape = (TOKENS, 8 * FFN)
    stream = Keystream(bytes(SEED_BYTES), Domain(b"bench", 1, "keystream"), Guard())
    return Case("keystream", f"{TOKENS} x {8 * FFN}", 64, lambda: stream.words(shape, 64), None, None)


def measure(case: Case, runs: int) -> dict[str, Any]:
    """Median, least and largest seconds of a kernel; torch's and the bound's medians."""
    case.kernel()
    timed: list[float] = []
    bounds: list[float] = []
    formula: list[float] = []
    while len(timed) < runs and (len(timed) < 3 or sum(timed) < LONGEST_S):
        timed.append(_seconds(case.kernel))
        bounds.append(case.bound_s() if case.bound_s else 0.0)
        if case.torch and (len(formula) < 1 or sum(formula) < LONGEST_S):
            formula.append(_seconds(case.torch))
    return {
        "bench": "kernels",
        "kernel": case.name,
        "size": case.size,
        "bits": case.bits,
        "n": len(timed),
        "seconds_median": statistics.median(timed),
        "seconds_min": min(timed),
        "seconds_max": max(timed),
        "torch_n": len(formula),
        "torch_seconds_median": statistics.median(formula) if formula else None,
        "bound_seconds": statistics.median(bounds) or None,
    }


def _seconds(run: Run) -> float:
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def bench(runs: int, only: str, combine: ring.Combine, device: str, console: Console) -> None:
    """JSON lines on standard output, a table on the console. Freed memory stays, as with a party.

    :raises LocalInputError: no kernel's name has `only` in it.
    """
    keep_freed()
    facts = {
        "kernels": library.level(), "threads": torch.get_num_threads(), "machine": report.machine(),
        "commit": report.commit(), "device": device,
    }  # fmt: skip
    rows, names = [], []
    for case in cases(combine):
        names.append(case.name)
        if only in case.name:
            with console.status(case.name):
                rows.append(measure(case, runs))
            print(json.dumps({**rows[-1], **facts}), flush=True)
    if not rows:
        raise LocalInputError(f"only: want a part of one of {'; '.join(dict.fromkeys(names))}, got {only!r}")
    title = "{kernels}, {threads} threads, device {device}; {machine}; {commit}".format(**facts)
    console.print(table(rows, title))


def table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Milliseconds, medians but for the spread of the kernel."""
    result = Table(title=title, title_justify="left")
    result.add_column("kernel", no_wrap=True)
    result.add_column("size", no_wrap=True)
    for name in ("bits", "n", "torch ms", "kernel ms", "spread ms", "bound ms", "of bound"):
        result.add_column(name, justify="right")
    for row in rows:
        median, least = row["seconds_median"], row["bound_seconds"]
        before = row["torch_seconds_median"]
        result.add_row(
            row["kernel"], row["size"], str(row["bits"]), str(row["n"]),
            f"{1e3 * before:.3f}" if before else "",
            f"{1e3 * median:.3f}", f"{1e3 * row['seconds_min']:.3f}-{1e3 * row['seconds_max']:.3f}",
            f"{1e3 * least:.3f}" if least else "",
            f"{least / median:.0%}" if least else "",
        )  # fmt: skip
    return result
