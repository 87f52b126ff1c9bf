"""Parties of several releases, as processes: they serve together if their format version is one, and say it if not."""

import http.client
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from limits import PATIENT_S
from parties import ALL, change, some_tokens, tiny
from running import COMMANDS, Running, save

import mpcnet
from mpcnet.launch.deployment.deploy import write_deployment
from mpcnet.launch.simulation.network import PYTHON, Loopback, free_addresses
from mpcnet.launch.simulation.processes import Deployment
from mpcnet.transport.handshake import FORMAT_VERSION, handshake
from mpcnet.transport.tls import parse_address

pytestmark = pytest.mark.slow

NEXT = FORMAT_VERSION + 1
PATCHED = 'import mpcnet; mpcnet.__version__ = "9.9.9"'
CHANGED = f"import {handshake.__module__} as theirs; theirs.FORMAT_VERSION = {NEXT}"
START = "{0}; import runpy, sys; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
TOKENS, LATER = some_tokens([5, 3]), some_tokens([4], seed=1)


class Releases(Loopback):
    """The loopback, where some roles run another release: ours, but for what these lines change before it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, str] = {}

    def command(self, role: str, line: Sequence[str]) -> list[str]:
        if role not in self.changed:
            return list(line)
        *python, _ = PYTHON
        return [*python, "-c", START.format(self.changed[role]), *line[len(PYTHON) :]]


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Running]:
    """A deployment whose servers tell their health, not yet started."""
    model, network = tiny(), Releases()
    save(model.checkpoint, tmp_path / "model")
    made = Deployment(tmp_path / "deployment", network)
    write_deployment(made.folder, model.config(), network.addresses, threads=1, timeout_s=PATIENT_S)
    yield Running(made, model, tmp_path / "model")
    made.stop()


def version_of(port: int) -> str:
    """What a running party says in its health."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/healthz")
    with connection.getresponse() as reply:
        return str(json.loads(reply.read())["version"])


async def test_releases_beside_each_other(releases: Running) -> None:
    """server1 is a patch release, then one of another format version, then ours again."""
    network = releases.made.network
    assert isinstance(network, Releases)
    ports = {role: parse_address(address)[1] for role, address in zip(ALL[:2], free_addresses(2), strict=True)}
    for role, port in ports.items():
        change(releases.made, role, monitor_port=port)

    network.changed["server1"] = PATCHED
    for role in COMMANDS:
        releases.start(role)
    await releases.begun()
    assert {role: version_of(port) for role, port in ports.items()} == {
        "server0": mpcnet.__version__,
        "server1": "9.9.9",
    }
    await releases.answered(TOKENS)

    await releases.kill("server1")
    program = releases.made.config("server1").parent / "program.json"
    right = program.read_text()
    program.write_text(json.dumps(json.loads(right) | {"version": NEXT}))
    network.changed["server1"] = CHANGED
    releases.start("server1")
    remedy = "install releases of mpcnet with one format version at both"
    for other in ("server0", "dealer"):
        words = f"runs another release: format version: ours {{}}, theirs {{}}; {remedy}"
        await releases.said(other, f"server1 {words.format(FORMAT_VERSION, NEXT)}")
        await releases.has_said("server1", f"{other} {words.format(NEXT, FORMAT_VERSION)}")

    await releases.kill("server1")
    program.write_text(right)
    del network.changed["server1"]
    await releases.restart("server1")
    await releases.answered(LATER)
    releases.check_logs()
    for role in COMMANDS:
        releases.signal(role, signal.SIGTERM)
    assert [await releases.ended(role) for role in COMMANDS] == [0] * len(COMMANDS)
