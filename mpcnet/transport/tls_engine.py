"""TLS between two byte queues, sans-IO: OpenSSL's words become our errors here and nowhere else.

asyncio has its own TLS transport. This one is used instead because that one drops the alert that tells a refused
peer why, and gives no promise of when a written buffer may be reused.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import cast

from mpcnet.errors import ChannelClosed, MpcError, RemoteIdentityError, RemoteProtocolError

_HINTS = {  # by OpenSSL's X509_V_ERR: not yet valid, has expired
    9: "; ours is the wrong clock, or that of who made it",
    10: "; it needs a new one (mpcnet renew), unless our clock is wrong",
}
_OURS_EXPIRED = "; we need a new one (mpcnet renew), unless its clock is wrong"


class TlsEngine:
    """One TLS connection. `feed` what arrived, send what `outgoing` returns."""

    __slots__ = ("_incoming", "_outgoing", "connection", "where")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, where: str) -> None:
        self.where = where  # how errors name the peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.connection = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)

    def feed(self, data: memoryview) -> None:
        """Take what arrived."""
        self._incoming.write(data)

    def feed_eof(self) -> None:
        """Nothing more will arrive."""
        self._incoming.write_eof()

    def outgoing(self) -> bytes:
        """What is to be sent now, alerts included."""
        return self._outgoing.read()

    @property
    def pending(self) -> int:
        """Bytes in `outgoing`."""
        return self._outgoing.pending

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done.

        :raises RemoteIdentityError: one side refused the other's certificate.
        :raises RemoteProtocolError: the peer does not speak our TLS.
        :raises ChannelClosed: the connection ended.
        """
        try:
            self.connection.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._explain(error) from None
        return True

    def read_into(self, view: memoryview) -> int | None:
        """Decrypt into `view` all that arrived; None when more must arrive first, 0 at the peer's orderly end.

        :raises MpcError: as `handshake`; with TLS 1.3 a client learns here that its certificate was refused.
        """
        read, rest = cast(Callable[[int, memoryview], int], self.connection.read), view  # typeshed omits this form
        try:
            while len(rest) and (count := read(len(rest), rest)):  # OpenSSL reads a record at a time; 0 is the end
                rest = rest[count:]
        except ssl.SSLWantReadError:
            return len(view) - len(rest) or None
        except ssl.SSLZeroReturnError:
            pass  # 0 again when nothing came before it
        except ssl.SSLError as error:
            raise self._explain(error) from None
        return len(view) - len(rest)

    def write(self, view: memoryview) -> None:
        """Encrypt all of `view`; it may be reused afterwards.

        :raises ChannelClosed: TLS has ended.
        """
        try:
            while len(view):
                view = view[self.connection.write(view) :]
        except ssl.SSLError as error:
            raise ChannelClosed(f"{self.where}: cannot write ({error.reason})") from None

    def end(self) -> None:
        """Put our close_notify into `outgoing`; do not wait for the peer's."""
        try:
            self.connection.unwrap()
        except (ssl.SSLError, ValueError):
            return  # SSLWantRead: the usual case; others: there is no connection to end

    def _explain(self, error: ssl.SSLError) -> MpcError:
        reason = error.reason or ""
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = _HINTS.get(error.verify_code, "")
            return RemoteIdentityError(f"{self.where}: its certificate is refused: {error.verify_message}{hint}")
        if isinstance(error, ssl.SSLEOFError):
            return ChannelClosed(f"{self.where}: the connection ended without a goodbye; did the peer die?")
        if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason):
            hint = _OURS_EXPIRED if "EXPIRED" in reason else ""
            return RemoteIdentityError(f"{self.where}: it refuses our certificate ({reason}){hint}")
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return RemoteIdentityError(f"{self.where}: it shows no certificate")
        return RemoteProtocolError(f"{self.where}: this is not our TLS 1.3 ({reason or type(error).__name__})")
