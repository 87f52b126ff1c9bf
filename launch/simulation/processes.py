"""The localhost deployment of a simulation: fresh keys, free ports, one process per role; all removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcnet.errors import MpcError
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.certs import LISTENERS, role_folder
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.deployment.machine import memory_bytes
from mpcnet.launch.party import notify
from mpcnet.launch.party.budget import OF_MACHINE
from mpcnet.launch.simulation.network import PYTHON, Network
from mpcnet.models.families.config import Config

POLL_S = 0.05
SETTLE_S = 5.0  # for the others to notice, when one has failed
STOP_S = 5.0  # for an orderly end, before a process is killed


class PartyFailed(MpcError):
    """A process of the simulation ended early; the message is its own last line."""


@dataclass(slots=True)
class Deployment:
    """A folder with one sub-folder per role, and the processes started from it; they end with this process at last."""

    folder: Path
    network: Network
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ready: set[int] = field(default_factory=set)  # their pids
    _listener: notify.Listener = field(default_factory=notify.Listener)

    def config(self, role: str) -> Path:
        return self.folder / role_folder(role) / settings_file.FILE

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def start(self, role: str, command: str, *arguments: str) -> None:
        """Start `mpcnet COMMAND --config ...` as a process of its own; it talks to its log.

        It is in a process group of its own: Ctrl-C is ours to hear.
        """
        line = [*PYTHON, "mpcnet.launch.tether", command, "--config", str(self.config(role)), *arguments]
        with self.log(role).open("wb") as log:
            self.running[role] = subprocess.Popen(  # noqa: S603
                self.network.command(role, line), stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0,
                env=os.environ | {notify.VARIABLE: self._listener.path},
            )  # fmt: skip

    def ready(self, roles: Sequence[str]) -> None:
        """Wait until these serve. Of servers: they have the weights.

        :raises PartyFailed: a process has ended.
        """
        while True:
            self.check_all_run()
            if all(self.running[role].pid in self._ready for role in roles):
                return
            if pid := self._listener.take(POLL_S):
                self._ready.add(pid)

    def finish(self, roles: Sequence[str]) -> None:
        """Ask these to stop, as an operator would, and wait until they have ended well.

        :raises PartyFailed: one has not.
        """
        for role in roles:
            self.running[role].terminate()
        self.wait(roles)

    def wait(self, roles: Sequence[str]) -> None:
        """Wait until these have ended well.

        :raises PartyFailed: any process has failed.
        """
        while not all(self.running[role].poll() == 0 for role in roles):
            self.check()
            time.sleep(POLL_S)

    def check(self) -> None:
        """:raises PartyFailed: a process has failed; the first one to fail is named."""
        self._blame({role: code for role, code in self.ended().items() if code})

    def check_all_run(self) -> None:
        """:raises PartyFailed: a process has ended, well or not; the first one to end is named."""
        self._blame(self.ended())

    def ended(self) -> dict[str, int]:
        """Exit codes of those that have ended."""
        codes = {role: process.poll() for role, process in self.running.items()}
        return {role: code for role, code in codes.items() if code is not None}

    def reap(self) -> None:
        """Wait until the exit code is known of a process that has ended: it may come a moment later."""
        while not self.ended():
            time.sleep(POLL_S)

    def _blame(self, ended: Mapping[str, int]) -> None:
        if ended:
            self._settle()
            raise PartyFailed(
                "; ".join(f"{role} (exit code {code}): {self.last_line(role)}" for role, code in ended.items())
            )

    def last_line(self, role: str) -> str:
        lines = self.log(role).read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _settle(self) -> None:
        """Let the others notice, so that what they say is in their logs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in self.running.values():
                process.wait(SETTLE_S)

    def stop(self) -> None:
        """End whatever still runs."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._listener.close()


@contextlib.contextmanager
def deployment(
    config: Config, network: Network, threads: int, timeout_s: float, keep: Path | None = None, **settings: Any
) -> Iterator[Deployment]:
    """Make a deployment in a temporary folder (or `keep`), and end its processes on the way out, whatever happens.

    `settings` are more of those of :class:`mpcnet.launch.deployment.settings.Settings`, the same for every process.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="mpcnet-"))
    made = Deployment(folder, network)
    memory_mib = int(OF_MACHINE * memory_bytes() / len(LISTENERS)) >> 20  # they share this machine's
    try:
        write_deployment(
            folder, config, network.addresses, net=network.net, threads=threads, timeout_s=timeout_s,
            **{"memory_mib": memory_mib, **settings},
        )  # fmt: skip
        yield made
    finally:
        made.stop()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
