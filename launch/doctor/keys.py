"""The doctor's look at a party's own folder: its files, who may read them, and its certificate."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.doctor.findings import Finding, error, ok, warning
from mpcnet.transport.identity import OPEN, Identity, Roster, fingerprints, read_certificate

DAY_S = 86400.0
SOON_DAYS = 30  # of a certificate that is to be renewed: long enough for a planned restart
FILES = ("ca.pem", "cert.pem", "key.pem", "roster.json")
COPY = "copy this role's folder from the deployment again"
RENEW = "where the authority's key is: mpcnet renew DIR; copy what it names here, and restart"


def check_keys(settings: Settings, now: datetime) -> list[Finding]:
    """Everything about keys and certificates that can be known without a peer."""
    folder = settings.folder
    missing = [name for name in (*FILES, settings.program) if not (folder / name).is_file()]
    if missing:
        return [error("files", f"no {', '.join(missing)} beside the settings", COPY)]
    found = [ok("files", f"{', '.join((*FILES, settings.program))} are there"), *_modes(folder)]
    try:
        found += _certificate(settings, now)
    except LocalConfigError as failure:
        found.append(error("keys", str(failure), COPY))
    return found


def _modes(folder: Path) -> Iterator[Finding]:
    key = stat.S_IMODE((folder / "key.pem").stat().st_mode)
    if key & OPEN:
        yield error("key.pem", f"mode {key:04o}: others than its owner can use the key", "chmod 600 key.pem")
    elif key & stat.S_IRGRP:
        yield warning(
            "key.pem", f"mode {key:04o}: its group can read the key", "chmod 600 key.pem, unless a service needs it"
        )
    else:
        yield ok("key.pem", f"mode {key:04o}")
    place = stat.S_IMODE(folder.stat().st_mode)
    if place & stat.S_IWOTH:
        yield error("folder", f"mode {place:04o}: anybody can replace its files", f"chmod o-w {folder}")
    else:
        yield ok("folder", f"mode {place:04o}")


def _certificate(settings: Settings, now: datetime) -> Iterator[Finding]:
    """:raises LocalConfigError: a file cannot be read."""
    folder = settings.folder
    identity, roster = Identity.in_folder(folder), Roster.load(folder / "roster.json")
    certificate, authority = read_certificate(identity.certificate), read_certificate(identity.ca)
    role, public = identity.role(), _public_key(identity.key)
    if role == settings.role:
        yield ok("certificate", f"of {role}")
    else:
        yield error("certificate", f"of {role}, but the settings are of {settings.role}", COPY)
    if public == certificate.public_key():
        yield ok("key", "is the certificate's")
    else:
        yield error("key", "key.pem is not the key of cert.pem", "copy both from the same renewal")
    if _signed(certificate, authority):
        yield ok("authority", "ca.pem has signed the certificate")
    else:
        yield error("authority", "ca.pem has not signed the certificate", "copy ca.pem and cert.pem of one deployment")
    yield _pinned(roster, role, certificate)
    yield _validity("certificate's time", certificate, now)
    yield _validity("authority's time", authority, now)


def _public_key(path: Path) -> object:
    """:raises LocalConfigError: the file is no key that we can use."""
    try:
        return load_pem_private_key(path.read_bytes(), None).public_key()
    except OSError as failure:
        raise LocalConfigError(f"{path.name}: {failure.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LocalConfigError(f"{path.name}: want a private key in PEM without a password, got another") from None


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _pinned(roster: Roster, role: str, certificate: x509.Certificate) -> Finding:
    if role not in roster.fingerprints:
        found = f"does not name {role}, whom everybody with this roster refuses"
        return error("roster", found, "was it revoked? if not, copy roster.json from the deployment again")
    if roster.accepts(role, fingerprints(certificate)):
        return ok("roster", f"pins this certificate or its key for {role}")
    return error("roster", f"pins another certificate for {role}", "copy roster.json of the last renewal to every host")


def _validity(check: str, certificate: x509.Certificate, now: datetime) -> Finding:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (end - now).total_seconds() / DAY_S
    if now < begin:
        clock = f"{now:%Y-%m-%d %H:%M} UTC by our clock"
        return error(check, f"not valid before {begin:%Y-%m-%d %H:%M} UTC; it is {clock}", "set this machine's clock")
    if days < 0:
        return error(check, f"expired {-days:.1f} days ago, on {end:%Y-%m-%d}", RENEW)
    if days < SOON_DAYS:
        return warning(check, f"expires in {days:.1f} days, on {end:%Y-%m-%d}", RENEW)
    return ok(check, f"{days:.0f} days left, until {end:%Y-%m-%d}")


def utc_now() -> datetime:
    return datetime.now(UTC)
