"""`mpcnet renew`: new certificates for a deployment's roles, before the old ones expire.

A certificate is renewed for the same key, which every roster pins: only cert.pem changes, old and new one are both
good, and each host may take its own when it likes. With a new key the rosters name both keys until `finish` drops the
former one, so that hosts can change one after the other. The private keys of the roles are not needed here, and may be
gone from the deployment's folder; the authority's is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.markup import escape

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.certs import (
    AUTHORITY,
    AUTHORITY_DAYS,
    Authority,
    PublicKey,
    Validity,
    certificate_pem,
    certify,
    file_mode,
    key_pem,
    new_certificate,
    renewed_authority,
    role_folder,
    roster_file,
    write_new,
)
from mpcnet.launch.reporting.screen import screen
from mpcnet.launch.undumpable import protect_memory
from mpcnet.transport.identity import Identity, Roster, check_private, fingerprints, read_certificate

ORDER = ("dealer", "server0", "server1", "owner")  # who is dialled comes before who dials


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was written, by role.

    `roster_first`: every host needs its roster before any host shows its certificate. `unfinished`: a roster pins more
    than one key of a role.
    """

    files: Mapping[str, tuple[str, ...]]
    roster_first: bool
    unfinished: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A deployment as its folder shows it."""

    certificates: Mapping[str, x509.Certificate]
    roster: Roster


def renew(folder: Path, roles: Sequence[str], days: float, *, new_key: bool = False) -> Renewal:
    """Write new certificates for `roles` (all, if none is named), and a new roster for every role if it changes.

    The authority's own certificate is renewed too if it would expire before them; its key stays.

    :raises LocalConfigError: the folder is no deployment, has no authority, or no such role; nothing has changed.
    """
    known = read_deployment(folder)
    roles = roles or tuple(known.certificates)
    if unknown := [role for role in roles if role not in known.certificates]:
        raise LocalConfigError(f"{folder}: want roles of {', '.join(known.certificates)}, got {', '.join(unknown)}")
    validity = Validity.days(days)
    authority = read_authority(folder)
    files: dict[Path, bytes] = {}
    if authority.certificate.not_valid_after_utc < validity.not_after:
        authority = renewed_authority(authority.key, Validity.days(max(days, AUTHORITY_DAYS)))
        homes = [AUTHORITY, *map(role_folder, known.certificates)]
        files |= {folder / home / "ca.pem": certificate_pem(authority.certificate) for home in homes}
    made: dict[str, x509.Certificate] = {}
    for role in roles:
        home = folder / role_folder(role)
        if new_key:
            made[role], key = new_certificate(authority, role, validity)
            files[home / "key.pem"] = key_pem(key)
        else:
            made[role] = certify(authority, role, _present_key(home, known.certificates[role]), validity)
        files[home / "cert.pem"] = certificate_pem(made[role])
    return _write(folder, known, made, _pins(known, made), files)


def finish(folder: Path) -> Renewal:
    """End a change of keys: every roster pins the present keys only.

    :raises LocalConfigError: the folder is no deployment.
    """
    known = read_deployment(folder)
    return _write(folder, known, {}, {**_others(known), **_keys(known.certificates)}, {})


def _pins(known: Known, made: Mapping[str, x509.Certificate]) -> dict[str, tuple[str, ...]]:
    """The present key of each role first, then those that may still be shown. A key's pin covers its certificates'."""
    pins = _others(known)
    for role, former in known.certificates.items():
        certificate_pin, key_pin = fingerprints(former)
        kept = [pin for pin in known.roster.fingerprints.get(role, ()) if pin != certificate_pin]
        present = fingerprints(made.get(role, former))[1]
        pins[role] = tuple(dict.fromkeys((present, key_pin, *kept)))
    return pins


def _keys(certificates: Mapping[str, x509.Certificate]) -> dict[str, tuple[str, ...]]:
    return {role: (fingerprints(certificate)[1],) for role, certificate in certificates.items()}


def _others(known: Known) -> dict[str, tuple[str, ...]]:
    """Roles that the roster pins and that have no folder here."""
    pins = known.roster.fingerprints
    return {role: tuple(found) for role, found in pins.items() if role not in known.certificates}


def _write(
    folder: Path,
    known: Known,
    made: Mapping[str, x509.Certificate],
    pins: Mapping[str, Sequence[str]],
    files: dict[Path, bytes],
) -> Renewal:
    if {role: set(found) for role, found in pins.items()} != {r: set(f) for r, f in known.roster.fingerprints.items()}:
        files |= {folder / role_folder(role) / "roster.json": roster_file(pins) for role in known.certificates}
    replace_all(files)
    homes = {folder / role_folder(role): role for role in known.certificates}
    written: dict[str, list[str]] = {role: [] for role in known.certificates}
    for path in files:
        if path.parent in homes:
            written[homes[path.parent]].append(path.name)
    first = not all(known.roster.accepts(role, fingerprints(certificate)) for role, certificate in made.items())
    changed = {role: tuple(sorted(names)) for role, names in written.items() if names}
    return Renewal(changed, first, any(len(found) > 1 for found in pins.values()))


def replace_all(files: Mapping[Path, bytes]) -> None:
    """Replace these files: all are on the disk beside the old ones before the first of them takes its place.

    :raises LocalConfigError: one cannot be written; no file has changed.
    """
    staged = {path: path.with_name(f".{path.name}.new") for path in files}
    try:
        for path, content in files.items():
            staged[path].unlink(missing_ok=True)  # of a run that was cut off
            write_new(staged[path], content, file_mode(path.name))
    except OSError as error:
        for path in staged.values():
            path.unlink(missing_ok=True)
        raise LocalConfigError(f"{error.filename}: cannot write: {error.strerror}; nothing was changed") from None
    for path, new in staged.items():
        new.replace(path)
    _sync({path.parent for path in files})


def _sync(folders: Iterable[Path]) -> None:
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_deployment(folder: Path) -> Known:
    """:raises LocalConfigError: no role has a certificate here, or their rosters differ, or leave one of them out."""
    homes = sorted(path.parent for path in folder.glob("*/cert.pem"))
    if not homes:
        raise LocalConfigError(f"{folder}: want the folder that mpcnet init made, got one without any ROLE/cert.pem")
    certificates, rosters = {}, []
    for home in homes:
        role = Identity.in_folder(home).role()
        if role_folder(role) != home.name:
            raise LocalConfigError(f"{home}: want a certificate of its own role, got one of {role}")
        certificates[role] = read_certificate(home / "cert.pem")
        rosters.append(Roster.load(home / "roster.json"))
    if differing := [home.name for home, roster in zip(homes, rosters, strict=True) if roster != rosters[0]]:
        names = ", ".join(differing)
        raise LocalConfigError(
            f"{folder}: roster.json of {names} is not that of {homes[0].name}; copy the newest to all"
        )
    if unnamed := [role for role in certificates if role not in rosters[0].fingerprints]:
        roles = ", ".join(unnamed)
        raise LocalConfigError(
            f"{folder}: the rosters do not name {roles}, who were revoked; remove their folders, or bring newer rosters"
        )
    return Known(certificates, rosters[0])


def read_authority(folder: Path) -> Authority:
    """:raises LocalConfigError: the authority is not here."""
    home = folder / AUTHORITY
    certificate, key = read_certificate(home / "ca.pem"), _read_key(home / "ca-key.pem")
    if key.public_key() != certificate.public_key():
        raise LocalConfigError(f"{home}: want ca-key.pem to be the key of ca.pem, got another")
    return Authority(certificate, key)


def _present_key(home: Path, certificate: x509.Certificate) -> PublicKey:
    """The public key of key.pem, or where that is gone, of the certificate."""
    if (home / "key.pem").exists():
        return _read_key(home / "key.pem").public_key()
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise LocalConfigError(f"{home}/cert.pem: want an elliptic-curve key, got another; take --new-key")
    return key


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """:raises LocalConfigError: it is not there, or not a key of ours, or others may use it."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise LocalConfigError(f"{path}: {error.strerror}; bring it here first") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalConfigError(f"{path}: want a private key in PEM, got a {type(error).__name__}") from None
    check_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalConfigError(f"{path}: want an elliptic-curve key, got another")
    return key


def renew_command(
    folder: Annotated[Path, typer.Argument(help="The deployment's folder, with its authority.")],
    role: Annotated[list[str] | None, typer.Option(help="Only this role; may be given several times.")] = None,
    days: Annotated[float, typer.Option(min=1, help="How long the new certificates hold.")] = 365.0,
    new_key: Annotated[bool, typer.Option("--new-key", help="A new key as well; both are good for a while.")] = False,
    end: Annotated[bool, typer.Option("--finish", help="After --new-key: former keys are refused from now.")] = False,
) -> None:
    """Renew a deployment's certificates, and say what to copy to which host."""
    protect_memory()
    if end and (new_key or role):
        raise LocalConfigError("renew: want --finish alone, got it with --new-key or --role")
    renewal = finish(folder) if end else renew(folder, role or (), days, new_key=new_key)
    out = screen()
    for line in steps(folder, renewal):
        out.print(escape(line), soft_wrap=True)


def steps(folder: Path, renewal: Renewal) -> list[str]:
    """What is left to do, in order."""
    if not renewal.files:
        return ["nothing has changed"]
    if not renewal.roster_first:
        return [*_copies(folder, renewal.files), _restart(renewal.files)]
    first, then = {}, {}
    for role, names in renewal.files.items():
        first[role] = ("roster.json",)
        if rest := tuple(name for name in names if name != "roster.json"):
            then[role] = rest
    lines = ["1. All hosts must know the new certificates before one is shown:", *_copies(folder, first)]
    lines += [_restart(first), "2. Then the certificates, host by host:", *_copies(folder, then), _restart(then)]
    return [*lines, f"3. When all have changed: mpcnet renew {folder} --finish"] if renewal.unfinished else lines


def _copies(folder: Path, files: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"   copy {', '.join(names)} of {folder / role_folder(role)} to {role}" for role, names in files.items()]


def _restart(files: Mapping[str, Sequence[str]]) -> str:
    """Clients read their files at each request, and everybody a roster that has changed."""
    running = [role for role in ORDER if set(files.get(role, ())) - {"roster.json"}]
    return f"   restart, one at a time: {', '.join(running)}" if running else "   nothing is to be restarted"
