"""What happens to a cluster: drawn from the seed, before anything of it happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from tests.cluster.flips import WHERE
from tests.cluster.plain import REVOKED
from tests.cluster.roles import ALL, PARTIES, REPLICAS, SERVERS
from tests.cluster.tamper import WAYS, Cut

LASTS_S = 16.0  # faults happen until then

CLIENTS = (
    "honest", "honest", "honest", "honest", "slow", "stops", "leaves", "half requests", "disagrees", "floods", "hurried",
    "too large", "revoked", "revoked", "says nothing", "stranger",
)  # fmt: skip
FAULTS = (
    "kill", "kill", "lost host", "restart", "stop", "reset", "silence", "full disk", "no descriptors", "tamper",
)  # fmt: skip
GENTLE = ("no descriptors", "the dealer dies in a run")  # of which no answer is lost
CUT = (
    "queued",
    "queued",
    "ready",
    "ready",
    "result",
    "result",
)  # frames of a server behind which its client is cut off
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
    """A client: it comes at `at_s` and asks for these texts, one after the other, each within `wait_s`."""

    name: str
    kind: str
    at_s: float
    texts: tuple[int, ...]
    audit: bool
    pause_s: float
    wait_s: float


@dataclass(frozen=True)
class Scenario:
    """With `gentle` the computing parties live, and hear each other: no client may lose its answer, whatever becomes of
    its line and whatever other clients do.
    """

    gentle: bool
    settings: dict[str, Any]
    knobs: dict[str, float]  # limits in the code that are so large that a small cluster would not meet them
    starts: dict[str, float]
    faults: tuple[Fault, ...]
    cuts: tuple[Cut, ...]
    visitors: tuple[Visitor, ...]
    work_s: float
    last: int
    short_of_memory: str  # who has so little that a run of one sentence fits, and hardly more; "" for nobody
    replicas: tuple[str, ...] = ()

    @property
    def flips_only(self) -> bool:
        """Nothing goes wrong but that a server flips a bit."""
        return [fault.what for fault in self.faults] == ["flip"]


def scenario(seed: int, texts: int) -> Scenario:
    """Of this seed, for a model with so many texts."""
    return with_replicas(random.Random(f"twins of {seed}"), _scenario(random.Random(seed), texts))


def with_replicas(draw: random.Random, plan: Scenario) -> Scenario:
    """The same, with replicas of both servers, of one, or of none, and what happens to them."""
    replicas = draw.choice(((), (), (), REPLICAS[:1], REPLICAS[1:], REPLICAS))
    knobs: dict[str, float] = {"FORWARD_BYTES": 64 << 20, "HELD_BYTES": draw.choice((256 << 20, 2000, 100))}
    knobs["HIGH_WATER"] = draw.choice((1 << 20, 4096))
    if replicas and draw.random() < 0.3:  # whoever passes on waits for whoever reads
        knobs |= {"FORWARD_BYTES": 100, "HIGH_WATER": 256, "WINDOW": 512}
    plan = replace(plan, replicas=replicas, knobs=plan.knobs | knobs)
    if not replicas:
        return plan
    faults = plan.faults
    if not plan.gentle:
        flip = _flip(draw, draw.choice(replicas))
        more = [_replica_fault(draw, draw.choice(replicas)) for _ in range(int(3 * draw.random()))]
        faults = draw.choice(((flip,), (flip, *faults), (*more, *faults), (*more, flip), tuple(more)))
    short = draw.choice((*[plan.short_of_memory] * 5, replicas[0]))
    starts = {name: draw.choice((0.0, 0.0, 3 * draw.random())) for name in replicas}
    return replace(plan, starts=plan.starts | starts, faults=faults, short_of_memory=short)


def _flip(draw: random.Random, replica: str) -> Fault:
    """By the server that this replica looks at."""
    where = draw.choice(WHERE)
    at_s = 0.0 if where == "loading" else LASTS_S / 2 * draw.random()
    most = {"run": 12, "loading": 2, "answer": 2}[where]
    return Fault(at_s, 0, "flip", (SERVERS[REPLICAS.index(replica)], where), 1 + draw.randrange(most))


def _replica_fault(draw: random.Random, replica: str) -> Fault:
    what = draw.choice(("kill", "lost host", "restart", "stop", "stop", "reset", "silence", *["tamper"] * 4))
    at_s = LASTS_S * draw.random() ** 1.5
    frames = 0 if draw.random() < 0.3 else int(120 * draw.random())
    ends = (replica, draw.choice(SERVERS))
    if what == "tamper":
        server = SERVERS[REPLICAS.index(replica)]
        pair = draw.choice(((server, replica), (server, replica), ends[::-1], ends))
        return Fault(at_s, frames, what, (*pair, draw.choice(WAYS)), 1 + draw.randrange(30 if pair[0] == server else 3))
    return Fault(at_s, frames, what, ends if what in ("reset", "silence") else (replica,), 12 * draw.random() ** 2)


def _scenario(draw: random.Random, texts: int) -> Scenario:
    gentle = draw.random() < 0.35
    count = int(draw.random() < 0.4) if gentle else 0 if draw.random() < 0.15 else 1 + int(4 * draw.random() ** 2)
    visitors = tuple(_visitor(draw, f"client:{index}", texts) for index in range(1 + int(4 * draw.random())))
    return Scenario(
        gentle,
        _settings(draw),
        {
            "AHEAD_BYTES": draw.choice((64 << 20, 64 << 20, 6000, 500)),
            "HEAVY_BYTES": draw.choice((1 << 16, 1 << 16, 1 << 8)),
            "PER_CLIENT": 64 if gentle else draw.choice((64, 2)),
            "MAX_CONNECTIONS": 512 if gentle else draw.choice((512, 512, 3)),
            "SILENT": draw.choice((256, 2)) if not gentle else 256,
            "BACKLOG": draw.choice((128, 2)) if not gentle else 128,
            "AT_ONCE": draw.choice((64, 1)),
            "KEPT_S": 30.0,
            "WINDOW": draw.choice((1 << 18, 1 << 18, 1 << 11)),
        },
        {role: draw.choice((0.0, 0.0, 3 * draw.random())) for role in PARTIES},
        tuple(_gentle(draw) if gentle else _fault(draw) for _ in range(count)),
        tuple(cut for each in visitors for cut in _cuts(draw, each)),
        visitors,
        draw.choice((0.0, 0.002, 0.05)),
        draw.randrange(texts),
        draw.choice(("", "", "", *ALL)),
    )


def _settings(draw: random.Random) -> dict[str, Any]:
    ahead = draw.random() < 0.4
    found: dict[str, Any] = {
        "batch_tokens": draw.choice((4, 8)),
        "streams": draw.choice((1, 1, 2)),
        "buffer_mib": draw.choice((1, 1, 0)),
        "queue_mib": 1,
    }
    if draw.random() < 0.2:
        found["record"] = "records"
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
        case "full disk" | "no descriptors":
            return Fault(at_s, frames, what, (draw.choice(SERVERS),), seconds)
        case "tamper":
            return Fault(at_s, frames, what, (*draw.choice(PLANNED), draw.choice(WAYS)), 1 + draw.randrange(12))
        case _:
            return Fault(at_s, frames, what, draw.choice(LINES), seconds)


def _gentle(draw: random.Random) -> Fault:
    what = draw.choice(GENTLE)
    return Fault(LASTS_S / 2 * draw.random(), 0, what, (draw.choice(SERVERS),), 3 * draw.random())


def _cuts(draw: random.Random, visitor: Visitor) -> list[Cut]:
    count = 0 if draw.random() < 0.5 or visitor.kind in ("half requests", "disagrees") else 1 + draw.randrange(3)
    return [
        Cut(
            draw.choice(SERVERS), visitor.name, draw.choice(CUT), 1 + draw.randrange(2), int(40 * draw.random() ** 2),
            draw.choice((0.0, 0.0, 15 * draw.random())), draw.random() < 0.3,
        )
        for _ in range(count)
    ]  # fmt: skip


def _visitor(draw: random.Random, name: str, texts: int) -> Visitor:
    kind = draw.choice(CLIENTS)
    count = {"honest": 1 + draw.randrange(2), "revoked": 3, "floods": 4, "half requests": 8}.get(kind, 1)
    chosen = tuple(draw.randrange(texts) for _ in range(count))
    return Visitor(
        draw.choice((REVOKED, name)) if kind == "revoked" else name,
        kind,
        LASTS_S * 0.9 * draw.random(),
        chosen,
        draw.random() < 0.2,
        draw.choice((0.0, 2 * draw.random())),
        10.0 * draw.random() ** 2 if kind in ("hurried", "half requests", "disagrees") else 100.0,
    )
