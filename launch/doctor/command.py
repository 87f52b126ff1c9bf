"""`mpcnet doctor`: what is wrong with a party's settings, keys, machine and peers, before it starts or while it runs.

Nothing is changed anywhere, and nothing secret is read but our own key. A client also asks one fixed word.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mpcnet.errors import one_line
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.machine import memory_bytes
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.doctor.canary import CANARY_S, ask_canary
from mpcnet.launch.doctor.findings import Finding, Level, attempt, ok
from mpcnet.launch.doctor.host import check_device, check_disk, check_kernels, check_memory, check_names, check_program
from mpcnet.launch.doctor.keys import COPY, check_keys, utc_now
from mpcnet.launch.doctor.peers import visit_all
from mpcnet.launch.doctor.running import check_monitor, check_port
from mpcnet.launch.options import PrintJson
from mpcnet.launch.party.node import COMPUTING
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.models.families.config import Config
from mpcnet.models.private import program
from mpcnet.models.private.program import Plans
from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.rendezvous import REPLICAS, SERVERS, dials

COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "error": "bold red"}

Say = Callable[[str], None]


async def examine(
    path: Path, timeout_s: float, say: Say = lambda text: None, canary_s: float = CANARY_S
) -> list[Finding]:
    """Every check, in the order in which one depends on another; `timeout_s` is for each peer, `canary_s` for the
    answer to a client's word, which is not asked if that is 0.
    """
    found: list[Finding] = []
    say("reading the settings")
    settings = attempt("settings", "correct the file", lambda: settings_file.read(path), found)
    if settings is None:
        return found
    found.append(ok("settings", f"{path}: {settings.role}"))
    found += check_keys(settings, utc_now())
    if _broken(found, "files"):
        return found
    config = attempt("program", COPY, lambda: program.read(settings.program_path), found)
    if config is not None:
        found += check_program(config)
    if settings.role in COMPUTING:
        found += [check_kernels(), *check_device(settings)]
    sound = None if _broken(found, "calibration") else config
    found += await _network(settings, sound, timeout_s, say)
    if sound is not None and canary_s and settings.role.startswith("client") and _met(found):
        say(f"asking one word: up to {canary_s:g} s")
        found.append(await ask_canary(settings, canary_s))
    if sound is not None and settings.role in (*SERVERS, *REPLICAS):
        say("planning a request's memory")
        found += await asyncio.to_thread(_resources, sound, settings)
    return found


def _resources(config: Config, settings: Settings) -> list[Finding]:
    plans = Plans(config)
    found = [check_memory(plans, memory_bytes())]
    return [*found, check_disk(plans, settings)] if settings.tapes else found


async def _network(settings: Settings, config: Config | None, timeout_s: float, say: Say) -> list[Finding]:
    """Names, our own port, and the parties that we dial."""
    found: list[Finding] = []
    role, addresses = settings.role, settings.addresses
    dialled = dials(role, addresses)
    say("looking up names")
    names, known = await check_names({name: addresses[name] for name in (role, *dialled) if name in addresses})
    found += names
    identity = Identity.in_folder(settings.folder)
    roster = attempt("roster", COPY, lambda: Roster.load(settings.folder / "roster.json"), found)
    usable = attempt("identity", COPY, lambda: identity.context(server_side=False), found)
    if roster is None or usable is None:
        return found
    say("trying our own port")
    if role in known:
        found.append(await check_port(role, settings.listen or addresses[role], identity, roster, timeout_s))
    if settings.monitor_port:
        found.append(await check_monitor(role, settings.monitor_port, identity, utc_now(), timeout_s))
    peers = {name: addresses[name] for name in dialled if name in known}
    if peers:
        say(f"dialling {', '.join(peers)}: up to {timeout_s:g} s")
    return found + await visit_all(peers, identity, roster, config, role, timeout_s)


def _met(findings: list[Finding]) -> bool:
    """Both servers answer, and run our program."""
    well = {finding.check for finding in findings if finding.level == "ok"}
    return {name for server in SERVERS for name in (server, f"program of {server}")} <= well


def _broken(findings: list[Finding], check: str) -> bool:
    return any(finding.check == check and finding.level == "error" for finding in findings)


def doctor_command(
    config: Annotated[Path, typer.Option("--config", help="The party.toml of a party, beside its keys.")],
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each peer has to answer.")] = 5.0,
    canary: Annotated[
        float, typer.Option(min=0, help="Seconds that a client's question of one word may take; 0: it asks nothing.")
    ] = CANARY_S,
    as_json: PrintJson = False,
) -> None:
    """Check a party's settings, keys, machine and peers, and say what to do. Exit code 1 if anything is an error."""
    with console.status("starting") as status:
        found = asyncio.run(examine(config, timeout, status.update, canary))
    failed = any(finding.level == "error" for finding in found)
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}))
    else:
        _show(found)
    raise typer.Exit(1 if failed else 0)


def _show(found: list[Finding]) -> None:
    """One line for each finding; a peer's words are no markup."""
    out = screen()
    table = Table.grid(padding=(0, 2))
    for finding in found:
        level = f"[{COLOURS[finding.level]}]{finding.level}[/]"
        text = f"{finding.found}; {finding.advice}" if finding.advice else finding.found
        table.add_row(level, escape(finding.check), escape(one_line(text)))
    out.print(table)
