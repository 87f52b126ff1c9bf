"""`mpcnet client`: who may ask a deployment. A client is added with keys of its own, and revoked for good.

Both change the rosters of the deployment's folder only. A running party takes a new roster.json up when the next peer
connects, or asks again, so nothing is to be restarted. What counts are the rosters of server0 and server1.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment import settings as settings_file
from mpcnet.launch.deployment.certs import (
    Validity,
    certificate_pem,
    file_mode,
    key_pem,
    new_certificate,
    role_folder,
    roster_file,
    write_new,
)
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.deployment.renew import Known, read_authority, read_deployment, replace_all
from mpcnet.launch.reporting.screen import screen
from mpcnet.launch.undumpable import protect_memory
from mpcnet.models.preprocessing import copy_tokenizer, tokenizer_digest
from mpcnet.models.private import program
from mpcnet.transport.identity import fingerprints, is_role

SERVERS = ("server0", "server1")  # whom clients dial
app = typer.Typer(no_args_is_help=True, help="Who may ask a deployment: add, revoke and list clients.")
Folder = Annotated[Path, typer.Option("--deployment", help="The folder that mpcnet init made.")]
HERE = Path("deployment")
Name = Annotated[str, typer.Argument(help="The client's name; `client` is the one without a name.")]


def role_of(name: str) -> str:
    """`alice` and `client:alice` are the role client:alice, `client` is itself.

    :raises LocalConfigError: it is no name.
    """
    role = name if name == "client" or name.startswith("client:") else f"client:{name}"
    if not is_role(role):
        raise LocalConfigError(f"client: want a name of up to 64 letters, digits, '.', '_' and '-', got {name!r}")
    return role


def add(folder: Path, role: str, days: float) -> list[str]:
    """Make the client's folder, and pin its key in all rosters; returns what is left to do.

    The folder has the key that it needs before any roster names it. So a run that is cut off leaves nobody accepted.

    :raises LocalConfigError: the folder is no deployment, has no authority or no program, or has such a client.
    """
    known = read_deployment(folder)
    home = folder / role_folder(role)
    if role in known.roster.fingerprints or home.exists():
        raise LocalConfigError(f"{home}: {role} is there already; mpcnet client revoke it first, or take another name")
    source = next((at for at in _homes(folder, known) if (at / settings_file.FILE).is_file()), None)
    if source is None:
        raise LocalConfigError(f"{folder}: want a role's folder with {settings_file.FILE}, got none; bring one here")
    settings = settings_file.read(source / settings_file.FILE)
    authority = read_authority(folder)
    certificate, key = new_certificate(authority, role, Validity.days(days))
    pins = {**_pins(known), role: fingerprints(certificate)[1:]}
    roster = roster_file(pins)
    texts = program.read(settings.program_path).preprocessing
    tokenizer = None if texts is None else _tokenizer(folder, texts.tokenizer_sha256)
    home.mkdir(mode=0o700)
    try:
        content = {"key.pem": key_pem(key), "cert.pem": certificate_pem(certificate), "roster.json": roster}
        content |= {"ca.pem": certificate_pem(authority.certificate)}
        content |= {settings.program_path.name: settings.program_path.read_bytes()}
        for name, data in content.items():
            write_new(home / name, data, file_mode(name))
        settings_file.write(replace(settings, folder=home, role=role, program=settings.program_path.name))
        if tokenizer is not None:
            copy_tokenizer(str(tokenizer), home / TOKENIZER)
        _write_rosters(folder, known, roster)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return [
        f"{role} is added; nothing is to be restarted",
        *_copies(folder),
        f"   give the folder {home} to {role}, over a safe way: it holds its key",
    ]


def revoke(folder: Path, role: str) -> list[str]:
    """Take the client out of all rosters, and remove its folder; returns what is left to do.

    :raises LocalConfigError: the folder is no deployment, or has no such client.
    """
    known = read_deployment(folder)
    if role not in _clients(known):
        raise LocalConfigError(f"{folder}: want one of {', '.join(_clients(known)) or 'no clients'}, got {role}")
    _write_rosters(folder, known, roster_file({name: p for name, p in _pins(known).items() if name != role}))
    if role in known.certificates:
        shutil.rmtree(folder / role_folder(role))  # last: what the rosters do not name is refused anyway
    return [f"{role} is revoked here; it is refused as soon as both servers have the new roster:", *_copies(folder)]


def _write_rosters(folder: Path, known: Known, roster: bytes) -> None:
    replace_all({home / "roster.json": roster for home in _homes(folder, known)})


def _homes(folder: Path, known: Known) -> Iterator[Path]:
    """The roles' folders, clients' first."""
    roles = sorted(known.certificates, key=lambda role: (not role.startswith("client"), role))
    return (folder / role_folder(role) for role in roles)


def _pins(known: Known) -> dict[str, tuple[str, ...]]:
    return {role: tuple(found) for role, found in known.roster.fingerprints.items()}


def _clients(known: Known) -> list[str]:
    return sorted(role for role in known.roster.fingerprints if role.startswith("client"))


def _tokenizer(folder: Path, digest: str) -> Path:
    """A client's tokenizer, which is the program's."""
    for place in sorted(folder.glob(f"*/{TOKENIZER}")):
        if tokenizer_digest(place) == digest:
            return place
    raise LocalConfigError(
        f"{folder}: want the program's tokenizer in a client's {TOKENIZER}/, got none; bring a client's folder here"
    )


def _copies(folder: Path) -> list[str]:
    rosters = [f"   copy {folder / role / 'roster.json'} to {role}, beside its party.toml" for role in SERVERS]
    return [*rosters, "   the other roles may have theirs whenever it suits: they meet no clients"]


def _print(lines: Iterable[str]) -> None:
    out = screen()
    for line in lines:
        out.print(escape(line), soft_wrap=True)


@app.command("add")
def add_command(
    name: Name,
    deployment: Folder = HERE,
    days: Annotated[float, typer.Option(min=1, help="How long its certificate holds.")] = 365.0,
) -> None:
    """Make a key, a certificate and a folder for one more client, and pin it in the rosters. Needs the authority."""
    protect_memory()
    _print(add(deployment, role_of(name), days))


@app.command("revoke")
def revoke_command(name: Name, deployment: Folder = HERE) -> None:
    """Take a client out of the rosters, and remove its folder: the servers refuse it from their next roster on."""
    _print(revoke(deployment, role_of(name)))


@app.command("list")
def list_command(deployment: Folder = HERE) -> None:
    """The clients that the rosters accept: role, key, and until when the certificate holds."""
    known = read_deployment(deployment)
    for role in _clients(known):
        keys = ", ".join(f"{pin[:16]}..." for pin in known.roster.fingerprints[role])
        certificate = known.certificates.get(role)
        until = f"until {certificate.not_valid_after_utc:%Y-%m-%d}" if certificate else "its folder is not here"
        _print([f"{role}  key {keys}  {until}"])
