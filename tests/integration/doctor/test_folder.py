"""`mpcnet doctor`: a folder with other files, keys or certificates than it should have."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from parties import tiny
from visits import DAY, NOW, by_check, config_of, doctor, levels, listening

from mpcnet.launch.deployment import settings
from mpcnet.launch.deployment.certs import ROLES, create_deployment
from mpcnet.launch.doctor.keys import check_keys


def expire(place: Path, days: float) -> None:
    """A new deployment of the same layout, whose certificates end `days` after NOW."""
    for role in (*ROLES, "authority"):
        for name in ("ca.pem", "cert.pem", "key.pem", "roster.json", "ca-key.pem"):
            (place / role / name).unlink(missing_ok=True)
    create_deployment(place, ROLES, not_before=NOW - 400 * DAY, not_after=NOW + days * DAY)


def swap(place: Path, name: str, source: str = "dealer") -> None:
    shutil.copy(place / source / name, place / "server0" / name)


def other_authority(place: Path) -> None:
    create_deployment(place / "other", ["server0"])
    shutil.copy(place / "other/server0/ca.pem", place / "server0/ca.pem")


def other_roster(place: Path) -> None:
    create_deployment(place / "other", ["server0"])
    shutil.copy(place / "other/server0/roster.json", place / "server0/roster.json")


@pytest.mark.parametrize(
    ("change", "check", "level", "words"),
    [
        (lambda place: (place / "server0/key.pem").chmod(0o644), "key.pem", "error", "mode 0644: others"),
        (lambda place: (place / "server0/key.pem").chmod(0o620), "key.pem", "error", "mode 0620: others"),
        (lambda place: (place / "server0/key.pem").chmod(0o640), "key.pem", "warning", "mode 0640: its group"),
        (lambda place: (place / "server0").chmod(0o777), "folder", "error", "anybody can replace"),
        (lambda place: (place / "server0/cert.pem").unlink(), "files", "error", "no cert.pem beside"),
        (lambda place: swap(place, "key.pem"), "key", "error", "not the key of cert.pem"),
        (lambda place: swap(place, "cert.pem"), "certificate", "error", "of dealer, but the settings are of server0"),
        (lambda place: (place / "server0/cert.pem").write_text("no"), "keys", "error", "cert.pem: "),
        (lambda place: (place / "server0/key.pem").write_text("no"), "keys", "error", "want a private key"),
        (other_authority, "authority", "error", "ca.pem has not signed"),
        (other_roster, "roster", "error", "pins another certificate for server0"),
        (lambda place: expire(place, -1), "certificate's time", "error", "expired 1.0 days ago"),
        (lambda place: expire(place, 29), "certificate's time", "warning", "expires in 29.0 days"),
        (lambda place: expire(place, 31), "certificate's time", "ok", "31 days left"),
    ],
)
def test_keys(place: Path, change: Callable[[Path], object], check: str, level: str, words: str) -> None:
    (place / "server0").chmod(0o700)
    change(place)
    found = by_check(check_keys(config_of(place, "server0"), NOW))
    assert found[check].level == level and words in found[check].found, found


def test_certificate_of_the_future(place: Path) -> None:
    found = by_check(check_keys(config_of(place, "server0"), datetime(2020, 1, 1, tzinfo=UTC)))
    for check in ("certificate's time", "authority's time"):
        assert found[check].level == "error" and "not valid before" in found[check].found
    assert "clock" in found["certificate's time"].advice


def test_unpinned_client(place: Path) -> None:
    (place / "client/roster.json").write_text('{"version": 2, "roles": {}}')
    found = by_check(check_keys(config_of(place, "client"), NOW))["roster"]
    assert found.level == "error" and "whom everybody with this roster refuses" in found.found


async def test_broken_settings(place: Path) -> None:
    (place / "dealer" / settings.FILE).write_text("role = 3")
    found = await doctor(place, "dealer")
    assert list(found) == ["settings"] and "addresses is missing" in found["settings"].found


async def test_broken_program(place: Path) -> None:
    """Everything else is still looked at."""
    (place / "server0/program.json").write_text("{}")
    async with listening(place, "dealer", config=tiny().config()):
        found = await doctor(place, "server0")
    assert levels(found) == {"program": "error"}
    assert found["dealer"].level == "ok" and "program of dealer" not in found
