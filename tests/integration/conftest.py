"""Deployments and parties over real sockets."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop
from forked import forked
from limits import PATIENT_S
from parties import Parties, deployed, tiny
from running import Running, processes
from sockets import Place

import mpcnet.aio.backoff
import mpcnet.launch.party.node
from mpcnet.launch.deployment.certs import ROLES, create_deployment
from mpcnet.models.private.program import allowing


@pytest.fixture
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """uvloop, as in every process of ours; `both_loops` asks for asyncio's own too."""
    name = getattr(request, "param", "uvloop")
    return uvloop.EventLoopPolicy() if name == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture(autouse=True)
def shared_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A party sets up its whole process (`mpcnet.launch.party.heap`). All tests share this one, where such settings would stay."""
    monkeypatch.setattr(mpcnet.launch.party.node, "keep_freed", lambda: True)
    thresholds = gc.get_threshold()
    yield
    assert gc.get_threshold() == thresholds


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    with forked():
        yield


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and rosters only."""
    folder = tmp_path_factory.mktemp("deployment")
    create_deployment(folder, [*ROLES, "client:alice"])
    return folder


@pytest.fixture
async def place(deployment: Path) -> AsyncIterator[Place]:
    place = Place(deployment)
    await place.start()
    yield place
    await place.server.close()
    while not place.channels.empty():
        place.channels.get_nowait().abort("test is over")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:Overriding the .event_loop_policy")


@pytest.fixture
async def parties(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Parties]:
    """The tiny model's deployment; the parameter may choose its labels, answers, suite, softmax, embedding, and settings."""
    chosen = dict(getattr(request, "param", {}))
    model, answers = tiny(chosen.pop("labels", 0)), chosen.pop("answers", ())
    program = {name: chosen.pop(name) for name in ("suite", "softmax", "embedding") if name in chosen}
    monkeypatch.setattr(mpcnet.aio.backoff, "FIRST_S", 0.01)  # patience with others is not what is tested
    monkeypatch.setattr(mpcnet.aio.backoff, "LONGEST_S", 0.05)
    config = allowing(model.config(**program), answers)
    with deployed(config, tmp_path / "deployment", **{"timeout_s": PATIENT_S} | chosen) as made:
        found = Parties(made, model)
        yield found
        await found.cancel()


@pytest.fixture(scope="session")
def _processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with processes(tiny(), tmp_path_factory.mktemp("processes")) as running:
        yield running


@pytest.fixture
async def running(_processes: Running) -> AsyncIterator[Running]:
    """Processes that serve, and do so again when the test ends; starting them takes seconds, so all tests share them."""
    yield await _processes.begun()
    _processes.check_logs()
