"""A process tells who started it that it is ready, as systemd's sd_notify(3) does.

The starter names a Unix datagram socket in NOTIFY_SOCKET and gets `READY=1` there; the kernel says who sent it. Without
the variable nothing happens. A name that begins with @ is in Linux's abstract namespace.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "NOTIFY_SOCKET"
READY = b"READY=1"
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; see unix(7)
LONGEST = 1024  # bytes of a message


def ready() -> None:
    """We serve. A starter that does not listen any more is no reason to end."""
    if name := os.environ.get(VARIABLE):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(READY, f"\0{name[1:]}" if name.startswith("@") else name)


class Listener:
    """The starter's end: a socket in a new temporary folder, as paths of sockets must be short."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="mpcnet-")
        self.path = str(Path(self._folder) / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)

    def take(self, timeout_s: float) -> int | None:
        """The pid of a process that has become ready; None if none does in time, or something else was said."""
        self._socket.settimeout(timeout_s)
        try:
            message, attached, _, _ = self._socket.recvmsg(LONGEST, socket.CMSG_SPACE(CREDENTIALS.size))
        except TimeoutError:
            return None
        if READY not in message.split(b"\n"):
            return None
        pids = [CREDENTIALS.unpack(data)[0] for _, kind, data in attached if kind == socket.SCM_CREDENTIALS]
        return pids[0] if pids else None

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)
