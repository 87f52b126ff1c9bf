"""The tree of errors. After any of them the session is over, on both sides.

::

    MpcError                      everything this package raises on purpose; `exit_code` is the process's
    |-- LocalError                our fault
    |   |-- LocalConfigError      a setting, an address, a file of the deployment
    |   |-- LocalInputError       a value given to us by our own caller
    |   |   `-- LocalRangeError   a text on which a value left its planned range: its answer may be wrong
    |   |-- LocalStateError       a call at the wrong moment (two receivers, a mask used twice)
    |   |-- LocalBusyError        no room for more work now
    |   |-- LocalSizeError        a request that will never fit; says how many of its sentences would
    |   `-- LocalStorageError     the disk is full or failed, or somebody changed a file that we wrote
    |-- RemoteError               the peer's fault
    |   |-- RemoteProtocolError   bytes that are not the protocol
    |   |-- RemoteIdentityError   a certificate that is not who we expect (or ours, refused by the peer)
    |   |-- RemoteMismatchError   another format version, program or configuration
    |   `-- RemoteAbort           the peer gave up and said why
    `-- ChannelError              the wire's
        |-- ChannelClosed         the connection ended
        |   `-- ChannelParted     the peer closed it, in order
        |-- ChannelTimeout        nothing came in time
        `-- ChannelBusy           the port is in use

Each prints as one line: who, where, expected, got, and what to do about it. None carries a secret.
"""

from __future__ import annotations

from typing import ClassVar

MAX_LINE = 1000  # characters: a mismatch of a dozen settings fits, a hostile text does not fill a log


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """`text` as one printable line: a peer's words may hold newlines or terminal escapes."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def describe(where: str, want: object, got: object, hint: str = "") -> str:
    """The usual line: `server1, round 7: want 3 x 4096 bytes, got 2 x 4096; HINT`."""
    return f"{where}: want {want}, got {got}" + (f"; {hint}" if hint else "")


class MpcError(Exception):
    """Root of the tree; the exit codes are those of BSD's sysexits.h."""

    exit_code: ClassVar[int] = 70  # EX_SOFTWARE

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class LocalError(MpcError):
    """Our fault."""


class LocalConfigError(LocalError):
    """A setting, an address or a file of the deployment is wrong."""

    exit_code = 78  # EX_CONFIG


class LocalInputError(LocalError):
    """A value given to us by our own caller is wrong."""

    exit_code = 65  # EX_DATAERR


class LocalRangeError(LocalInputError):
    """On this text a value left the range that the program was planned for, so that its answer may be wrong."""


class LocalStateError(LocalError):
    """A call at the wrong moment."""


class LocalBusyError(LocalError):
    """There is no room for more work now."""

    exit_code = 75  # EX_TEMPFAIL


class LocalSizeError(LocalError):
    """A request that can never fit; `largest` sentences of its length would, 0 if none."""

    exit_code = 65  # EX_DATAERR

    def __init__(self, message: str, largest: int) -> None:
        self.largest = largest
        super().__init__(message)


class LocalStorageError(LocalError):
    """The disk is full or failed, or a file is no longer what we wrote."""

    exit_code = 74  # EX_IOERR


class RemoteError(MpcError):
    """The peer's fault."""

    exit_code = 76  # EX_PROTOCOL


class RemoteProtocolError(RemoteError):
    """The peer sent bytes that are not the protocol."""


class RemoteIdentityError(RemoteError):
    """The peer is not who we expect, or it refused our certificate."""

    exit_code = 77  # EX_NOPERM


class RemoteMismatchError(RemoteError):
    """The peer runs another format version, program or configuration."""

    exit_code = 78  # EX_CONFIG: one of the two configurations has to change


class RemoteAbort(RemoteError):
    """The peer gave up; `reason` is its public one-line reason.

    `final`: the same request will never be taken. `largest`: so many of its sentences would be, if the peer says so.
    `lost`: it was taken, and will have no answer; without this, one that was taken may still have one.
    """

    def __init__(
        self, peer: str, reason: str, *, final: bool = False, largest: int | None = None, lost: bool = False
    ) -> None:
        self.peer = peer
        self.reason = one_line(reason, 300)
        self.final, self.largest, self.lost = final, largest, lost
        super().__init__(f"{peer} aborted: {self.reason}")


class ChannelError(MpcError):
    """The wire's fault."""

    exit_code = 69  # EX_UNAVAILABLE


class ChannelClosed(ChannelError):
    """The connection ended."""


class ChannelParted(ChannelClosed):
    """The peer closed the connection in order: it has left, and was not cut off."""


class ChannelTimeout(ChannelError):
    """Nothing came, or nothing left, in time."""

    exit_code = 75  # EX_TEMPFAIL


class ChannelBusy(ChannelError):
    """The port is in use."""

    exit_code = 75  # EX_TEMPFAIL
