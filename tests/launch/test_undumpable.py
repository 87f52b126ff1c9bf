"""No copy of a party's memory: neither by the kernel when it crashes, nor by another process of its user."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpcnet.launch import cli, infer, undumpable
from mpcnet.launch.deployment import clients, making, renew

SHOW = """
import ctypes, resource
from mpcnet.launch.undumpable import protect_memory
protect_memory()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
FILE = ["--config", "nothing.toml"]
COMMANDS = [
    ["party", *FILE],
    ["dealer", *FILE],
    ["serve-model", *FILE],
    ["infer", *FILE, "A text."],
    ["renew", "nothing"],
    ["client", "add", "alice", "--deployment", "nothing"],
    ["program", "--out", "."],
    ["init", "nothing", "--server0", "nowhere", "--server1", "nowhere"],
]


def test_what_the_system_knows() -> None:
    """3 is PR_GET_DUMPABLE."""
    found = subprocess.run([sys.executable, "-c", SHOW], check=True, capture_output=True, text=True)
    assert found.stdout == "(0, 0) 0\n"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_first_of_all(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file is read: each of these fails at its first."""
    called: list[bool] = []
    for module in (cli, infer, making, renew, clients):
        monkeypatch.setattr(module, "protect_memory", lambda: called.append(True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mpcnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code and called == [True]


def test_elsewhere_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise ValueError("not allowed to")

    monkeypatch.setattr(undumpable.resource, "setrlimit", refused)
    monkeypatch.setattr(undumpable.sys, "platform", "other")
    undumpable.protect_memory()
