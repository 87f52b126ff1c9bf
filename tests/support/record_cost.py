"""What records and a replica cost a request: deployments of this machine, asked by turns.

::

    python tests/support/record_cost.py [MODEL] [TOKENS] [TIMES]

Prints medians, and the least and the most, of the seconds that a client waits behind its upload, and of the processor's
seconds of server0, server1 and replica0. All processes share this machine, so a replica slows its server here.
"""

import asyncio
import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mpcnet.launch.bench.load import COMMANDS, SERVERS
from mpcnet.launch.deployment import settings
from mpcnet.launch.party import client
from mpcnet.launch.party.node import open_node
from mpcnet.launch.reporting import report
from mpcnet.launch.simulation.network import Loopback
from mpcnet.launch.simulation.processes import Deployment, deployment
from mpcnet.models.private.prepare import prepare, random_tokens
from mpcnet.models.texts.tokens import Tokens

WAYS: dict[str, dict[str, Any]] = {
    "neither": {},
    "record": {"record": "records"},
    "replica0": {"replicas": ("replica0",)},
}
COUNTED = (*SERVERS, "replica0")


def cpu_s(made: Deployment, role: str) -> float:
    """The processor's seconds of a process so far; 0 if it is not there."""
    if role not in made.running:
        return 0.0
    fields = Path(f"/proc/{made.running[role].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(made: Deployment, tokens: Tokens) -> list[float]:
    """Seconds, and the processor's of each of COUNTED."""
    node = open_node(settings.read(made.config("client")))
    before = [cpu_s(made, role) for role in COUNTED]
    start = time.perf_counter()
    answer = asyncio.run(client.ask(node, tokens))
    waited_s = time.perf_counter() - start - answer.seconds_upload
    time.sleep(1.0)  # what they still do behind the answer counts
    return [waited_s, *(cpu_s(made, role) - b for role, b in zip(COUNTED, before, strict=True))]


def main(model: str = "demo", tokens: str = "128", times: str = "7") -> None:
    prepared = prepare(model, "fast", None, int(tokens))
    text = random_tokens(prepared.checkpoint, 1, int(tokens))
    rows: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        made = {}
        for way, more in WAYS.items():
            folder = Path(stack.enter_context(TemporaryDirectory()), "deployment")
            found = made[way] = stack.enter_context(deployment(prepared.config, Loopback(), 1, 300.0, folder, **more))
            for role, command in {**COMMANDS, **({"replica0": "replica"} if "replicas" in more else {})}.items():
                found.start(role, command, *(["--model", model] if role == "owner" else []))
            found.ready(SERVERS)
            ask(found, text)  # the first one is slower
        for _ in range(int(times)):
            for way, found in made.items():
                rows[way].append(ask(found, text))
    print(f"{model}, 1 x {tokens} tokens, {times} requests each, by turns; {report.machine()}, at {report.commit()}")
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| kept | seconds | cpu server0 | cpu server1 | cpu replica0 |\n|---|---|---|---|---|")
    for way, measured in rows.items():
        cells = [
            f"{statistics.median(column):.2f} ({min(column):.2f} to {max(column):.2f})"
            for column in zip(*measured, strict=True)
        ]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
