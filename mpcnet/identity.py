"""Who is who: a role is read from a certificate, never from what the peer says of itself.

A certificate carries its role as the URI `mpcnet:ROLE` among its subject's alternative names, is signed by the
deployment's private authority, and its fingerprint is pinned in the roster where the roster names the role.
Addresses prove nothing, so host names are not checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from mpcnet.errors import LocalConfigError, RemoteIdentityError, describe

ROLE_URI = "mpcnet:"
ROLE_PATTERN = re.compile(r"(server0|server1|dealer|owner|client(:[A-Za-z0-9_.-]{1,64})?)")
ALPN = "mpcnet/1"  # keeps a stray TLS client of another protocol from getting further


def is_role(text: str) -> bool:
    """True for server0, server1, dealer, owner, client and client:NAME."""
    return ROLE_PATTERN.fullmatch(text) is not None


def role_accepted(role: str, accept: Collection[str]) -> bool:
    """`client` in `accept` stands for every client; other roles are themselves."""
    return role in accept or (role.startswith("client:") and "client" in accept)


@dataclass(frozen=True, slots=True)
class Identity:
    """Where our own certificate, its key and the authority's certificate lie."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Identity:
        """The layout that `launch.certs` writes."""
        return cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def role(self) -> str:
        """Our own role.

        :raises LocalConfigError: the certificate cannot be read or names no role.
        """
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (OSError, ValueError, x509.ExtensionNotFound) as error:
            raise LocalConfigError(f"certificate {self.certificate.name}: {_why(error)}") from None
        role = role_of_uris(uris)
        if role is None:
            raise LocalConfigError(describe(f"certificate {self.certificate.name}", "one role", uris))
        return role

    def context(self, *, server_side: bool) -> ssl.SSLContext:
        """Mutual TLS 1.3 and nothing else; no host names, no tickets, no authority but ours.

        :raises LocalConfigError: a file is missing, or the key is not the certificate's.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        context.set_alpn_protocols([ALPN])
        if server_side:
            context.num_tickets = 0  # sessions are not resumed: each connection proves its identity
        try:
            context.load_verify_locations(cafile=str(self.ca))
            context.load_cert_chain(str(self.certificate), str(self.key), password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = ", ".join(path.name for path in (self.ca, self.certificate, self.key))
            raise LocalConfigError(f"identity ({files}): {_why(error)}") from None
        return context


@dataclass(frozen=True, slots=True)
class Roster:
    """Role -> SHA-256 of the certificate's DER, in hexadecimal. A role it does not name is known by its CA only."""

    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read the JSON that `launch.certs` writes: {"version": 1, "roles": {ROLE: FINGERPRINT}}.

        :raises LocalConfigError: the file is not that.
        """
        try:
            document = json.loads(path.read_text())
            version, roles = document["version"], dict(document["roles"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LocalConfigError(f"roster {path.name}: {_why(error)}") from None
        if version != 1:
            raise LocalConfigError(describe(f"roster {path.name}, version", 1, version))
        for role, fingerprint in roles.items():
            if not is_role(role) or not isinstance(fingerprint, str) or not re.fullmatch("[0-9a-f]{64}", fingerprint):
                raise LocalConfigError(f"roster {path.name}: {role!r} is no role or has no SHA-256 fingerprint")
        return cls(roles)

    def identify(self, connection: ssl.SSLObject, accept: Collection[str], where: str) -> str:
        """The role of the peer of an established TLS connection.

        :raises RemoteIdentityError: its certificate names no role, a role not in `accept`, or is not the pinned one.
        """
        der = connection.getpeercert(binary_form=True)
        decoded = connection.getpeercert()
        if der is None or not decoded:
            raise RemoteIdentityError(f"{where}: no certificate")
        names = decoded.get("subjectAltName", ())
        role = role_of_uris([str(name[1]) for name in names if isinstance(name, tuple) and name[0] == "URI"])
        if role is None:
            raise RemoteIdentityError(f"{where}: the certificate names no role")
        if not role_accepted(role, accept):
            raise RemoteIdentityError(describe(where, f"role {' or '.join(sorted(accept))}", f"certificate of {role}"))
        fingerprint = hashlib.sha256(der).hexdigest()
        pinned = self.fingerprints.get(role, fingerprint)
        if pinned != fingerprint:
            want, got = f"certificate {pinned[:16]}...", f"{fingerprint[:16]}..."
            raise RemoteIdentityError(describe(f"{where}, {role}", want, got, "is the roster of this deployment?"))
        return role


def role_of_uris(uris: Collection[str]) -> str | None:
    """The role if exactly one URI names one."""
    roles = [uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI)]
    return roles[0] if len(roles) == 1 and is_role(roles[0]) else None


def _why(error: Exception) -> str:
    """The reason without the path: paths of this machine do not belong into messages that may travel."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not PEM")
    return str(error.strerror) if isinstance(error, OSError) else f"{type(error).__name__}"


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # instead of OpenSSL asking at the terminal
