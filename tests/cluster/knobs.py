"""Limits in the code that are so large that a small cluster would not meet them, and so are drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from unittest import mock

from mpcnet.launch.party import arriving, budget, clients, edge, forward, queue
from mpcnet.models.private.program import Size
from mpcnet.runtime import correction_store, dealing, session
from mpcnet.transport import tls, tls_channel
from tests.cluster import model, network
from tests.cluster.scenario import Scenario
from tests.cluster.world import MEMORY_MIB

SHORT_BYTES = (MEMORY_MIB // 2 << 20) - budget.RUNTIME_BYTES - budget.AHEAD_BYTES - (4 << 20)  # the dealer's, for runs
KNOBS = {
    "AHEAD_BYTES": (dealing,),
    "KEPT_S": (clients,),
    "SILENT": (tls,),
    "BACKLOG": (tls,),
    "AT_ONCE": (tls,),
    "HEAVY_BYTES": (session, correction_store),
    "PER_CLIENT": (queue,),
    "MAX_CONNECTIONS": (edge,),
    "WINDOW": (network,),
    "FORWARD_BYTES": (forward,),
    "HELD_BYTES": (arriving,),
    "HIGH_WATER": (tls_channel,),
}
NAMES = {"FORWARD_BYTES": "AHEAD_BYTES"}  # in their module


@contextlib.contextmanager
def turned(plan: Scenario) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, modules in KNOBS.items():
            for module in modules:
                stack.enter_context(mock.patch.object(module, NAMES.get(name, name), plan.knobs[name]))
        if plan.short_of_memory:
            stack.enter_context(mock.patch.object(budget, "RUN_FACTOR", _short()))
        yield


@cache
def _short() -> float:
    """With it a run of one sentence takes what who is short of memory has."""
    most = 2 * model.plans().infer(Size(1, 4, "logits", True)).peak_bytes
    return SHORT_BYTES / most
