"""Every fuzz target for a while."""

import pytest
import torch

from tests.fuzz import files
from tests.fuzz.target import Fault, Tried, fuzz, one
from tests.fuzz.targets import TARGETS, target

QUICK = {name: 3000 for name in TARGETS}
QUICK |= {"decoder": 50_000, "program": 1000, "config": 300, "pickle": 1000, "adapter": 100}
QUICK |= {"live-client": 2, **{f"live-{who}": 2 for who in ("owner", "server0", "server1", "dealer", "replica0")}}
LONG = {name: 10 * count for name, count in QUICK.items()} | {"decoder": 1_000_000, "config": 2000, "adapter": 500}


@pytest.mark.parametrize("name", TARGETS)
def test_for_a_moment(name: str) -> None:
    run(name, 0, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_for_a_while(name: str) -> None:
    run(name, 1, LONG[name])


def run(name: str, seed: int, count: int) -> None:
    tried = Tried()
    with target(name) as chosen:
        for _ in fuzz(chosen, seed, count, tried):
            pass
    assert tried.count == count
    if not name.startswith("live-"):
        assert len(tried.ends) > 1, "all cases ended alike"


def test_a_pickle_that_calls_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target fails if weights were read as pickles of any kind."""
    honest, chosen = torch.load, files.pickle_file()
    case = files._saved({"a": files._Calls(files.executed, "x")}, new=True)
    assert chosen.check(case) == "refused"
    monkeypatch.setattr(files, "EXECUTED", [])
    monkeypatch.setattr(torch, "load", lambda path, **named: honest(path, **named | {"weights_only": False}))
    with pytest.raises(AssertionError, match="a pickle has called a function"):
        chosen.check(case)


def test_a_fault_can_be_replayed() -> None:
    """It shows the bytes, and the command that tries them again."""

    class Careless:
        name = "decoder"

        def cases(self, draw, count):
            return TARGETS["decoder"]().cases(draw, count)

        def check(self, case):
            if len(case) > 100:
                raise KeyError("x")
            return "fine"

    with pytest.raises(Fault) as caught:
        for _ in fuzz(Careless(), 3, 1000):
            pass
    again = str(caught.value).splitlines()[-1]
    assert again.startswith("again: python -m tests.fuzz decoder --replay ")
    case = bytes.fromhex(again.split()[-1])
    number = int(str(caught.value).split("case ")[1].split(":")[0])
    assert len(case) > 100 and one(Careless(), 3, number) == case
