"""One event, one line: both forms, both places, and a file that moves away or fills up."""

import io
import json
import logging
import os
import re
import resource
import signal
import stat
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.party.log import Log

HOSTILE = "no\nserver1  all is well\r\x1b[2J\u202e[bold]:smile:"


class Broken(io.StringIO):
    """A closed pipe."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def _no_wish_for_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def text_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_text_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is: no time, no markup, no emoji, no break of a long line."""
    log = Log("server0")
    log.say("waiting for the model owner", peer="owner")
    log.say("[bold]a[/bold] :smile: " + "b " * 200, level="warning")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "server0  waiting for the model owner"
    assert second == "server0  [bold]a[/bold] :smile: " + " ".join("b" * 200)


def test_colours_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    log = Log("server0")
    log.say("begun")
    log.say("failed", level="error")
    assert screen.getvalue() == "\x1b[1mserver0\x1b[0m  begun\n\x1b[1;31mserver0\x1b[0m  failed\n"


def test_text_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server0.log"
    Log("server0", file=path).say("begun")
    Log("server0", file=path).say("failed", level="error", rounds=3)  # appended
    lines = text_of(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  info     server0  begun", lines[0])
    assert lines[1].endswith("Z  error    server0  failed") and len(lines) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("in_file", [True, False])
def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], in_file: bool) -> None:
    path = tmp_path / "log"
    before = datetime.now(UTC)
    log = Log("server1", as_json=True, file=path if in_file else None)
    log.say("é", level="warning", rounds=3, seconds=0.5, peer=None, ok=True, who="a\nb", never=float("inf"))
    line = path.read_text("utf-8") if in_file else capsys.readouterr().err
    assert line.endswith("}\n") and line.count("\n") == 1
    said = json.loads(line, parse_constant=pytest.fail)
    when = said.pop("time")
    assert re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.\d{3}Z", when)
    millisecond = timedelta(milliseconds=1)  # the time is cut off to one
    assert before - millisecond <= datetime.fromisoformat(when) <= datetime.now(UTC) + millisecond
    assert said == {
        "role": "server1", "level": "warning", "message": "é",
        "rounds": 3, "seconds": 0.5, "peer": None, "ok": True, "who": "a b", "never": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["time", "role", "message"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_fact_cannot_pose_as_the_log(name: str, as_json: bool) -> None:
    """Whatever the form, so that it is found where only text is logged."""
    with pytest.raises(LocalInputError, match=f"got {name}; rename it"):
        Log("server0", as_json=as_json).say("text", **{name: "x"})


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("in_file", [True, False])
def test_a_peers_words_stay_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool, in_file: bool
) -> None:
    path = tmp_path / "log"
    Log("server0", as_json=as_json, file=path if in_file else None).say(HOSTILE, reason=HOSTILE)
    line = path.read_text("utf-8") if in_file else capsys.readouterr().err
    assert line[:-1].isprintable() and line[-1] == "\n"
    assert "no server1 all is well [2J [bold]:smile:" in line


def test_made_for_owner_and_group_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    mask = os.umask(0)
    try:
        Log("server0", file=path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("missing/log", "No such file or directory")])
def test_unusable_at_the_start(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    with pytest.raises(LocalConfigError, match=f"log file {re.escape(str(path))} cannot be opened: {reason}"):
        Log("server0", file=path)


def test_rotated_with_sighup(tmp_path: Path) -> None:
    """Logrotate moves the file, then signals: what was said before is in the old file, what comes is in the new one."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = Log("server0", file=path)
    log.say("first")
    path.rename(old)
    before = signal.signal(signal.SIGHUP, lambda *_: log.reopen())
    try:
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert path.exists()
    log.say("second")
    assert [line[-5:] for line in text_of(old)] == ["first"]
    assert [line[-6:] for line in text_of(path)] == ["second"]


def test_rotated_without_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log("server0", file=path)
    path.unlink()
    log.say("second")
    path.rename(tmp_path / "log.1")
    path.touch()  # as logrotate's `create` does
    log.say("third")
    assert [line[-6:] for line in text_of(tmp_path / "log.1")] == ["second"]
    assert [line[-5:] for line in text_of(path)] == ["third"]


def test_reopen_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("server0")
    log.reopen()
    log.say("on")
    assert capsys.readouterr().err == "server0  on\n"


def test_the_folder_goes_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Log("server0", file=folder / "log")
    log.say("first")
    folder.rename(tmp_path / "gone")
    log.reopen()
    log.say("second")
    log.say("third")
    told, *lines = capsys.readouterr().err.splitlines()
    assert told.startswith(f"server0  log file {folder / 'log'}: No such file or directory; until")
    assert lines == ["server0  second", "server0  third"]
    folder.mkdir()
    log.say("fourth")
    assert [line[-6:] for line in text_of(folder / "log")] == ["fourth"]
    assert capsys.readouterr().err == ""
    folder.rename(tmp_path / "gone too")
    log.say("fifth")  # another failure is told again
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("server0", as_json=True, file=Path("/dev/full"))
    for index in range(3):
        log.say(f"line {index}")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines[1:]] == ["line 0", "line 1", "line 2"]
    assert (lines[0]["level"], lines[0]["role"]) == ("warning", "server0")
    assert lines[0]["message"].startswith("log file /dev/full: No space left on device; ")


def test_no_line_is_torn_once_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that is full in the middle of a line takes the rest of it later."""
    path = tmp_path / "log"
    log = Log("server0", as_json=True, file=path)
    log.say("first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        log.say("second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.read_bytes().endswith(b"\n")
    log.say("third")
    assert [json.loads(line)["message"] for line in text_of(path)] == ["first", "second", "third"]
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()][1:] == ["second"]


@pytest.mark.parametrize("file", [None, Path("/dev/full")])
@pytest.mark.parametrize("closed", [True, False])
def test_nobody_reads_standard_error(monkeypatch: pytest.MonkeyPatch, file: Path | None, closed: bool) -> None:
    """As after `mpcnet party 2>&1 | head -1`: the service goes on."""
    stream = Broken()
    if closed:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    Log("server0", file=file).say("heard by nobody")


def test_threads(tmp_path: Path) -> None:
    """Lines of several threads are whole, though the file is moved meanwhile."""
    path = tmp_path / "log"
    log = Log("server0", as_json=True, file=path)

    def say(name: int) -> None:
        for index in range(50):
            log.say("x" * 500, index=index, name=name)

    threads = [threading.Thread(target=say, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    path.rename(tmp_path / "log.1")
    log.reopen()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for file in tmp_path.iterdir() for line in text_of(file)]
    assert sorted((line["name"], line["index"]) for line in lines) == [(n, i) for n in range(4) for i in range(50)]


def test_nothing_global(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Two logs of one role do not share their lines, nor does the root logger see them."""
    one, other = Log("server0"), Log("server0", as_json=True)
    one.say("one")
    other.say("other")
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not caplog.records and "server0" not in logging.Logger.manager.loggerDict
