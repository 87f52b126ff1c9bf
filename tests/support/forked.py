"""Parties' processes, forked from one that has imported what they run.

To start Python and import torch takes two seconds of CPU, and the tests start some two hundred parties. What is proved of
a process is the same: it has its own memory, files, signals and exit code. Tests that call the command line as a user
does (`subprocess.run`, the wheel, the examples) start Python for each party.
"""

import multiprocessing
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from mpcnet.launch.simulation import processes
from mpcnet.launch.simulation.network import PYTHON

TETHER = "mpcnet.launch.tether"
FORK = multiprocessing.get_context("forkserver")


@contextmanager
def forked() -> Iterator[None]:
    """Deployments start parties so."""
    FORK.set_forkserver_preload([TETHER, "uvloop"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": started}))
        yield


def started(line: Sequence[str], **options: Any) -> Any:
    """A party; any other line, as in a network namespace, is started as ever."""
    if tuple(line[: len(PYTHON) + 1]) != (*PYTHON, TETHER):
        return subprocess.Popen(line, **options)
    return Forked(line[len(PYTHON) + 1 :], options["env"], options["stdout"])


class Forked:
    """What tests and deployments use of a `subprocess.Popen`. The process ends when `stdin` is closed."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> None:
        theirs, self.stdin = FORK.Pipe(duplex=False)
        self._process = FORK.Process(
            target=_run, args=(list(words), dict(environment), log.name, theirs), name=words[0], daemon=True
        )
        self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired: it still runs."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run(words: list[str], environment: dict[str, str], log: str, stdin: Connection) -> None:
    """In the new process: as `python -m mpcnet.launch.tether WORDS` in a process group of its own."""
    import sys

    from mpcnet.launch import tether

    os.setpgid(0, 0)
    os.dup2(stdin.fileno(), 0)
    stdin.close()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["mpcnet", *words]
    tether.main()
