"""Load: many clients at once, each with one request after the other, and a lone client beside them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import MpcError
from mpcnet.launch.api.session import Session
from mpcnet.launch.deployment import settings
from mpcnet.launch.party.edge import PER_IDENTITY
from mpcnet.launch.party.node import Node, open_node
from mpcnet.launch.simulation.network import Loopback
from mpcnet.launch.simulation.processes import Deployment, deployment
from mpcnet.models.private.prepare import Prepared, prepare, random_tokens
from mpcnet.models.texts.tokens import Tokens

COMMANDS = {"server0": "party", "server1": "party", "dealer": "dealer", "owner": "serve-model"}
SERVERS = ("server0", "server1")
EACH = PER_IDENTITY // 2  # clients of one certificate

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """So many clients for so long: requests answered and failed, seconds of an answer, and memory of the servers.

    `lone_p50_s` is the median of one client more, with requests of one sentence and a certificate of its own.
    """

    clients: int
    batch: int
    tokens: int
    seconds: float
    answered: int
    failed: int
    sentences_per_s: float
    p50_s: float
    p99_s: float
    lone_p50_s: float
    resident_bytes: dict[str, int]


@dataclass(slots=True)
class _Count:
    answered: list[float]
    failed: int = 0


def measure(
    model: str, steps: list[int], seconds: float, batch: int, tokens: int, memory_mib: int, say: Say
) -> list[dict[str, Any]]:
    """Each step on the same deployment on this machine, over TLS.

    :raises MpcError: the parties cannot be started.
    """
    prepared = prepare(model, "fast", None, say=say)
    roles = tuple(f"client:load{number}" for number in range(-(-max(steps) // EACH) + 1))
    more: dict[str, Any] = {"memory_mib": memory_mib} if memory_mib else {}
    with deployment(prepared.config, Loopback(), 1, 60.0, more_roles=roles, **more) as made:
        for role, command in COMMANDS.items():
            made.start(role, command, *(["--model", model] if role == "owner" else []))
        made.ready(SERVERS)
        nodes = [open_node(settings.read(made.config(role))) for role in roles]
        found = []
        for clients in steps:
            say(f"{clients} clients")
            found.append(asdict(asyncio.run(_step(made, nodes, prepared, clients, seconds, batch, tokens))))
        return found


async def _step(
    made: Deployment, nodes: list[Node], prepared: Prepared, clients: int, seconds: float, batch: int, tokens: int
) -> Load:
    texts, text = random_tokens(prepared.checkpoint, batch, tokens), random_tokens(prepared.checkpoint, 1, tokens)
    flood, lone = _Count([]), _Count([])
    asking = [asyncio.ensure_future(_ask(nodes[1 + i // EACH], texts, flood)) for i in range(clients)]
    asking.append(asyncio.ensure_future(_ask(nodes[0], text, lone)))
    start = time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - start
    answered, alone = sorted(flood.answered), sorted(lone.answered)
    await end_tasks(*asking)
    return Load(
        clients, batch, tokens, elapsed, len(answered), flood.failed + lone.failed,
        sentences_per_s=(len(answered) * batch + len(alone)) / elapsed,
        p50_s=_part(answered, 0.5), p99_s=_part(answered, 0.99), lone_p50_s=_part(alone, 0.5),
        resident_bytes={role: _resident(process.pid) for role, process in made.running.items()},
    )  # fmt: skip


async def _ask(node: Node, tokens: Tokens, count: _Count) -> None:
    async with Session(node) as session:
        while True:
            start = time.monotonic()
            try:
                await session.ask_all(tokens)
                count.answered.append(time.monotonic() - start)
            except MpcError:
                count.failed += 1


def _part(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
