"""A deployment's certificates: one private authority, one key pair and certificate per role, and the roster.

::

    DIR/authority/{ca.pem,ca-key.pem}                         kept apart: no party needs the key
    DIR/ROLE/{ca.pem,cert.pem,key.pem,roster.json}            all that ROLE needs, nothing of the others
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcnet.errors import LocalConfigError, describe
from mpcnet.identity import ROLE_URI, is_role

ROLES = ("server0", "server1", "dealer", "owner", "client")
CLOCK_SLACK = timedelta(minutes=5)  # machines' clocks differ


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

    `not_before` and `not_after` bound the roles' certificates; the authority always holds for `days` from now.

    :raises LocalConfigError: a role is unknown or twice there, or a file exists already.
    """
    if len(set(roles)) != len(roles) or not all(map(is_role, roles)):
        raise LocalConfigError(describe("roles of the deployment", "distinct known roles", ", ".join(roles)))
    usual = Validity.days(days)
    validity = Validity(not_before or usual.not_before, not_after or usual.not_after)
    authority = new_authority(usual)
    made = {role: new_certificate(authority, role, validity) for role in roles}
    fingerprints = {role: certificate.fingerprint(hashes.SHA256()).hex() for role, (certificate, _) in made.items()}
    roster = json.dumps({"version": 1, "roles": fingerprints}, indent=2, sort_keys=True).encode() + b"\n"
    try:
        _write_role(folder / "authority", "ca.pem", authority.certificate, "ca-key.pem", authority.key)
        for role, (certificate, key) in made.items():
            home = folder / role_folder(role)
            _write_role(home, "cert.pem", certificate, "key.pem", key)
            _write(home / "ca.pem", _pem(authority.certificate))
            _write(home / "roster.json", roster)
    except FileExistsError as error:
        name = Path(str(error.filename)).name
        raise LocalConfigError(f"{name} exists already: a deployment is not overwritten; take a new folder") from None


def role_folder(role: str) -> str:
    """`client:alice` lives in `client-alice`."""
    return role.replace(":", "-")


def new_authority(validity: Validity) -> Authority:
    """A fresh authority that may sign certificates of roles, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("mpcnet private authority", "mpcnet private authority", key.public_key(), key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def new_certificate(
    authority: Authority, role: str, validity: Validity
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A key pair for `role`, and the certificate that says so. Every role may dial and listen."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(role, "mpcnet private authority", key.public_key(), authority.key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [x509.UniformResourceIdentifier(ROLE_URI + role)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256()), key


def _builder(
    subject: str,
    issuer: str,
    public: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
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


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_role(
    folder: Path, name: str, certificate: x509.Certificate, key_name: str, key: ec.EllipticCurvePrivateKey
) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    encryption = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    _write(folder / key_name, pem, mode=0o600)
    _write(folder / name, _pem(certificate))


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Create `path` with `mode` from its first moment; never overwrite."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
