"""Who is who: a role is read from a certificate, never from what the peer says of itself.

A certificate carries its role as the URI `mpcnet:ROLE` among its subject's alternative names, is signed by the
deployment's private authority, and is pinned in the roster: a role that the roster does not name is refused, so the
authority's signature alone lets nobody in. A pin is the fingerprint of the certificate or of its public key; a pinned
key stays pinned when its certificate is renewed. Addresses prove nothing, so host names are not checked.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError, RemoteIdentityError, describe

ROLE_URI = "mpcnet:"
ROLE_PATTERN = re.compile(r"(server0|server1|dealer|replica0|replica1|owner|client(:[A-Za-z0-9_.-]{1,64})?)")
OPEN = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP  # what nobody may have of a private key
ALPN = "mpcnet/1"  # keeps a stray TLS client of another protocol from getting further


def is_role(text: str) -> bool:
    """True for server0, server1, dealer, replica0, replica1, owner, client and client:NAME."""
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
        """The layout that `mpcnet.launch.deployment.certs` writes."""
        return cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def role(self) -> str:
        """Our own role.

        :raises LocalConfigError: the certificate cannot be read or names no role.
        """
        certificate = read_certificate(self.certificate)
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, x509.ExtensionNotFound) as error:
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
class Shown:
    """Who a certificate says that a peer is, and its two fingerprints: the certificate's and its key's."""

    role: str
    pins: tuple[str, ...]


class Identifies(Protocol):
    """What tells who a peer is: a roster, or who keeps one up to date."""

    def identify(self, connection: ssl.SSLObject, accept: Collection[str], where: str) -> Shown:
        """See :meth:`Roster.identify`."""


@dataclass(frozen=True, slots=True)
class Roster:
    """Role -> its pins, of which a certificate must have one. A role that it does not name is refused.

    There are two pins of a role while its key is changed: the new one and the former one.
    """

    fingerprints: Mapping[str, Collection[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read the JSON that `mpcnet.launch.deployment.certs` writes: {"version": 2, "roles": {ROLE: [FINGERPRINT,
        ...]}}.

        Version 1 has one fingerprint for each role, without a list.

        :raises LocalConfigError: the file is not that.
        """
        try:
            document = checked_json.mapping(path.read_bytes())
            version, roles = document["version"], document["roles"]
            if not isinstance(roles, dict):
                raise ValueError(f"roles that are {checked_json.kind(roles)}")
        except OSError as error:
            raise LocalConfigError(f"roster {path.name}: {_why(error)}") from None
        except MALFORMED as error:
            raise LocalConfigError(f"roster {path.name}: want a roster, got {_said(error)}") from None
        if type(version) is not int or version not in (1, 2):
            raise LocalConfigError(describe(f"roster {path.name}, version", "1 or 2", version))
        pins = {role: _pins(value, version) for role, value in roles.items()}
        for role, found in pins.items():
            if not is_role(role) or not found:
                raise LocalConfigError(f"roster {path.name}: {role!r} is no role or has no SHA-256 fingerprint")
        return cls(pins)

    def accepts(self, role: str, pins: Collection[str]) -> bool:
        """True if one of these fingerprints, of a certificate and of its public key, is pinned for `role`."""
        return not set(self.fingerprints.get(role, ())).isdisjoint(pins)

    def check(self, shown: Shown, where: str) -> None:
        """:raises RemoteIdentityError: the roster does not name the role, or pins other certificates and keys."""
        if shown.role not in self.fingerprints:
            hint = "was it revoked? if not: mpcnet client add, where the deployment was made, and copy roster.json here"
            raise RemoteIdentityError(describe(where, "a role that the roster names", f"{shown.role}, not in it", hint))
        if not self.accepts(shown.role, shown.pins):
            want = " or ".join(f"{pin[:16]}..." for pin in self.fingerprints[shown.role])
            got = " with key ".join(f"{pin[:16]}..." for pin in shown.pins)
            hint = "is the roster of this deployment, and as new as the certificate?"
            raise RemoteIdentityError(describe(f"{where}, {shown.role}", f"certificate or key {want}", got, hint))

    def identify(self, connection: ssl.SSLObject, accept: Collection[str], where: str) -> Shown:
        """Who the peer of an established TLS connection is.

        :raises RemoteIdentityError: its certificate names no role, or a role not in `accept`, or is not pinned.
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
        shown = Shown(role, fingerprints(x509.load_der_x509_certificate(der)))
        self.check(shown, where)
        return shown


def _pins(value: object, version: int) -> tuple[str, ...]:
    """The fingerprints of one role in a roster's file; none if one of them is not a fingerprint."""
    texts = value if version == 2 and isinstance(value, list) else [value] if version == 1 else []
    pins = tuple(text for text in texts if isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text))
    return pins if len(pins) == len(texts) else ()


def fingerprints(certificate: x509.Certificate) -> tuple[str, str]:
    """SHA-256 of a certificate's DER, and of its public key's (the SubjectPublicKeyInfo), in hexadecimal."""
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(public).hexdigest()


def read_certificate(path: Path) -> x509.Certificate:
    """The one certificate of a PEM file.

    :raises LocalConfigError: it cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"certificate {path.name}: {_why(error)}") from None


def check_private(path: Path) -> None:
    """A file with a secret. Its group may read it: services get their keys so, from who manages them.

    :raises LocalConfigError: others may read or write it, or its group may write it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise LocalConfigError(f"{path}: {_why(error)}") from None
    if mode & OPEN:
        raise LocalConfigError(f"{path}: want a file of its owner alone, got mode {mode:04o}; run: chmod 600 {path}")


def role_of_uris(uris: Collection[str]) -> str | None:
    """The role if exactly one URI names one."""
    roles = [uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI)]
    return roles[0] if len(roles) == 1 and is_role(roles[0]) else None


def _why(error: Exception) -> str:
    """The reason without the path: paths of this machine do not belong into messages that may travel."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not PEM")
    return str(error.strerror) if isinstance(error, OSError) else f"{type(error).__name__}"


def _said(error: Exception) -> str:
    """What was wrong with a JSON file: a reason of ours, or that a key is missing."""
    return f"none with {error}" if isinstance(error, KeyError) else str(error)


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # instead of OpenSSL asking at the terminal
