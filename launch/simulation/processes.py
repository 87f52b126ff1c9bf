"""The localhost deployment of a simulation: fresh keys, free ports, one process per role; all removed at the end."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcnet.errors import MpcError
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.certs import role_folder
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.simulation.network import PYTHON, Network
from mpcnet.models.families.bert import Config

POLL_S = 0.05


class PartyFailed(MpcError):
    """A process of the simulation ended early; the message is its own last line."""


@dataclass(slots=True)
class Deployment:
    """A folder with one sub-folder per role, and the processes started from it."""

    folder: Path
    network: Network
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def config(self, role: str) -> Path:
        return self.folder / role_folder(role) / settings_file.FILE

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def start(self, role: str, command: str, *arguments: str) -> None:
        """Start `mpcnet COMMAND --config ...` as a process of its own; it talks to its log."""
        line = [*PYTHON, "mpcnet.launch.cli", command, "--config", str(self.config(role)), *arguments]
        with self.log(role).open("wb") as log:
            line = self.network.command(role, line)
            self.running[role] = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603

    def finish(self, roles: Sequence[str]) -> None:
        """Ask these to stop, as an operator would, and wait until they have ended well.

        :raises PartyFailed: one has not.
        """
        for role in roles:
            self.running[role].terminate()
        self.wait(roles)

    def wait(self, roles: Sequence[str], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until these have ended well; `meanwhile` is called now and then.

        :raises PartyFailed: any process has failed; the first one to fail is named.
        """
        while True:
            codes = {role: process.poll() for role, process in self.running.items()}
            failed = [role for role, code in codes.items() if code]
            if failed:
                self._settle()
                raise PartyFailed(
                    "; ".join(f"{role} (exit code {codes[role]}): {self.last_line(role)}" for role in failed)
                )
            if all(codes[role] == 0 for role in roles):
                return
            meanwhile()
            time.sleep(POLL_S)

    def count(self, role: str, words: str) -> int:
        """How many lines of its log have these words."""
        return sum(words in line for line in self.log(role).read_text("utf-8", "replace").splitlines())

    def last_line(self, role: str) -> str:
        lines = self.log(role).read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _settle(self, seconds: float = 5.0) -> None:
        """Let the others notice, so that what they say is in their logs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in self.running.values():
                process.wait(seconds)

    def stop(self) -> None:
        """End whatever still runs."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def deployment(
    config: Config, network: Network, threads: int, timeout_s: float, keep: Path | None = None, **settings: Any
) -> Iterator[Deployment]:
    """Make a deployment in a temporary folder (or `keep`), and end its processes on the way out, whatever happens.

    `settings` are more of those of :class:`mpcnet.launch.deployment.settings.Settings`, the same for every process.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="mpcnet-"))
    made = Deployment(folder, network)
    try:
        write_deployment(
            folder, config, network.addresses, net=network.net, threads=threads, timeout_s=timeout_s, **settings
        )
        yield made
    finally:
        made.stop()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
