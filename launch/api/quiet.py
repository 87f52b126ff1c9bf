"""A library's log: Python's `logging`, logger `mpcnet`. Silent but for warnings, unless the caller configures it."""

from __future__ import annotations

import logging

from mpcnet.errors import one_line
from mpcnet.launch.party.log import LEVELS, Fact, Level, Log


class LibraryLog(Log):
    """What a client has to say, to `logging`; no file and no console of its own."""

    def __init__(self, role: str) -> None:
        self._role = role

    def say(self, text: str, *, level: Level = "info", **facts: Fact) -> None:
        """See :class:`mpcnet.launch.party.log.Log`; facts are all in the text."""
        logging.getLogger("mpcnet").log(LEVELS[level], "%s: %s", self._role, one_line(text))

    def reopen(self) -> None:
        """There is no file."""
