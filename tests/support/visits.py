"""What tests of the doctor share: a party that it visits, and what it found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from limits import LIMIT_S

from mpcnet.errors import MpcError
from mpcnet.launch.deployment import settings
from mpcnet.launch.deployment.certs import ROLES
from mpcnet.launch.doctor import peers as doctor_peers
from mpcnet.launch.doctor.command import examine
from mpcnet.launch.doctor.findings import Finding
from mpcnet.models.families.config import Config
from mpcnet.models.private import program
from mpcnet.transport.handshake import handshake
from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.tls import TlsChannel, listen

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def config_of(place: Path, role: str) -> settings.Settings:
    return settings.read(place / role / settings.FILE)


class Listening:
    """A party that greets whoever comes; what became of each handshake is in `ended`."""

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self.program, self.clock = program.agreement(config), clock
        self.ended: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def arrive(self, channel: TlsChannel, role: str) -> None:
        self.tasks.add(asyncio.ensure_future(self.greet(channel, role)))

    async def greet(self, channel: TlsChannel, role: str) -> None:
        try:
            await handshake(channel, role, self.program, self.clock)
            self.ended.append("")
        except MpcError as error:
            self.ended.append(str(error))
        finally:
            channel.abort("test")


@asynccontextmanager
async def listening(
    place: Path, role: str, keys: Path | None = None, config: Config | None = None, ahead_s: float = 0.0
) -> AsyncIterator[Listening]:
    """`role` of the deployment, with other keys, another program or another clock if they are given."""
    ours = config_of(place, role)
    party = Listening(config or program.read(ours.program_path), lambda: doctor_peers.time.time() + ahead_s)
    server = await listen(
        ours.addresses[role],
        Identity.in_folder(keys or ours.folder),
        Roster.load(ours.folder / "roster.json"),
        [name for name in ROLES if name != role],
        lambda channel: party.arrive(channel, role),
        linger_s=0.2,
    )
    try:
        yield party
    finally:
        await asyncio.gather(*party.tasks)
        await server.close()


async def doctor(place: Path, role: str, timeout_s: float = LIMIT_S, canary_s: float = 0.0) -> dict[str, Finding]:
    return by_check(await examine(place / role / settings.FILE, timeout_s, canary_s=canary_s))


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    assert len(found) == len(findings)
    assert all((finding.level == "ok") == (finding.advice == "") for finding in findings)
    return found


def levels(found: dict[str, Finding]) -> dict[str, str]:
    """Those that are not well."""
    return {check: finding.level for check, finding in found.items() if finding.level != "ok"}
