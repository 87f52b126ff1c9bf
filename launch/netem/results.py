"""Points of a grid of latency experiments, what was measured at each, and the file of JSON lines that holds them.

A line is written when its point is done, so a grid that was cut short goes on where it stopped. A point that is
measured again gets another line; its last one counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcnet.launch.reporting import jsonlines
from mpcnet.transport.latency import Link

FILE = "results.jsonl"


@dataclass(frozen=True, slots=True, order=True)
class Work:
    """What is computed, one round after the other, and how the networks are made on which it is."""

    how: str
    model: str
    suite: str
    softmax: str
    length: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.suite}, {self.softmax}, {self.batch} x {self.length} tokens"


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One experiment: how the network is made, what is computed, and over which link."""

    how: str
    model: str
    suite: str
    softmax: str
    length: int
    batch: int
    streams: int
    bandwidth_bps: float
    rtt_s: float

    @property
    def work(self) -> Work:
        return Work(self.how, self.model, self.suite, self.softmax, self.length, self.batch)

    @property
    def link(self) -> Link:
        """The link that is asked for."""
        return Link(rtt_s=self.rtt_s, bandwidth_bps=self.bandwidth_bps)

    @property
    def link_name(self) -> str:
        return f"{rtt_name(self.rtt_s)}, {rate_name(self.bandwidth_bps)}"

    @property
    def size_name(self) -> str:
        streams = f", {self.streams} streams" if self.streams > 1 else ""
        return f"{self.batch} x {self.length} tokens{streams}"

    @property
    def work_name(self) -> str:
        return f"{self.suite}, {self.softmax}, {self.size_name}"


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the timed requests, in seconds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Base:
    """A work over no link at all: what its time holds beside rounds, bytes and compute, at any link."""

    work: Work
    n: int
    probe: dict[str, Any]  # of the same network: what is known of it is no overhead
    seconds_online: Spread
    rounds: float
    compute_s: float
    explained_s: float  # by the terms of the prediction, compute among them
    overhead_s: float  # all of the rest
    between_rounds_s: float  # what server0 waited of it; the others are before its first round and behind its last
    commit: str
    machine: str
    cores: int


@dataclass(frozen=True, slots=True)
class Result:
    """A point that went well. Counts and compute are of the mean request, as server0 measured them."""

    point: Point
    n: int
    probe: dict[str, Any]
    seconds_upload: Spread
    seconds_offline: Spread
    seconds_online: Spread
    seconds_total: Spread
    rounds: float
    sent_bytes: float
    offline_bytes: float
    compute_s: float
    wait_s: float
    delay_s: float  # the terms of the prediction; its compute is the measured one
    transfer_s: float
    overhead_s: float  # that of its work's base; 0 with several streams
    predicted_s: float
    residual: float  # measured / predicted - 1
    operations: list[dict[str, Any]]
    min_cosine: float
    commit: str
    machine: str
    cores: int
    relay: dict[str, Any] | None = None  # of a network by tun: what its relay did in the whole deployment

    @property
    def probed(self) -> Link:
        """The link as the probes found it."""
        return Link(rtt_s=self.probe["rtt_s"], bandwidth_bps=self.probe["goodput_bps"])


@dataclass(frozen=True, slots=True)
class Failure:
    """A point that failed: its error in one line."""

    point: Point
    error: str
    commit: str
    machine: str


Row = Result | Failure | Base


def key(row: Row) -> Point | Work:
    """What the row is about; the last row of each counts."""
    return row.work if isinstance(row, Base) else row.point


def load(folder: Path) -> dict[Point | Work, Row]:
    """The last row of each point and work; none if the folder has no results yet. A last line cut short is left out.

    :raises LocalConfigError: the file cannot be read, or a line is no result.
    """
    return {key(row): row for row in jsonlines.load(folder / FILE, _row)}


def append(folder: Path, row: Row) -> None:
    """Write one line, and see that it is on the disk.

    :raises LocalConfigError: it cannot be written.
    """
    jsonlines.append(folder / FILE, asdict(row))


def _row(fields: dict[str, Any]) -> Row:
    if "work" in fields:
        work, online = Work(**fields.pop("work")), Spread(**fields.pop("seconds_online"))
        return Base(work, seconds_online=online, **fields)
    point = Point(**fields.pop("point"))
    if "error" in fields:
        return Failure(point, **fields)
    for key in ("seconds_upload", "seconds_offline", "seconds_online", "seconds_total"):
        fields[key] = Spread(**fields[key])
    return Result(point, **fields)


def rtt_name(rtt_s: float) -> str:
    """In milliseconds."""
    return f"{rtt_s * 1e3:g} ms"


def rate_name(bandwidth_bps: float) -> str:
    """In Mbit/s or Gbit/s."""
    return f"{bandwidth_bps / 1e9:g} Gbit/s" if bandwidth_bps >= 1e9 else f"{bandwidth_bps / 1e6:g} Mbit/s"
