"""`mpcnet renew`: which files change, and that every mixture of old and new hosts goes on understanding each other."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from sockets import close
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError, MpcError
from mpcnet.launch.deployment import certs, renew
from mpcnet.launch.deployment.certs import ROLES, create_deployment
from mpcnet.launch.deployment.renew import Renewal, finish, renew_command, replace_all, steps
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.doctor.keys import check_keys
from mpcnet.transport.identity import Identity, Roster, fingerprints, read_certificate
from mpcnet.transport.tls import dial, listen


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A deployment whose certificates expire in ten days."""
    create_deployment(tmp_path, [*ROLES, "client:alice"], days=10)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(folder: Path, before: dict[str, bytes]) -> set[str]:
    after = content(folder)
    assert set(after) == set(before)
    return {name for name in after if after[name] != before[name]}


def hosts(place: Path, target: Path, *copies: str) -> None:
    """Bring these files of the deployment to the hosts."""
    for name in copies:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes((place / name).read_bytes())


async def understand(folder: Path, dialler: str = "server1", listener: str = "server0") -> None:
    """:raises MpcError: they do not."""
    ours, theirs = folder / listener, folder / dialler
    channels = []
    server = await listen(
        "127.0.0.1:0", Identity.in_folder(ours), Roster.load(ours / "roster.json"), [dialler], channels.append,
        linger_s=0.2,
    )  # fmt: skip
    try:
        roster = Roster.load(theirs / "roster.json")
        dialled = await dial(server.address, Identity.in_folder(theirs), roster, listener, 5.0, linger_s=0.2)
        await close(dialled, *channels)
    finally:
        await server.close()


async def refused(folder: Path) -> None:
    with pytest.raises(MpcError, match="certificate or key"):
        await understand(folder)


def days_left(path: Path) -> float:
    return (read_certificate(path).not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)


def clean(folder: Path, *roles: str) -> bool:
    """What the doctor says of the keys, its opinion on their remaining time included."""
    found = [check_keys(Settings(folder / role, role, {}, program="roster.json"), datetime.now(UTC)) for role in roles]
    return all(finding.level == "ok" for findings in found for finding in findings)


async def test_same_key(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Only certificates change; hosts take theirs in any order, without anybody else's knowledge."""
    there = tmp_path_factory.mktemp("hosts")
    hosts(place, there, *content(place))
    before = content(place)
    assert not clean(place, "server0")
    renewal = renew.renew(place, (), 365.0)
    assert changed(place, before) == {f"{role}/cert.pem" for role in (*ROLES, "client-alice")}
    assert renewal == Renewal({role: ("cert.pem",) for role in (*ROLES, "client:alice")}, False, False)
    assert clean(place, *ROLES) and 364 < days_left(place / "client-alice/cert.pem") < 366
    assert Identity.in_folder(place / "client-alice").role() == "client:alice"
    await understand(there)
    hosts(place, there, "server0/cert.pem")
    await understand(there)
    hosts(place, there, "server1/cert.pem")
    await understand(there)


async def test_new_key(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rosters first, then keys host by host, then the end of the former keys: no step parts the two."""
    there = tmp_path_factory.mktemp("hosts")
    hosts(place, there, *content(place))
    before = content(place)
    renewal = renew.renew(place, ["server0"], 365.0, new_key=True)
    rosters = {f"{role}/roster.json" for role in (*ROLES, "client-alice")}
    assert changed(place, before) == rosters | {"server0/cert.pem", "server0/key.pem"}
    assert renewal.roster_first and renewal.unfinished
    assert renewal.files["server0"] == ("cert.pem", "key.pem", "roster.json")
    assert (place / "server0/key.pem").stat().st_mode & 0o777 == 0o600
    hosts(place, there, "server0/roster.json")
    await understand(there)
    hosts(place, there, "server1/roster.json")
    await understand(there)
    hosts(place, there, "server0/cert.pem", "server0/key.pem")
    await understand(there)
    before = content(place)
    assert finish(place) == Renewal({role: ("roster.json",) for role in (*ROLES, "client:alice")}, False, False)
    assert changed(place, before) == rosters
    hosts(place, there, "server1/roster.json")
    await understand(there)
    assert finish(place).files == {}


async def test_new_key_without_its_order(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Why the order: a host without the new roster refuses a new key, one with the last roster a former key."""
    there = tmp_path_factory.mktemp("hosts")
    hosts(place, there, *content(place))
    former = content(place)
    renew.renew(place, ["server0"], 365.0, new_key=True)
    hosts(place, there, "server0/cert.pem", "server0/key.pem", "server0/roster.json")
    await refused(there)
    finish(place)
    hosts(place, there, "server1/roster.json")
    await understand(there)
    for name in ("server0/cert.pem", "server0/key.pem"):
        (there / name).write_bytes(former[name])
    await refused(there)


def test_a_change_of_keys_stays_open_until_finished(place: Path) -> None:
    first = fingerprints(read_certificate(place / "dealer/cert.pem"))[1]
    renew.renew(place, ["dealer"], 365.0, new_key=True)
    renewal = renew.renew(place, (), 365.0)
    assert renewal.unfinished and not renewal.roster_first
    present = fingerprints(read_certificate(place / "dealer/cert.pem"))[1]
    pins = Roster.load(place / "server0/roster.json").fingerprints
    assert pins["dealer"] == (present, first) and present != first
    assert all(len(found) == 1 for role, found in pins.items() if role != "dealer")


async def test_roster_of_version_1(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It pins certificates, so the first renewal needs new rosters everywhere; from then on keys are pinned."""
    there = tmp_path_factory.mktemp("hosts")
    roles = {"client:alice": "client-alice"} | {role: role for role in ROLES}
    pins = {role: fingerprints(read_certificate(place / home / "cert.pem"))[0] for role, home in roles.items()}
    for home in roles.values():
        (place / home / "roster.json").write_text(json.dumps({"version": 1, "roles": pins}))
    hosts(place, there, *content(place))
    await understand(there)
    renewal = renew.renew(place, ["server1"], 365.0)
    assert renewal.roster_first and not renewal.unfinished
    hosts(place, there, "server1/cert.pem")
    await refused(there)
    hosts(place, there, "server0/roster.json", "server1/roster.json")
    await understand(there)
    assert not renew.renew(place, (), 365.0).roster_first


async def test_authority_that_would_expire(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is renewed too, with its key: a host with the old ca.pem and one with the new understand each other."""
    authority = renew.read_authority(place)
    short = certs.renewed_authority(authority.key, certs.Validity.days(20))
    for home in ("authority", "client-alice", *ROLES):
        (place / home / "ca.pem").write_bytes(certs.certificate_pem(short.certificate))
    there = tmp_path_factory.mktemp("hosts")
    hosts(place, there, *content(place))
    assert renew.renew(place, ["server0"], 15.0).files == {"server0": ("cert.pem",)}
    renewal = renew.renew(place, ["server0"], 365.0)
    assert renewal.files["server0"] == ("ca.pem", "cert.pem") and renewal.files["client:alice"] == ("ca.pem",)
    assert days_left(place / "authority/ca.pem") > 3600 and clean(place, "server0")
    hosts(place, there, "server0/ca.pem", "server0/cert.pem")
    await understand(there)


def test_without_the_roles_keys(place: Path) -> None:
    """They may be where they belong, on their hosts: a certificate's public key is enough."""
    key = read_certificate(place / "server0/cert.pem").public_key()
    (place / "server0/key.pem").unlink()
    renew.renew(place, ["server0"], 365.0)
    assert read_certificate(place / "server0/cert.pem").public_key() == key
    assert not (place / "server0/key.pem").exists()


def test_key_and_certificate_of_two_renewals(place: Path) -> None:
    """What a power cut between two renames leaves behind: renewing again makes them fit."""
    before = (place / "server0/cert.pem").read_bytes()
    renew.renew(place, ["server0"], 365.0, new_key=True)
    (place / "server0/cert.pem").write_bytes(before)
    assert renew.renew(place, ["server0"], 365.0).unfinished
    assert clean(place, "server0")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: (place / "authority/ca-key.pem").unlink(), "ca-key.pem: No such file.*bring it here first"),
        (lambda place: (place / "authority/ca-key.pem").write_text("no"), "want a private key in PEM"),
        (
            lambda place: (place / "authority/ca-key.pem").write_bytes((place / "dealer/key.pem").read_bytes()),
            "want ca-key.pem to be the key of ca.pem",
        ),
        (
            lambda place: (place / "dealer/cert.pem").write_bytes((place / "owner/cert.pem").read_bytes()),
            "dealer: want a certificate of its own role, got one of owner",
        ),
        (
            lambda place: (place / "dealer/roster.json").write_text('{"version": 2, "roles": {}}'),
            "roster.json of dealer is not that of client; copy the newest",
        ),
    ],
)
def test_what_is_no_deployment(place: Path, spoil, words: str) -> None:
    spoil(place)
    before = content(place)
    with pytest.raises(LocalConfigError, match=words):
        renew.renew(place, (), 365.0)
    assert content(place) == before


def test_authority_whose_key_is_open(place: Path) -> None:
    (place / "authority/ca-key.pem").chmod(0o644)
    with pytest.raises(
        LocalConfigError, match=r"ca-key.pem: want a file of its owner alone, got mode 0644; run: chmod"
    ):
        renew.renew(place, (), 365.0)


def test_unknown_role_and_folder(place: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match=r"want roles of client, client:alice, dealer, .*, got server2"):
        renew.renew(place, ["server2"], 365.0)
    with pytest.raises(LocalConfigError, match="want the folder that mpcnet init made"):
        renew.renew(tmp_path / "dealer", (), 365.0)


def test_nothing_changes_unless_all_can(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the last file: no file has changed and none is left over."""
    before, written = content(place), []

    def write_new(path: Path, text: bytes, mode: int) -> None:
        if len(written) == 5:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        certs.write_new(path, text, mode)

    monkeypatch.setattr(renew, "write_new", write_new)
    with pytest.raises(LocalConfigError, match="No space left on device; nothing was changed"):
        renew.renew(place, (), 365.0)
    assert len(written) == 5 and content(place) == before


def test_leftovers_of_a_cut_off_run(tmp_path: Path) -> None:
    (tmp_path / ".key.pem.new").write_text("half")
    (tmp_path / "key.pem").write_text("old")
    replace_all({tmp_path / "key.pem": b"new"})
    assert content(tmp_path) == {"key.pem": b"new"}
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def command(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = typer.Typer()
    app.command()(renew_command)
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return ended.exit_code, ended.stdout, ended.exception


def test_command(place: Path) -> None:
    code, shown, _ = command(place, "--role", "dealer", "--role", "client")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert code == 0 and lines == [
        f"copy cert.pem of {place}/client to client",
        f"copy cert.pem of {place}/dealer to dealer",
        "restart, one at a time: dealer",
    ]
    code, shown, _ = command(place, "--new-key", "--role", "server1")
    assert code == 0
    places = [shown.index(words) for words in (
        f"copy roster.json of {place}/client-alice to client:alice", "nothing is to be restarted",
        f"copy cert.pem, key.pem of {place}/server1 to server1", "restart, one at a time: server1",
        f"mpcnet renew {place} --finish",
    )]  # fmt: skip
    assert places == sorted(places) and len(re.findall("roster.json", shown)) == 6
    code, shown, _ = command(place, "--finish")
    assert code == 0 and "copy roster.json" in shown and "--finish" not in shown and "restart, one" not in shown
    assert command(place, "--finish")[1] == "nothing has changed\n"
    assert isinstance(command(place, "--finish", "--new-key")[2], LocalConfigError)


def test_a_client_restarts_nothing() -> None:
    assert (
        steps(Path("d"), Renewal({"client": ("cert.pem",)}, False, False))[-1].strip() == "nothing is to be restarted"
    )
