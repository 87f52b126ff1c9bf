"""What happens to a cluster: drawn from the seed, before anything of it happens."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.cluster.plain import REVOKED
from tests.cluster.tamper import WAYS
from tests.cluster.world import ALL, PARTIES, SERVERS

LASTS_S = 16.0  # faults happen until then

CLIENTS = (
    "honest", "honest", "honest", "honest", "slow", "stops", "leaves", "one server", "floods", "revoked", "says nothing",
    "stranger",
)  # fmt: skip
FAULTS = ("kill", "kill", "lost host", "restart", "stop", "reset", "silence", "full disk", "tamper")
LINES = (
    *(("server0", "server1"), ("server0", "dealer"), ("server1", "dealer")) * 2,
    ("owner", "server0"),
    ("owner", "server1"),
)
PLANNED = (
    ("server0", "server1"),
    ("server1", "server0"),
    ("dealer", "server0"),
    ("dealer", "server1"),
)  # who sends frames of runs to whom


@dataclass(frozen=True)
class Fault:
    """At `at_s`, or when `frames` more were sent by then, `what` happens to `whom`, and for `seconds`."""

    at_s: float
    frames: int
    what: str
    whom: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Visitor:
    """A client: it comes at `at_s` and asks for these texts, one after the other."""

    name: str
    kind: str
    at_s: float
    texts: tuple[int, ...]
    audit: bool
    pause_s: float


@dataclass(frozen=True)
class Scenario:
    settings: dict[str, Any]
    knobs: dict[str, float]  # limits in the code that are so large that a small cluster would not meet them
    starts: dict[str, float]
    faults: tuple[Fault, ...]
    visitors: tuple[Visitor, ...]
    work_s: float
    last: int


def scenario(draw: random.Random, texts: int) -> Scenario:
    calm = draw.random() < 0.15
    count = 0 if calm else 1 + int(4 * draw.random() ** 2)
    return Scenario(
        _settings(draw),
        {
            "AHEAD_BYTES": draw.choice((64 << 20, 64 << 20, 6000, 500)),
            "HEAVY_BYTES": draw.choice((1 << 16, 1 << 16, 1 << 8)),
            "PER_CLIENT": draw.choice((64, 2)),
            "MAX_CONNECTIONS": draw.choice((512, 512, 3)),
            "KEPT_S": 30.0,
            "WINDOW": draw.choice((1 << 18, 1 << 18, 1 << 11)),
        },
        {role: draw.choice((0.0, 0.0, 3 * draw.random())) for role in PARTIES},
        tuple(_fault(draw) for _ in range(count)),
        tuple(_visitor(draw, f"client:{index}", texts) for index in range(1 + int(3 * draw.random()))),
        draw.choice((0.0, 0.002, 0.05)),
        draw.randrange(texts),
    )


def _settings(draw: random.Random) -> dict[str, Any]:
    ahead = draw.random() < 0.4
    found: dict[str, Any] = {
        "batch_tokens": draw.choice((4, 8)),
        "streams": draw.choice((1, 1, 2)),
        "buffer_mib": draw.choice((1, 1, 0)),
        "queue_mib": 1,
    }
    if ahead:
        found |= {"ahead_runs": draw.choice((1, 2)), "tapes": draw.choice(("", "tapes", "tapes"))}
    return found


def _fault(draw: random.Random) -> Fault:
    what = draw.choice(FAULTS)
    at_s = LASTS_S * draw.random() ** 1.5
    frames = 0 if draw.random() < 0.3 else int(120 * draw.random())
    seconds = 12 * draw.random() ** 2
    match what:
        case "stop" | "kill" | "lost host" | "restart":
            return Fault(at_s, frames, what, (draw.choice(PARTIES if what != "stop" else ALL),), seconds)
        case "full disk":
            return Fault(at_s, frames, what, (draw.choice(SERVERS),), seconds)
        case "tamper":
            return Fault(at_s, frames, what, (*draw.choice(PLANNED), draw.choice(WAYS)), 1 + draw.randrange(12))
        case _:
            return Fault(at_s, frames, what, draw.choice(LINES), seconds)


def _visitor(draw: random.Random, name: str, texts: int) -> Visitor:
    kind = draw.choice(CLIENTS)
    count = {"honest": 1 + draw.randrange(2), "floods": 4}.get(kind, 1)
    chosen = tuple(draw.randrange(texts) for _ in range(count))
    return Visitor(
        REVOKED if kind == "revoked" else name,
        kind,
        LASTS_S * 0.9 * draw.random(),
        chosen,
        draw.random() < 0.2,
        draw.choice((0.0, 2 * draw.random())),
    )
