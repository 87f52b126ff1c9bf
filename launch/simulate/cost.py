"""What the servers measured of all requests together, and that each equals its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpcnet.errors import MpcError
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.reporting import report
from mpcnet.ledger import overlapped
from mpcnet.models.families.config import Config
from mpcnet.models.private.program import Plans, Size

EACH = ("rounds", "sent_bytes", "compute_s", "wait_s", "cpu_offline_s", "cpu_online_s")  # of a server's report


class PlanMissed(MpcError):
    """The measured cost is not the planned one: a bug, never to be hidden."""


def check_plan(config: Config, replies: Sequence[Answer]) -> None:
    """Both servers' measured ledgers must equal the static plan of their streams, operation by operation."""
    plans = Plans(config)
    for reply in replies:
        for party, measured in enumerate(reply.reports):
            kind = measured["answer"], measured["audit"], measured["extent"]
            sizes = [Size(batch, length, *kind) for batch, length in measured["streams"]]
            plan = report.planned(overlapped(plans.infer(size).ledger for size in sizes), 0)
            if missed := report.same(plan, measured):
                raise PlanMissed(f"server{party}, {sizes}: {'; '.join(missed[:3])}")


def combine(replies: Sequence[Answer]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Add up the requests: operations by name as server0 measured them, totals with the public keys."""
    merged: dict[str, dict[str, Any]] = {}
    for reply in replies:
        for row in reply.reports[0]["operations"]:
            known = merged.setdefault(row["name"], {"name": row["name"]})
            for key, value in row.items():
                if key == "dealt_bytes":
                    known[key] = [a + b for a, b in zip(known.get(key, [0, 0]), value, strict=True)]
                elif key not in ("name", "offline_bytes"):
                    known[key] = known.get(key, 0) + value
            known["offline_bytes"] = max(known["dealt_bytes"])
    operations = list(merged.values())
    keys = ("rounds", "sent_bytes", "received_bytes", "compute_s", "wait_s")
    totals: dict[str, Any] = {key: sum(row[key] for row in operations) for key in keys}
    dealt = [sum(row["dealt_bytes"][party] for row in operations) for party in (0, 1)]
    totals |= {"dealt_bytes": dealt, "offline_bytes": max(dealt)}
    phases = [f"seconds_{phase}" for phase in ("upload", "offline", "online")]
    totals |= {phase: sum(getattr(reply, phase) for reply in replies) for phase in phases}
    totals["seconds_total"] = sum(totals[phase] for phase in phases)
    peaks = {f"server{i}": max(reply.reports[i]["peak_bytes"] for reply in replies) for i in (0, 1)}
    peaks["dealer"] = max(reply.reports[0]["dealer"]["peak_bytes"] for reply in replies)
    each = [
        {phase: getattr(reply, phase) for phase in phases} | {key: reply.reports[0][key] for key in EACH}
        for reply in replies
    ]
    return operations, {**totals, "peak_bytes": max(peaks.values()), "peaks": peaks, "requests": each}
