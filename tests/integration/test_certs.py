"""The files of a deployment."""

import json
import stat
from pathlib import Path

import pytest

from mpcnet.errors import (
    LocalConfigError,
)
from mpcnet.launch.deployment.certs import ROLES, create_deployment
from mpcnet.transport.identity import fingerprints, read_certificate
from mpcnet.transport.tls import Identity, Roster


def test_deployment_gives_each_role_what_it_needs(deployment: Path) -> None:
    for role in (*ROLES, "client-alice"):
        files = sorted(path.name for path in (deployment / role).iterdir())
        assert files == ["ca.pem", "cert.pem", "key.pem", "roster.json"]
        assert stat.S_IMODE((deployment / role / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((deployment / "authority" / "ca-key.pem").stat().st_mode) == 0o600
    assert Identity.in_folder(deployment / "client-alice").role() == "client:alice"


def test_deployment_is_not_overwritten_and_roles_are_known(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="exists already"):
        create_deployment(deployment)
    for roles in (["server2"], ["dealer", "dealer"]):
        with pytest.raises(LocalConfigError, match="roles of the deployment"):
            create_deployment(tmp_path, roles)


def test_broken_files_of_a_deployment(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match=r"cert\.pem: No such file"):
        Identity.in_folder(tmp_path).role()
    mixed = Identity(deployment / "owner/ca.pem", deployment / "owner/cert.pem", deployment / "dealer/key.pem")
    with pytest.raises(LocalConfigError, match="KEY_VALUES_MISMATCH"):
        mixed.context(server_side=True)
    pin = "0" * 64
    rosters = [
        {"version": 3, "roles": {}},
        {"version": 1, "roles": {"server0": "abc"}},
        {"version": 1, "roles": {"server0": [pin]}},
        {"version": 2, "roles": {"server0": pin}},
        {"version": 2, "roles": {"server0": []}},
        {"version": 2, "roles": {"server0": [pin, "abc"]}},
        {"version": 2, "roles": {"server2": [pin]}},
    ]
    for text in ("", "[]", *map(json.dumps, rosters)):
        (tmp_path / "roster.json").write_text(text)
        with pytest.raises(LocalConfigError):
            Roster.load(tmp_path / "roster.json")


def test_pins(deployment: Path, tmp_path: Path) -> None:
    """Of a certificate or of its key, in either version; one of several is enough; who is not named is not pinned."""
    path, other = tmp_path / "roster.json", "0" * 64
    certificate = read_certificate(deployment / "dealer" / "cert.pem")
    for pin in fingerprints(certificate):
        for document in (
            {"version": 1, "roles": {"dealer": pin}},
            {"version": 2, "roles": {"dealer": [pin]}},
            {"version": 2, "roles": {"dealer": [other, pin]}},
        ):
            path.write_text(json.dumps(document))
            assert Roster.load(path).accepts("dealer", fingerprints(certificate))
    path.write_text(json.dumps({"version": 2, "roles": {"dealer": [other, fingerprints(certificate)[1][::-1]]}}))
    assert not Roster.load(path).accepts("dealer", fingerprints(certificate))
    path.write_text(json.dumps({"version": 2, "roles": {"server0": [other]}}))
    assert not Roster.load(path).accepts("dealer", fingerprints(certificate))  # the authority's signature is not enough
