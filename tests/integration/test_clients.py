"""`mpcnet client`: who is added is served, who is revoked is not, and no party is restarted for either."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from parties import ALICE, SERVERS, Parties, some_tokens

from mpcnet.errors import LocalConfigError, RemoteAbort
from mpcnet.launch import cli
from mpcnet.launch.api.session import Session
from mpcnet.launch.deployment import clients, renew
from mpcnet.launch.deployment.certs import ROLES, role_folder
from mpcnet.launch.party.client import Connection, size_of
from mpcnet.models.private import program
from mpcnet.transport.identity import Identity, Roster, read_certificate
from mpcnet.transport.roster_file import RosterFile

BOB = "client:bob"
TOKENS = some_tokens([5, 3])


def alice_with_her_keys(parties: Parties) -> Any:
    """As a revoked client still has them, wherever the deployment's folder is."""
    home = parties.made.config(ALICE).parent
    kept = home.parent.parent / "kept"
    shutil.copytree(home, kept)
    node = parties.node(ALICE)
    object.__setattr__(node, "identity", Identity.in_folder(kept))
    return node


async def test_added_while_the_parties_run(parties: Parties) -> None:
    parties.serve()
    await parties.answered(TOKENS)
    left = clients.add(parties.made.config("server0").parents[1], BOB, 365.0)
    assert any("server0/roster.json to server0" in line for line in left)
    await parties.answered(TOKENS, parties.ask(TOKENS, BOB, "client"))
    await parties.has_said("server0", "roster.json has changed, for client:bob")
    await parties.stop()
    assert parties.lost() == []


async def test_revoked_while_the_parties_run(parties: Parties) -> None:
    """Its key, its certificate and the authority's signature are as good as before."""
    parties.serve()
    await parties.answered(TOKENS, parties.ask(TOKENS, ALICE, "client"))
    node = alice_with_her_keys(parties)
    clients.revoke(parties.made.config("server0").parents[1], ALICE)
    with pytest.raises(RemoteAbort, match="want a role that the roster names, got client:alice, not in it; was it rev"):
        await node.dial("server0")
    await parties.has_said("server0", "refused a connection from .*got client:alice, not in it")
    await parties.answered(TOKENS)
    await parties.stop()
    assert parties.lost() == []


async def test_a_kept_connection_ends_with_the_next_request(parties: Parties) -> None:
    """Not in an hour, when it would have to connect anew."""
    parties.serve()
    await parties.answered(TOKENS)
    node, size = parties.node(ALICE), size_of(parties.node(ALICE), TOKENS, "logits", False)
    connection = await Connection.open(node)
    await connection.ask(TOKENS, size)
    clients.revoke(parties.made.config("server0").parents[1], ALICE)
    with pytest.raises(RemoteAbort, match="its certificate: want a role that the roster names, got client:alice"):
        await connection.ask(TOKENS, size)
    await parties.has_said("server0", "turned away client:alice: its certificate: want a role that the roster names")
    await parties.answered(TOKENS)
    await parties.stop()


async def test_nor_does_a_first_request_come_through(parties: Parties) -> None:
    parties.serve()
    await parties.answered(TOKENS)
    node, size = parties.node(ALICE), size_of(parties.node(ALICE), TOKENS, "logits", False)
    connection = await Connection.open(node)
    clients.revoke(parties.made.config("server0").parents[1], ALICE)
    with pytest.raises(RemoteAbort, match="got client:alice"):
        await connection.ask(TOKENS, size)
    for peer in connection.peers:
        await peer.channel.gone()
    await parties.stop()


async def test_a_broken_roster_keeps_the_one_before(parties: Parties) -> None:
    """It says so once, and takes the next good one."""
    parties.serve()
    await parties.answered(TOKENS)
    session = Session(alice_with_her_keys(parties))
    path = parties.made.config("server0").parent / "roster.json"
    good = path.read_bytes()
    path.write_text('{"version": 2, "roles": {')
    for _ in range(3):
        await session.ask(TOKENS, audit=False)
    said = [line for line in parties.logs["server0"].lines if "the roster before it stays in force" in line]
    assert len(said) == 1 and said[0].startswith("roster roster.json: want a roster, got Expecting")
    path.unlink()
    await session.ask(TOKENS, audit=False)
    path.write_bytes(good)
    clients.revoke(path.parents[1], ALICE)
    with pytest.raises(RemoteAbort, match="got client:alice"):
        await session.ask(TOKENS, audit=False)
    await session.close()
    await parties.stop()


def test_file_that_changed_is_read_anew(deployment: Path, tmp_path: Path) -> None:
    """By size, by time, or by being another file; what says the same is no news."""
    path = tmp_path / "roster.json"
    shutil.copy(deployment / "server0/roster.json", path)
    file, whole = RosterFile(path), path.read_text()
    assert file.refresh() == ""
    os.utime(path, ns=(1, 1))
    assert file.refresh() == ""
    path.write_text(whole.replace('"client"', '"client:b"'))
    assert file.refresh() == "roster.json has changed, for client, client:b"
    (tmp_path / "new").write_text(whole)
    (tmp_path / "new").replace(path)
    assert "for client, client:b" in file.refresh() and file.roster == Roster.load(path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mpcnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("parties", [{}], indirect=True)
async def test_commands(parties: Parties, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = parties.made.config("server0").parents[1]
    at = ("--deployment", str(folder))
    assert run(monkeypatch, "client", "add", "bob", *at) == 0
    assert f"copy {folder}/server1/roster.json to server1" in capsys.readouterr().out
    home = folder / "client-bob"
    assert (home / "key.pem").stat().st_mode & 0o777 == 0o600
    assert program.read(home / "program.json") == program.read(folder / "client/program.json")
    assert len({(folder / role_folder(role) / "roster.json").read_bytes() for role in (*ROLES, ALICE, BOB)}) == 1
    assert run(monkeypatch, "client", "list", *at) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["client", ALICE, BOB]
    assert run(monkeypatch, "client", "add", "bob", *at) == LocalConfigError.exit_code
    assert run(monkeypatch, "client", "add", "../bob", *at) == LocalConfigError.exit_code
    assert run(monkeypatch, "client", "revoke", "bob", *at) == 0
    assert not home.exists() and BOB not in Roster.load(folder / "server0/roster.json").fingerprints
    assert run(monkeypatch, "client", "revoke", "bob", *at) == LocalConfigError.exit_code
    assert run(monkeypatch, "client", "revoke", "server0", *at) == LocalConfigError.exit_code


def test_renewal_pins_nobody_who_was_revoked(deployment: Path, tmp_path: Path) -> None:
    """A folder that somebody put back does not bring its client back."""
    folder = tmp_path / "deployment"
    shutil.copytree(deployment, folder)
    clients.revoke(folder, ALICE)
    shutil.copytree(deployment / "client-alice", folder / "client-alice")
    shutil.copy(folder / "server0/roster.json", folder / "client-alice/roster.json")
    with pytest.raises(LocalConfigError, match="the rosters do not name client:alice"):
        renew.renew(folder, (), 30.0)


async def test_signature_alone_lets_nobody_in(parties: Parties) -> None:
    """The authority, or who has its key, makes a certificate of a role that no roster names."""
    folder = parties.made.config("server0").parents[1]
    before = {role: (folder / role / "roster.json").read_bytes() for role in SERVERS}
    clients.add(folder, BOB, 365.0)
    for role, roster in before.items():
        (folder / role / "roster.json").write_bytes(roster)
    parties.serve()
    assert (
        read_certificate(folder / "client-bob/cert.pem").issuer == read_certificate(folder / "client/cert.pem").issuer
    )
    why = await parties.refused(parties.ask(TOKENS, BOB))
    assert "want a role that the roster names, got client:bob" in why
    await parties.answered(TOKENS)
