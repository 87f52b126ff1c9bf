"""TLS without cryptography, for a network that nobody listens to: certificates are shown and looked at, no bytes hidden.

It has the interface of `mpcnet.transport.tls_engine.TlsEngine` and of what `Identity.context` returns. A record is its
length and its bytes; an empty one is the goodbye.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mpcnet.errors import ChannelClosed, RemoteProtocolError
from mpcnet.transport.identity import Identity, Roster, fingerprints

LENGTH = struct.Struct(">I")
LONGEST = 1 << 24
REVOKED = "client:revoked"
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@cache
def certificate(role: str) -> bytes:
    """PEM, the same each time."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(role.encode()).digest())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"mpcnet:{role}")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, BEGIN, END).add_extension(names, critical=False)
    return built.sign(key, None).public_bytes(Encoding.PEM)


def write_identity(folder: Path, role: str) -> Identity:
    """A folder of a party, as far as a party looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (folder / name).write_bytes(certificate(role))
    return Identity.in_folder(folder)


def roster(*roles: str) -> Roster:
    """Their keys are pinned; that of REVOKED is another than it has."""
    keys = {role: role for role in roles} | {REVOKED: "the new key of it"}
    return Roster(
        {role: [fingerprints(x509.load_pem_x509_certificate(certificate(of)))[1]] for role, of in keys.items()}
    )


def context(identity: Identity, *, server_side: bool) -> Context:
    """In the place of `Identity.context`."""
    return _context(identity.certificate)


@cache
def _context(path: Path) -> Context:
    return Context(x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER))


class Context:
    def __init__(self, shown: bytes) -> None:
        self.shown = shown


class Connection:
    """What is asked of an `ssl.SSLObject`."""

    def __init__(self) -> None:
        self.shown = b""

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self.shown if binary_form else {"subjectAltName": _names(self.shown)}


@cache
def _names(der: bytes) -> tuple[tuple[str, str], ...]:
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(("URI", uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier))


class PlainEngine:
    """In the place of `TlsEngine`."""

    def __init__(self, context: Context, *, server_side: bool, where: str) -> None:
        self.where = where
        self.connection = Connection()
        self._context, self._server_side = context, server_side
        self._incoming, self._eof = bytearray(), False
        self._outgoing: list[bytes] = []
        self._shown = self._ended = False
        self._plain = memoryview(b"")  # of the record that is being read
        self._goodbye = False

    def feed(self, data: memoryview) -> None:
        self._incoming += data

    def feed_eof(self) -> None:
        self._eof = True

    def outgoing(self) -> bytes:
        taken = b"".join(self._outgoing)
        self._outgoing.clear()
        return taken

    @property
    def pending(self) -> int:
        return sum(map(len, self._outgoing))

    def handshake(self) -> bool:
        if not self._shown and (not self._server_side or self._incoming):
            self._shown = True
            self._outgoing += (LENGTH.pack(len(self._context.shown)), self._context.shown)
        record = self._record()
        if record is None:
            return False
        try:
            _names(record)
        except ValueError:
            raise RemoteProtocolError(f"{self.where}: this is not our TLS 1.3 (no certificate)") from None
        self.connection.shown = record
        return True

    def read_into(self, view: memoryview) -> int | None:
        filled = 0
        while filled < len(view):
            if not len(self._plain):
                record = None if self._goodbye else self._record(quiet=filled > 0)
                if record is None:
                    return filled if filled or self._goodbye else None
                self._plain, self._goodbye = memoryview(record), not record
                continue
            count = min(len(self._plain), len(view) - filled)
            view[filled : filled + count] = self._plain[:count]
            self._plain = self._plain[count:]
            filled += count
        return filled

    def write(self, view: memoryview) -> None:
        if self._ended:
            raise ChannelClosed(f"{self.where}: cannot write (PROTOCOL_IS_SHUTDOWN)")
        if len(view):
            self._outgoing += (LENGTH.pack(len(view)), bytes(view))

    def end(self) -> None:
        if self.connection.shown and not self._ended:
            self._ended = True
            self._outgoing.append(LENGTH.pack(0))

    def _record(self, *, quiet: bool = False) -> bytes | None:
        """The next whole record. None: it has not come yet; with `quiet`, an end without a goodbye is no error yet."""
        incoming = self._incoming
        if len(incoming) >= LENGTH.size:
            length = LENGTH.unpack_from(incoming)[0]
            if length > LONGEST:
                raise RemoteProtocolError(f"{self.where}: this is not our TLS 1.3 (WRONG_VERSION_NUMBER)")
            if len(incoming) >= LENGTH.size + length:
                record = bytes(memoryview(incoming)[LENGTH.size : LENGTH.size + length])
                del incoming[: LENGTH.size + length]
                return record
        if self._eof and not quiet:
            raise ChannelClosed(f"{self.where}: the connection ended without a goodbye; did the peer die?")
        return None
