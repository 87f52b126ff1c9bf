"""What every process does first and last: settings, program, connections, and one clear line if it fails."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from launch.settings import Settings
from launch.wire_names import IDLE_S
from models import program
from models.bert import Config
from mpcnet.channel import Channel
from mpcnet.errors import ChannelClosed, MpcError, RemoteAbort
from mpcnet.latency import shaped
from mpcnet.mesh import Mesh, Peer, connect_mesh, handshake
from mpcnet.tls import Identity, Roster, dial

console = Console(stderr=True, highlight=False)
TRACEBACK = "MPCNET_TRACEBACK"  # set it, and an error is raised as Python does


@dataclass(frozen=True, slots=True)
class Node:
    """A process that knows its role, its program and who it may talk to."""

    settings: Settings
    config: Config
    identity: Identity
    roster: Roster
    waits: set[tuple[str, str]] = field(default_factory=set)  # for whom and why, as said so far

    @property
    def role(self) -> str:
        return self.settings.role

    @property
    def party(self) -> int:
        """The number of a server."""
        return 0 if self.role == "server0" else 1

    @property
    def beat_s(self) -> float:
        """How often we show that we are alive: three times before anybody with our timeout gives up."""
        return min(IDLE_S, self.settings.timeout_s / 3)

    def say(self, text: str) -> None:
        """One progress line on standard error."""
        console.print(f"[bold]{self.role}[/bold]  {escape(text)}", soft_wrap=True)

    async def mesh(self, on_guest: Callable[[Channel], None] | None = None) -> Mesh:
        """Connect with the other computing parties."""
        found = await connect_mesh(
            self.role, self.settings.addresses, self.identity, self.roster, program.agreement(self.config),
            self.settings.timeout_s, on_guest=on_guest, on_wait=self._waiting, on_refused=self._refused,
        )  # fmt: skip
        return replace(found, peers={name: self._shaped(peer) for name, peer in found.peers.items()})

    async def dial(self, role: str) -> Peer:
        """Connect to a server as a guest."""
        address = self.settings.addresses[role]
        timeout_s = self.settings.timeout_s
        channel = await dial(
            address, self.identity, self.roster, role, timeout_s, channel_timeout_s=timeout_s, on_wait=self._waiting
        )
        return await self.greet(channel)

    async def greet(self, channel: Channel) -> Peer:
        """The handshake on a fresh channel."""
        return self._shaped(await handshake(channel, self.role, program.agreement(self.config)))

    def _shaped(self, peer: Peer) -> Peer:
        return replace(peer, channel=shaped(peer.channel, self.settings.link))

    def _waiting(self, role: str, address: str, reason: str) -> None:
        """Said once for each reason: dialling goes on until its timeout."""
        if (role, reason) not in self.waits:
            self.waits.add((role, reason))
            self.say(f"waiting for {role} at {address}: {reason}")

    def _refused(self, address: str, error: MpcError) -> None:
        self.say(f"refused a connection from {address}: {error}")


def open_node(settings: Settings) -> Node:
    """Read the program and the keys.

    :raises LocalConfigError: a file is missing or malformed.
    """
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    folder = settings.folder
    config = program.read(settings.program_path)
    return Node(settings, config, Identity.in_folder(folder), Roster.load(folder / "roster.json"))


async def end(peers: Iterable[Peer], role: str, error: BaseException) -> None:
    """Give up: every peer learns why, in one public line. An abort is passed on as it was said."""
    told = error.reason if isinstance(error, RemoteAbort) else f"{role}: {_public(error)}"
    channels = [peer.channel for peer in peers]
    for channel in channels:
        channel.abort(told)
    await asyncio.gather(*(channel.close() for channel in channels), return_exceptions=True)


def _public(error: BaseException) -> str:
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


def run(main: Coroutine[Any, Any, int], role: str) -> int:
    """Run a process's main coroutine on uvloop; an error is one line and an exit code, never a traceback."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_until_signal(main, role))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return failed(f"{role} failed", error)


def failed(who: str, error: Exception) -> int:
    """Say in one line why a process ends; returns its exit code.

    :raises Exception: `error` itself, if the environment asks for tracebacks.
    """
    if os.environ.get(TRACEBACK):
        raise error
    console.print(f"[bold red]{who}[/bold red]  {escape(_public(error))}", soft_wrap=True)
    return error.exit_code if isinstance(error, MpcError) else MpcError.exit_code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop  # type: ignore[no-any-return]


async def _until_signal(main: Coroutine[Any, Any, int], role: str) -> int:
    """SIGTERM ends a process in order: its peers are told, and the exit code is 0 only if nothing was cut short."""
    task = asyncio.ensure_future(main)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise ChannelClosed(f"{role} was stopped") from None


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
