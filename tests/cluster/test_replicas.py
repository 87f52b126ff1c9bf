"""What clusters with replicas find: bugs that are planted where servers are checked."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mpcnet.launch.party import answer as answer_module
from mpcnet.launch.party import replica, server, witness
from mpcnet.launch.party.arriving import Arriving
from mpcnet.launch.party.forward import Forward, _nbytes
from tests.cluster import model
from tests.cluster.run import many, run
from tests.cluster.scenario import Scenario, scenario

MOST = 400  # seeds


@pytest.fixture(scope="module", autouse=True)
def shared() -> Iterator[None]:
    with many():
        yield


def test_every_kind_of_cluster_is_drawn() -> None:
    drawn = [scenario(seed, model.TEXTS) for seed in range(400)]
    assert {plan.replicas for plan in drawn} == {(), ("replica0",), ("replica1",), ("replica0", "replica1")}
    hit = {(fault.what, name) for plan in drawn for fault in plan.faults for name in fault.whom if "replica" in name}
    faults = ("kill", "lost host", "restart", "stop", "reset", "silence", "tamper")
    assert hit == {(what, name) for what in faults for name in ("replica0", "replica1")}


# --- what they find ---------------------------------------------------------------------------------------------

confirmed, difference, put = witness.Witness.confirmed, replica._difference, Arriving.put


async def _at_once(self: Any, seen: Any, ran_s: float) -> list[bytes]:
    """The replica is asked, and not waited for; but for the loading, with which it says how much memory it has."""
    if not seen.sizes:
        return await confirmed(self, seen, ran_s)
    beside.append(asyncio.ensure_future(confirmed(self, seen, ran_s)))
    return []


def _another_segment(*given: Any) -> str:
    return re.sub(r"segment (\d+)", lambda found: f"segment {int(found[1]) + 1}", difference(*given))


async def _unbounded(self: Any, frame: Any) -> None:
    self._frames.append(frame)
    self._nbytes += _nbytes(frame)
    self._changed.set()


def _wanted_again(self: Any, place: Any, payload: Any) -> None:
    """An entry may come twice."""
    nbytes = self._wanted[place]
    put(self, place, payload)
    self._wanted[place] = nbytes


def _flips(where: str) -> Callable[[Scenario], bool]:
    return lambda plan: plan.flips_only and plan.faults[0].whom[1] == where


def _watched(plan: Scenario) -> bool:
    return bool(plan.replicas)


def _lost(plan: Scenario) -> bool:
    """A session with a replica ends in the midst of something."""
    return bool(plan.replicas) and any(fault.what in ("reset", "kill") for fault in plan.faults)


def _tampered(plan: Scenario) -> bool:
    return any(fault.what == "tamper" and "replica" in "".join(fault.whom) for fault in plan.faults)


def _small(name: str) -> Callable[[Scenario], bool]:
    return lambda plan: bool(plan.replicas) and plan.knobs[name] == 100


def _patient() -> AbstractContextManager[Any]:
    """Neither server has, and both wait for ever."""
    stack = ExitStack()
    for module in (witness, server):
        without = SimpleNamespace(**vars(asyncio) | {"timeout": lambda _: asyncio.timeout(None)})
        stack.enter_context(mock.patch.object(module, "asyncio", without))
    return stack


def _patch(owner: Any, name: str, instead: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch.object(owner, name, instead)


beside = list[Any]()  # tasks that nobody waits for
BUGS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[Scenario], bool], str]] = {
    "answers do not wait for a replica": (
        _patch(witness.Witness, "confirmed", _at_once), _watched, "without the word of replica",
    ),
    "a replica compares nothing": (
        _patch(replica, "_difference", lambda *_: ""), _flips("run"), "has confirmed run .*, in which server. flipped",
    ),
    "a replica compares no loading": (
        _patch(replica, "_difference", lambda run, *more: (run.facts["sizes"] and difference(run, *more)) or ""),
        _flips("loading"), "has confirmed run 0, in which server. flipped",
    ),
    "a replica names another segment": (_patch(replica, "_difference", _another_segment), _flips("run"), "not name"),
    "a replica blames an honest server": (_patch(replica, "_flaw", lambda *_: "no"), _watched, "has done nothing: no"),
    "clients do not look at tags": (
        _patch(answer_module, "check_tag", lambda *_: None), _flips("answer"), "took an answer of which",
    ),
    "a replica's threads are not woken": (_patch(Arriving, "fail", lambda *_: None), _lost, "told to stop|for ever"),
    "a replica has no deadline": (
        _patient, _tampered,
        "waits for ever|not recovered",
    ),
    "a replica reads all that comes": (_patch(Arriving, "full", False), _small("HELD_BYTES"), "reads on"),
    "a server holds all that its replica has not taken": (_patch(Forward, "_put", _unbounded), _small("FORWARD_BYTES"), "for its replica"),
    "a replica takes an entry twice": (_patch(Arriving, "put", _wanted_again), _tampered, "accepted .*entry"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of worlds that are stuck
@pytest.mark.parametrize("bug", BUGS)
def test_bugs_are_found(bug: str) -> None:
    planted, relevant, words = BUGS[bug]
    with planted():
        for seed in filter(lambda seed: relevant(scenario(seed, model.TEXTS)), range(MOST)):
            if broken := run(seed).broken:
                assert re.search(words, "\n".join(broken)), broken
                return
    raise AssertionError("no seed has found it")
