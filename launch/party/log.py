"""What a party tells its operator: one event, one line.

::

    standard error, text    server0  request 3: answered in 168 rounds
    a file, text            2026-01-31T12:00:00.250Z  info     server0  request 3: answered in 168 rounds
    JSON, either            {"time": "2026-01-31T12:00:00.250Z", "role": "server0", "level": "info",
                             "message": "request 3: answered in 168 rounds", "rounds": 168}

Lines go to the file where there is one, else to standard error. A log never ends the service: lines that the file does
not take go to standard error, and lines that standard error does not take are lost.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import IO, Literal, TypeAlias

from rich.console import Console
from rich.text import Text

from mpcnet.errors import LocalConfigError, LocalInputError, one_line

Fact: TypeAlias = str | int | float | bool | None
Level: TypeAlias = Literal["info", "warning", "error"]
LEVELS: Mapping[Level, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
STYLES: Mapping[str, str] = {"info": "bold", "warning": "bold yellow", "error": "bold red"}
OWN_KEYS = frozenset({"time", "role", "message"})  # `level` is an argument already, and so cannot be a fact
MODE = 0o640  # the operator's group may read; a log names peers and their addresses


class Log:
    """One party's log. Safe to use from any thread."""

    def __init__(self, role: str, *, as_json: bool = False, file: Path | None = None) -> None:
        """Write to `file`, appending, or to standard error; as text for people, or as JSON for programs.

        :raises LocalConfigError: the file cannot be opened.
        """
        console = Console(stderr=True)
        standard_error = _StandardError(console.file)
        standard_error.setFormatter(_Json(role) if as_json else _Terminal(role, console.is_terminal))
        self._file = None if file is None else _open_file(file, standard_error)
        if self._file is not None:
            self._file.setFormatter(_Json(role) if as_json else _Lines(role))
        self._logger = logging.Logger(role)  # not getLogger: nobody else can reach or configure this one
        self._logger.propagate = False
        self._logger.addHandler(self._file or standard_error)

    def say(self, text: str, *, level: Level = "info", **facts: Fact) -> None:
        """Log one event. `text` says all of it in words; `facts` are its numbers and names, for the JSON form only.

        :raises LocalInputError: a fact has the name of one of the line's own keys.
        """
        if taken := OWN_KEYS & facts.keys():
            raise LocalInputError(f"log: want facts with names of their own, got {', '.join(sorted(taken))}; rename it")
        self._logger.log(LEVELS[level], one_line(text), extra={"facts": facts})

    def reopen(self) -> None:
        """Open the file anew, as SIGHUP asks: logrotate may have moved the old one away. Nothing is lost or raised."""
        if self._file is not None:
            self._file.reopen()


def _open_file(path: Path, instead: logging.Handler) -> _LogFile:
    try:
        return _LogFile(path, instead)
    except OSError as error:
        raise LocalConfigError(
            f"log file {path} cannot be opened: {error.strerror}; make its folder writable, or take another"
        ) from None


class _StandardError(logging.StreamHandler[IO[str]]):
    """The last resort: what it cannot write (a closed pipe, a full disk) is lost, and the service goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):  # ValueError: the stream is closed
            raise


class _LogFile(logging.Handler):
    """A file that may be moved away, or may not be writable for a while.

    The library's WatchedFileHandler raises at the caller if it cannot open the new file, and then has none; this one
    keeps the old file until it has the new one, and turns to `instead` meanwhile.
    """

    def __init__(self, path: Path, instead: logging.Handler) -> None:
        super().__init__()
        self._path = path.absolute()
        self._instead = instead
        self._stream = self._open()
        self._failing = False

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        try:
            if self._moved():
                self._replace()
            self._stream.write(line)
            self._stream.flush()  # on a full disk the stream keeps the rest of a line, and writes it once there is room
        except OSError as error:
            self._failed(error)
            self._instead.handle(record)
        else:
            self._failing = False

    def reopen(self) -> None:
        """Change to what is at the path now, and make it if nothing is there."""
        self.acquire()
        try:
            self._replace()
        except OSError as error:
            self._failed(error)
        finally:
            self.release()

    def _open(self) -> IO[str]:
        return open(self._path, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, MODE))

    def _moved(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._stream.fileno()))

    def _replace(self) -> None:
        old, self._stream = self._stream, self._open()
        with suppress(OSError):  # what the old file did not take, standard error did
            old.close()

    def _failed(self, error: OSError) -> None:
        """Say why on standard error, once until the file takes lines again."""
        if not self._failing:
            self._failing = True
            text = f"log file {self._path}: {error.strerror}; until it can be written, lines go to standard error"
            facts = {"levelno": logging.WARNING, "levelname": "WARNING", "msg": one_line(text), "facts": {}}
            self._instead.handle(logging.makeLogRecord(facts))


class _Terminal(logging.Formatter):
    """For a person who watches: the role's colour is the level."""

    def __init__(self, role: str, styled: bool) -> None:
        super().__init__()
        self._role = role
        # It renders only: a console that writes to a closed pipe ends the process.
        self._console = Console(file=StringIO(), force_terminal=styled)

    def format(self, record: logging.LogRecord) -> str:
        line = Text.assemble((self._role, STYLES[_level(record)]), "  ", record.getMessage())
        with self._console.capture() as capture:
            self._console.print(line, soft_wrap=True, end="")
        return capture.get()


class _Lines(logging.Formatter):
    """For a person who reads later: with time and level."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)}  {_level(record):<7}  {self._role}  {record.getMessage()}"


class _Json(logging.Formatter):
    """For a program: one object a line."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        own = {"time": _time(record), "role": self._role, "level": _level(record), "message": record.getMessage()}
        facts: Mapping[str, Fact] = record.__dict__["facts"]
        return json.dumps(own | {name: _plain(fact) for name, fact in facts.items()}, allow_nan=False)


def _plain(fact: Fact) -> Fact:
    """As JSON can hold it: a text is one line, and there is no infinity or NaN."""
    if isinstance(fact, str):
        return one_line(fact)
    return None if isinstance(fact, float) and not math.isfinite(fact) else fact


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower()
