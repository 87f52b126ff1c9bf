"""What every process does first and last: settings, program, connections, and one clear line if it fails."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from mpcnet.arrays import accelerator, ring
from mpcnet.arrays.buffers import Buffers
from mpcnet.arrays.native import library
from mpcnet.errors import ChannelClosed, LocalConfigError, MpcError, RemoteAbort
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.extras import missing
from mpcnet.launch.party.heap import keep_freed
from mpcnet.launch.party.log import Fact, Level, Log
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.refusals import Refusals
from mpcnet.models.families.config import Config
from mpcnet.models.private import program
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer, handshake
from mpcnet.transport.identity import Identity, Shown, check_private, read_certificate
from mpcnet.transport.latency import shaped
from mpcnet.transport.rendezvous import REPLICAS, SERVERS
from mpcnet.transport.roster_file import RosterFile
from mpcnet.transport.tls import dial

COMPUTING = (*SERVERS, "dealer", *REPLICAS)
console = Console(stderr=True, highlight=False)
SKEW_S = 60.0  # clocks further apart than this are worth a warning
TRACEBACK = "MPCNET_TRACEBACK"  # set it, and an error is raised as Python does


@dataclass(frozen=True, slots=True)
class Node:
    """A process that knows its role, its program and who it may talk to."""

    settings: Settings
    config: Config
    identity: Identity
    roster: RosterFile
    log: Log
    metrics: Metrics
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # asked to end once nothing is cut short by it
    waits: dict[str, str] = field(default_factory=dict)  # for whom and why, as said last
    refusals: Refusals = field(default_factory=Refusals)
    clock: Callable[[], float] = time.time  # unix time, in seconds
    combine: ring.Combine = ring.combine  # products by weights, on the settings' device
    buffers: Buffers = field(default_factory=Buffers)  # for what the dealer sends

    @property
    def role(self) -> str:
        return self.settings.role

    @property
    def party(self) -> int:
        """The number of a server, and of its replica."""
        return 0 if self.role in (SERVERS[0], REPLICAS[0]) else 1

    def say(self, text: str, level: Level = "info", **facts: Fact) -> None:
        """One event in the log."""
        self.log.say(text, level=level, **facts)

    def waiting(self, role: str, reason: str) -> None:
        """Said once for each reason: attempts to connect go on."""
        if self.waits.get(role) != reason:
            self.waits[role] = reason
            self.say(f"waiting for {role}: {reason}", peer=role)
        self._show_waits()

    def ready(self) -> None:
        """Able to serve."""
        self.waits.clear()
        self.metrics.ready()

    def _show_waits(self) -> None:
        """All reasons, to whoever asks: the last one said may be the first that is gone."""
        if self.waits:
            self.metrics.waiting("; ".join(f"for {role}: {reason}" for role, reason in self.waits.items()))

    def refused(self, where: str, error: MpcError) -> None:
        """Somebody was not let in."""
        self.metrics.refused_connection()
        if line := self.refusals.line(f"refused a connection from {where}", error):
            self.say(line, "warning")

    def turned_away(self, role: str, error: MpcError) -> None:
        """Somebody who was let in broke the protocol."""
        if line := self.refusals.line(f"turned away {role}", error):
            self.say(line, "warning")

    def identify(self, connection: ssl.SSLObject, accept: Collection[str], where: str) -> Shown:
        """Who a peer is, by the roster as it is now.

        :raises RemoteIdentityError: it is nobody that we accept.
        """
        self._refresh()
        return self.roster.roster.identify(connection, accept, where)

    def check_pinned(self, peer: Peer) -> None:
        """Asked of a kept connection before each further request: the peer may have been revoked meanwhile.

        :raises RemoteIdentityError: the roster, as it is now, does not pin the certificate that the peer showed.
        """
        self._refresh()
        self.roster.roster.check(Shown(peer.name, peer.channel.pins), "its certificate")

    def _refresh(self) -> None:
        if line := self.roster.refresh():
            self.say(line, "warning")

    async def dial(self, role: str, timeout_s: float | None = None) -> Peer:
        """Connect to a listener, and shake hands; `timeout_s` bounds the attempts, by default that of the settings."""
        channel = await dial(
            self.settings.addresses[role], self.identity, self, role,
            self.settings.timeout_s if timeout_s is None else timeout_s, channel_timeout_s=self.settings.timeout_s,
            on_wait=lambda name, address, reason: self.waiting(name, f"{address}: {reason}"),
        )  # fmt: skip
        return await self.greet(channel)

    async def greet(self, channel: Channel) -> Peer:
        """The handshake on a fresh channel; if it fails, the peer has been told."""
        try:
            peer = await handshake(channel, self.role, program.agreement(self.config), self.clock)
        except MpcError:
            await channel.close()  # in order, so that the peer still gets our hello and sees the same difference
            raise
        except asyncio.CancelledError:
            channel.abort(f"{self.role} has left")  # nobody else knows of it
            raise
        self.waits.pop(peer.name, None)
        self._show_waits()
        if abs(peer.skew_s) > SKEW_S:
            self.say(f"the clock of {peer.name} is {peer.skew_s:+.0f} s from ours; certificates need clocks", "warning")
        return replace(peer, channel=shaped(peer.channel, self.settings.link))


def open_node(settings: Settings) -> Node:
    """Read the program and the keys.

    :raises LocalConfigError: a file is missing or malformed, others may use our key, or the device is not there.
    """
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    combine = accelerator.on(settings.device) if settings.role in COMPUTING else ring.combine
    folder = settings.folder
    config = program.read(settings.program_path)
    program.agreement(config)  # takes a moment, once: not when the first peer waits for it
    rows = program.least_length(config, 1)
    if other := [size for size in settings.ahead_sizes if size.length < rows]:
        got = f"{other[0].batch}x{other[0].length}"
        raise LocalConfigError(f'{folder}: ahead: want rows of an image as "1x{rows}", got "{got}"')
    first = program.answers(config)[0]  # what is dealt ahead is dealt for what may be asked
    settings = replace(settings, ahead_sizes=tuple(replace(size, answer=first) for size in settings.ahead_sizes))
    identity = Identity.in_folder(folder)
    check_private(identity.key)
    log_file = folder / settings.log_file if settings.log_file else None
    log = Log(settings.role, as_json=settings.log == "json", file=log_file)
    if settings.role in COMPUTING and library.best() < 0:
        log.say(library.MISSING, level="warning")
    metrics = Metrics(settings.role)
    metrics.certificate_expires(read_certificate(identity.certificate).not_valid_after_utc)
    return Node(settings, config, identity, RosterFile(folder / "roster.json"), log, metrics, combine=combine)


async def end(peers: Iterable[Peer], role: str, error: BaseException) -> None:
    """Give up: every peer learns why, in one public line. An abort is passed on as it was said."""
    told = error.reason if isinstance(error, RemoteAbort) else f"{role}: {public(error)}"
    channels = [peer.channel for peer in peers]
    for channel in channels:
        channel.abort(told)
    await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)


def public(error: BaseException) -> str:
    """What others may know of an error: all of ours, of a bug only where it is."""
    if isinstance(error, MpcError):
        return str(error)
    return "was stopped" if isinstance(error, asyncio.CancelledError) else _bug(error)


def _bug(error: BaseException) -> str:
    """Where an exception that is none of ours was raised; not its text, which could hold a value."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last is not None else "nowhere"
    return f"bug: {type(error).__name__} at {place}; {TRACEBACK}=1 shows the traceback"


def run(main: Coroutine[Any, Any, int], node: Node, *, graceful: bool) -> int:
    """Run a process's main coroutine on uvloop; an error is one line and an exit code, never a traceback.

    A `graceful` one looks at `node.stopping` itself.
    """
    if node.role in COMPUTING:
        keep_freed()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_with_signals(main, node, graceful))
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        node.say(f"failed  {public(error)}", "error")
        return _exit_code(error)


def failed(who: str, error: Exception) -> int:
    """Say in one line why a command ends; returns its exit code.

    :raises Exception: `error` itself, if the environment asks for tracebacks.
    """
    if os.environ.get(TRACEBACK):
        raise error
    if isinstance(error, ModuleNotFoundError):
        error = missing(error) or error
    console.print(f"[bold red]{who}[/bold red]  {escape(public(error))}", soft_wrap=True)
    return _exit_code(error)


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, MpcError) else MpcError.exit_code


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop  # type: ignore[no-any-return]


async def _with_signals(main: Coroutine[Any, Any, int], node: Node, graceful: bool) -> int:
    """SIGTERM or Ctrl-C: the process ends when its present work is done; a second one ends it at once.

    SIGHUP opens the log file anew.
    """
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if node.stopping.is_set() or not graceful:
            task.cancel()
        node.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, node.log.reopen)
    try:
        return await task
    except asyncio.CancelledError:
        raise ChannelClosed(f"{node.role} was stopped") from None


def peak_bytes() -> int:
    """The largest resident set of this process so far.

    Linux keeps the parent's ru_maxrss across exec, so a process started by a large one would report the parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
