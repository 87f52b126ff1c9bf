"""A deployment's certificates: one private authority, one key pair and certificate per role, and the roster.

::

    DIR/authority/{ca.pem,ca-key.pem}                         kept apart: no party needs the key
    DIR/ROLE/{ca.pem,cert.pem,key.pem,roster.json}            all that ROLE needs, nothing of the others

The roster pins public keys, so that a certificate can be renewed (`mpcnet.launch.deployment.renew`) without a change at
the other hosts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcnet.errors import LocalConfigError, describe
from mpcnet.transport.identity import ROLE_URI, fingerprints, is_role

PublicKey: TypeAlias = ec.EllipticCurvePublicKey
ROLES = ("server0", "server1", "dealer", "owner", "client")
LISTENERS = ROLES[:3]  # those with an address; the others dial them
CLOCK_SLACK = timedelta(minutes=5)  # machines' clocks differ
AUTHORITY = "authority"
AUTHORITY_NAME = "mpcnet private authority"
AUTHORITY_DAYS = 3650.0  # outlives many renewals: a new certificate of the authority has to go to every host


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def days(cls, days: float) -> Validity:
        """From now, for `days`."""
        now = datetime.now(UTC)
        return cls(now - CLOCK_SLACK, now + timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Authority:
    """The private authority: who holds its key can be every role."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Authority(...)"


def create_deployment(
    folder: Path,
    roles: Sequence[str] = ROLES,
    *,
    days: float = 365.0,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> None:
    """Write authority, certificates and rosters below `folder`, which must not hold a deployment yet.

    `not_before` and `not_after` bound the roles' certificates instead of `days` from now; the authority holds for ten
    years, or for `days` if that is longer.

    :raises LocalConfigError: a role is unknown or twice there, or a file exists already.
    """
    if len(set(roles)) != len(roles) or not all(map(is_role, roles)):
        raise LocalConfigError(describe("roles of the deployment", "distinct known roles", ", ".join(roles)))
    usual = Validity.days(days)
    validity = Validity(not_before or usual.not_before, not_after or usual.not_after)
    authority = new_authority(Validity.days(max(days, AUTHORITY_DAYS)))
    made = {role: new_certificate(authority, role, validity) for role in roles}
    roster = roster_file({role: fingerprints(certificate)[1:] for role, (certificate, _) in made.items()})
    files = {
        folder / AUTHORITY / "ca-key.pem": key_pem(authority.key),
        folder / AUTHORITY / "ca.pem": certificate_pem(authority.certificate),
    }
    for role, (certificate, key) in made.items():
        home = folder / role_folder(role)
        files |= {home / "key.pem": key_pem(key), home / "cert.pem": certificate_pem(certificate)}
        files |= {home / "ca.pem": certificate_pem(authority.certificate), home / "roster.json": roster}
    try:
        for path, content in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(path, content, file_mode(path.name))
    except FileExistsError as error:
        name = Path(str(error.filename)).name
        raise LocalConfigError(f"{name} exists already: a deployment is not overwritten; take a new folder") from None


def role_folder(role: str) -> str:
    """`client:alice` lives in `client-alice`."""
    return role.replace(":", "-")


def new_authority(validity: Validity) -> Authority:
    """A fresh authority that may sign certificates of roles, but no further authorities."""
    return renewed_authority(ec.generate_private_key(ec.SECP256R1()), validity)


def renewed_authority(key: ec.EllipticCurvePrivateKey, validity: Validity) -> Authority:
    """The authority of this key with a new certificate: name and key stay, so either one verifies what it signed."""
    builder = _builder(AUTHORITY_NAME, key.public_key(), key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def new_certificate(
    authority: Authority, role: str, validity: Validity
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A key pair for `role`, and the certificate that says so."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certify(authority, role, key.public_key(), validity), key


def certify(authority: Authority, role: str, public: PublicKey, validity: Validity) -> x509.Certificate:
    """The certificate that says `role` of who holds the key of `public`. Every role may dial and listen."""
    builder = _builder(role, public, authority.key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [x509.UniformResourceIdentifier(ROLE_URI + role)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: str, public: PublicKey, issuer_key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def roster_file(pins: Mapping[str, Sequence[str]]) -> bytes:
    """The roster that pins these fingerprints for each role; see `mpcnet.transport.identity.Roster`."""
    document = {"version": 2, "roles": {role: list(found) for role, found in pins.items()}}
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key in the clear: its file's mode protects it."""
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def file_mode(name: str) -> int:
    """The mode of a deployment's file: a key is its owner's only."""
    return 0o600 if name in ("key.pem", "ca-key.pem") else 0o644


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Create `path` on the disk, with `mode` from its first moment.

    :raises FileExistsError: it is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
