"""A thousand connections of garbage to a deployment that serves: it goes on, and holds no more of them than it should."""

import asyncio
import os
import random
import resource
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from limits import LIMIT_S
from parties import ALICE, ALL, some_tokens
from running import Running

from mpcnet.launch.deployment.settings import read
from mpcnet.launch.party.node import open_node
from mpcnet.launch.party.refusals import MOST, PERIOD_S
from mpcnet.transport.tls import BACKLOG, parse_address

CONNECTIONS, AT_ONCE = 1000, 100
TARGETS = ("server0", "server0", "server0", "server1", "dealer")
FILES = 320  # of a party: 30 of its own, its greetings, clients, and some room; far from a thousand
HELLO = bytes.fromhex("1603010200010001fc0303")  # the beginning of a ClientHello of 508 bytes
NOISE = random.Random(1)
GARBAGE = (b"", b"GET / HTTP/1.1\r\n\r\n", NOISE.randbytes(300), HELLO + NOISE.randbytes(40), b"\x16\x03\x01\xff\xff")


@contextmanager
def limits(running: Running) -> Iterator[None]:
    """Few files for the parties, and enough for the strangers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 300
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} open files are needed, {hard} are allowed")
    before = {}
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        for role in ALL:
            pid = running.made.running[role].pid
            before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, hard))
        yield
    finally:
        for pid, limit in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Strangers:
    """Every tenth begins TLS: without a certificate, or with that of a client that then sends no frame."""

    def __init__(self, running: Running) -> None:
        self.where = {role: parse_address(running.made.network.addresses[role]) for role in ALL}
        self.writers: list[asyncio.StreamWriter] = []
        self.came: Counter[str] = Counter()
        self.all_came = asyncio.Event()
        self._few = asyncio.Semaphore(AT_ONCE)
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        alice = open_node(read(running.made.config(ALICE))).identity.context(server_side=False)
        self._contexts = (nobody, alice)

    async def come(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(CONNECTIONS)))

    async def _one(self, number: int) -> None:
        role = TARGETS[number % len(TARGETS)]
        context = self._contexts[number // 10 % 2] if number % 10 == 7 else None
        async with self._few, asyncio.timeout(LIMIT_S):
            with suppress(OSError):  # ssl.SSLError is one: turned away in its handshake
                self.came[role] += 1
                _, writer = await asyncio.open_connection(*self.where[role], ssl=context)
                self.writers.append(writer)
                writer.write(GARBAGE[number // len(TARGETS) % len(GARBAGE)])

    def leave(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


def files(running: Running, role: str) -> int:
    """How many the party has open."""
    return len(os.listdir(f"/proc/{running.made.running[role].pid}/fd"))


async def most_files(running: Running, role: str, until: asyncio.Event) -> int:
    """How many it has open at most until then."""
    most = 0
    while not until.is_set():
        most = max(most, files(running, role))
        await asyncio.sleep(0.01)
    return most


async def settled(running: Running, role: str, most: int) -> None:
    """Returns when it has no more open than this."""
    async with asyncio.timeout(LIMIT_S):
        while files(running, role) > most:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_thousand_strangers_while_clients_are_served(running: Running) -> None:
    if not os.access(f"/proc/{running.made.running['server0'].pid}/fd", os.R_OK):
        pytest.skip("a party's open files are hidden from its own user; root counts them")
    await running.answered(some_tokens([5]))
    began_s = time.monotonic()
    before = {role: (len(running.log(role).splitlines()), files(running, role)) for role in ALL}
    strangers = Strangers(running)
    with limits(running):
        coming, most = (
            asyncio.ensure_future(strangers.come()),
            asyncio.ensure_future(most_files(running, "server0", strangers.all_came)),
        )
        answered = 0
        while not coming.done() or answered < 2:
            await running.answered(some_tokens([4], seed=answered))
            answered += 1
        await coming
        strangers.all_came.set()
    assert sum(strangers.came.values()) == CONNECTIONS
    assert await most > before["server0"][1] + BACKLOG // 2, "they were there all at once"
    strangers.leave()
    for role in ALL:
        assert running.made.running[role].poll() is None
        await settled(running, role, before[role][1] + 5)
        lines = running.log(role).splitlines()[before[role][0] :]
        assert not [line for line in lines if "session ended" in line], lines
        told = [line for line in lines if "refused a connection" in line]
        spans = (time.monotonic() - began_s) // PERIOD_S + 2
        assert 0 < len(told) <= spans * MOST, "a flood is told in a few lines"
    await running.answered(some_tokens([5]))
