"""A certificate that expires while everybody runs: connections outlive it, new ones are refused, and all say why.

Time does not pass here: a party's certificate is replaced, in its memory and on its disk, by one of the same key that
has expired. That is all that its peers can see of the time; OpenSSL judges it.
"""

import re
import ssl
import time

import pytest
import rogue
from parties import ALICE, ALL, SERVERS, OpenNode, Parties, some_tokens
from rogue import RogueNode

import mpcnet.launch.party.expiry
from mpcnet.launch.deployment.certs import role_folder
from mpcnet.launch.deployment.renew import renew
from mpcnet.launch.party.expiry import DAY_S
from mpcnet.transport.identity import Identity

TOKENS, NEXT = some_tokens([5]), some_tokens([4], seed=1)
MINUTE_DAYS = 1 / 1440
ITS, OURS = "its certificate is refused: certificate has expired; it needs a new one", "CERTIFICATE_EXPIRED"


class Time:
    """Lets certificates age."""

    def __init__(self, parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parties = parties
        self.contexts: list[tuple[Identity, ssl.SSLContext]] = []
        make = Identity.context

        def context(identity: Identity, *, server_side: bool) -> ssl.SSLContext:
            made = make(identity, server_side=server_side)
            self.contexts.append((identity, made))
            return made

        monkeypatch.setattr(Identity, "context", context)

    def expires(self, role: str) -> None:
        """Certificates hold from five minutes before they are made; this one until a minute ago."""
        folder = self.parties.made.folder
        renew(folder, [role], -MINUTE_DAYS)
        for identity, context in self.contexts:
            if identity.certificate.parent == folder / role_folder(role):
                context.load_cert_chain(identity.certificate, identity.key)

    def renewed(self, role: str) -> None:
        """On the disk, as by the operator."""
        renew(self.parties.made.folder, [role], 1)


@pytest.fixture
def passing(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(parties, monkeypatch)


async def test_a_client(parties: Parties, passing: Time) -> None:
    """What it asked before is answered; what it asks then is refused by both servers, others are served."""
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    asked = parties.ask(TOKENS)
    await slow.did.wait()
    passing.expires("client")
    slow.released.set()
    await parties.answered(TOKENS, asked)
    why = await parties.refused(parties.ask(TOKENS))
    assert re.search(rf"server[01]: it refuses our certificate \(.*{OURS}\); we need a new one \(mpcnet renew\)", why)
    for role in SERVERS:
        assert ITS in await parties.said(role, "refused a connection from 127.0.0.1:")
    parties.model.check(NEXT, (await parties.ask(NEXT, ALICE)).values)
    passing.renewed("client")
    await parties.answered(NEXT)
    assert parties.lost() == []


@pytest.mark.parametrize("role", SERVERS)
async def test_a_server(parties: Parties, passing: Time, role: str) -> None:
    """Its session and who is in the queue stay; clients refuse it, until it is started with a new one."""
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    asked = parties.ask(TOKENS)
    await slow.did.wait()
    passing.expires(role)
    slow.released.set()
    await parties.answered(TOKENS, asked)
    why = await parties.refused(parties.ask(TOKENS))
    assert re.search(rf"{role} at 127.0.0.1:\d+: {ITS} \(mpcnet renew\)", why)
    assert OURS in await parties.said(role, "refused a connection from .*: it refuses our certificate")
    assert parties.lost() == []
    passing.renewed(role)
    await parties.stop(role)
    parties.start(role)
    await parties.answered(NEXT)


@pytest.mark.parametrize("role", ["dealer", "owner"])
async def test_whom_no_client_sees(parties: Parties, passing: Time, role: str) -> None:
    """All goes on until a session ends; then everybody waits for the one, and says why."""
    parties.serve()
    await parties.answered(TOKENS)
    passing.expires(role)
    await parties.answered(TOKENS)
    assert parties.lost() == []
    await parties.kill("server0")
    parties.start("server0")
    if role == "dealer":
        for server in SERVERS:
            assert ITS in await parties.said(server, "waiting for dealer: dealer at")
        assert OURS in await parties.said("dealer", "refused a connection from .*: it refuses our certificate")
    else:
        assert OURS in await parties.said("owner", "waiting for the servers: server0.*: it refuses our certificate")
        assert ITS in await parties.said("server0", "refused a connection from")
    asked = parties.ask(NEXT)
    passing.renewed(role)
    if role == "dealer":  # who listens has to be restarted; who dials reads its new certificate
        await parties.kill("dealer")
        parties.start("dealer")
    await parties.answered(NEXT, asked)


@pytest.mark.parametrize("role", [*ALL, "owner"])
async def test_a_party_says_so_itself(parties: Parties, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Its clock is the test's; nobody else's is, and they warn of the difference."""
    monkeypatch.setattr(mpcnet.launch.party.expiry, "LOOK_S", 0.01)
    ahead_s = 0.0
    node = parties.node(role, OpenNode, clock=lambda: time.time() + ahead_s)
    parties.serve(node)
    await parties.answered(TOKENS)
    for days, words in ((340, "expires in 25.0 days"), (364.5, "expires in 0.5 days"), (366, "has expired")):
        ahead_s = days * DAY_S
        assert f"our certificate {words}" in await parties.said(role, "our certificate")
    await parties.answered(NEXT)
    assert parties.lost() == []
    await parties.kill("server1" if role == "server0" else "server0")
    parties.start("server1" if role == "server0" else "server0")
    for other in SERVERS:
        if other != role:
            await parties.said(other, rf"the clock of {role} is \+\d+ s from ours; certificates need clocks")
