"""Readiness as systemd's sd_notify(3) tells it, and who told it as the kernel knows."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mpcnet.launch.party import notify
from mpcnet.launch.party.notify import Listener

FOREVER_S = 30.0


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()
    assert not os.path.exists(os.path.dirname(found.path))


def send(listener: Listener, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(message, listener.path)


def test_a_process_that_is_ready_is_known_by_its_pid(listener: Listener) -> None:
    code = "import os; from mpcnet.launch.party import notify; notify.ready(); print(os.getpid())"
    environment = os.environ | {notify.VARIABLE: listener.path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert listener.take(FOREVER_S) == int(done.stdout)


def test_other_words_are_nobodys(listener: Listener) -> None:
    for message in (b"", b"READY=0", b"STATUS=READY=1", b"\xff" * 4096):
        send(listener, message)
        assert listener.take(FOREVER_S) is None
    send(listener, b"STATUS=serving\nREADY=1")
    assert listener.take(FOREVER_S) == os.getpid()
    assert listener.take(0.001) is None


def test_who_does_not_ask_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    notify.ready()
    monkeypatch.setenv(notify.VARIABLE, "/nowhere/at/all")
    notify.ready()


def test_a_name_of_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0mpcnet-test-{os.getpid()}")
        heard.settimeout(FOREVER_S)
        monkeypatch.setenv(notify.VARIABLE, f"@mpcnet-test-{os.getpid()}")
        notify.ready()
        assert heard.recv(64) == notify.READY
