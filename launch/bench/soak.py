"""Endurance: requests in a row while one party after the other is killed and started again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import Tensor

from mpcnet.aio.tasks import together
from mpcnet.errors import MpcError
from mpcnet.launch.deployment import settings
from mpcnet.launch.party import client
from mpcnet.launch.party.monitor import cause_of
from mpcnet.launch.party.node import Node, open_node
from mpcnet.launch.requests.compare import check_one_row
from mpcnet.launch.simulation.network import Loopback
from mpcnet.launch.simulation.processes import Deployment, deployment
from mpcnet.models.float_model import reference
from mpcnet.models.private.prepare import Prepared, prepare, random_tokens
from mpcnet.models.texts.tokens import Tokens, encode

VICTIMS = ("server0", "server1", "dealer", "owner")
COMMANDS = {"server0": "party", "server1": "party", "dealer": "dealer", "owner": "serve-model"}
PARTS = 10  # of a run, each with its peak of memory: a leak shows
RIGHT = 0.999  # least cosine of a right answer; a wrong one is anywhere in [-1, 1]
TEXTS = ("It was over.", "A quiet film about two sisters.", "The soup was cold, but the company was warm.")


@dataclass(slots=True)
class Soak:
    """What to do, and what came of it."""

    requests: int
    every_s: float
    limit_s: float
    seed: int
    batch: int = 0  # random rows of `length` tokens; 0: short texts, one a request
    length: int = 64
    memory_mib: int = 0  # of each party; 0: a third of this machine's
    right: int = 0  # requests whose rows are all right or flagged
    flagged: int = 0  # rows
    wrong: int = 0
    hung: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    resident: list[tuple[float, str, int]] = field(default_factory=list)  # elapsed s, role, bytes

    def document(self, elapsed_s: float) -> dict[str, Any]:
        """For JSON: counts, seconds of right answers, and each process's peak of memory in each tenth of the run."""
        answered = sorted(self.seconds)
        memory = {role: [0] * PARTS for role in (*VICTIMS, "client")}
        for elapsed, role, nbytes in self.resident:
            part = min(int(PARTS * elapsed / elapsed_s), PARTS - 1)
            memory[role][part] = max(memory[role][part], nbytes)
        return {
            "requests": self.requests, "right": self.right, "flagged_rows": self.flagged, "wrong": self.wrong,
            "hung": self.hung, "errors": dict(self.errors), "restarts": dict(self.restarts), "seconds_run": elapsed_s,
            "seconds_median": answered[len(answered) // 2] if answered else None,
            "seconds_max": answered[-1] if answered else None,
            "peak_resident_bytes_by_tenth": memory,
        }  # fmt: skip


def soak(model: str, plan: Soak, console: Console) -> dict[str, Any]:
    """Run it on this machine, over TLS.

    :raises LocalInputError: the model has not so many positions.
    :raises MpcError: the parties cannot be started at all.
    """
    with console.status("preparing the model") as status:
        prepared = prepare(model, "fast", "exact", say=status.update)
    check_one_row(prepared.config.shape)
    questions = _questions(prepared, plan)
    limits: dict[str, Any] = {"memory_mib": plan.memory_mib} if plan.memory_mib else {}
    with deployment(prepared.config, Loopback(), 1, 30.0, **limits) as made, Progress(console=console) as progress:
        for role in VICTIMS:
            _start(made, role, model)
        node = open_node(settings.read(made.config("client")))
        start = time.monotonic()
        task = progress.add_task("requests", total=plan.requests)
        asyncio.run(
            together(_ask(plan, node, questions, progress, task), _disturb(plan, made, model), _weigh(plan, made))
        )
        return plan.document(time.monotonic() - start)


def _start(made: Deployment, role: str, model: str) -> None:
    made.start(role, COMMANDS[role], *(["--model", model] if role == "owner" else []))


async def _ask(
    plan: Soak, node: Node, questions: Sequence[tuple[Tokens, Tensor]], progress: Progress, task: TaskID
) -> None:
    for index in range(plan.requests):
        tokens, expected = questions[index % len(questions)]
        start = time.monotonic()
        try:
            async with asyncio.timeout(plan.limit_s):
                answer = await client.ask(node, tokens)
            kept = ~torch.tensor(answer.out_of_range or [False] * len(answer.values))
            near = torch.cosine_similarity(answer.values.double()[kept], expected.double()[kept], dim=1)
            good = bool((near >= RIGHT).all())
            plan.right, plan.wrong = plan.right + good, plan.wrong + (not good)
            plan.flagged += int((~kept).sum())
            plan.seconds.append(time.monotonic() - start)
        except TimeoutError:
            plan.hung += 1
        except MpcError as error:
            plan.errors[cause_of(error)] += 1
        progress.advance(task)


def _questions(prepared: Prepared, plan: Soak) -> list[tuple[Tokens, Tensor]]:
    """Token batches, and the plaintext model's answers."""
    positions = prepared.config.formats.longest
    if plan.batch:
        batches = [random_tokens(prepared.checkpoint, plan.batch, plan.length) for _ in range(3)]
    elif prepared.random:
        batches = [random_tokens(prepared.checkpoint, 1, length) for length in (4, 8, 12)]
    else:
        found = prepared.checkpoint
        batches = [encode(found.source, [text], positions, found.preprocessing, found.shape) for text in TEXTS]
    with torch.inference_mode():
        shape = prepared.config.shape
        return [
            (b, reference.answer(shape, prepared.folded, b.ids, b.types, b.mask, "exact").double()) for b in batches
        ]


async def _disturb(plan: Soak, made: Deployment, model: str) -> None:
    """Kill a random process, without any warning, and start it again."""
    chosen = random.Random(plan.seed)  # noqa: S311 - which process is killed is no secret
    while plan.every_s:
        await asyncio.sleep(plan.every_s)
        role = chosen.choice(VICTIMS)
        made.running[role].send_signal(signal.SIGKILL)
        await asyncio.to_thread(made.running[role].wait)
        plan.restarts[role] += 1
        _start(made, role, model)


async def _weigh(plan: Soak, made: Deployment) -> None:
    """Look at every process's memory once a second."""
    start = time.monotonic()
    while True:
        pids: Mapping[str, int | str] = {role: process.pid for role, process in made.running.items()} | {
            "client": "self"
        }
        for role, pid in pids.items():
            plan.resident.append((time.monotonic() - start, role, _resident(pid)))
        await asyncio.sleep(1.0)


def _resident(pid: int | str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
