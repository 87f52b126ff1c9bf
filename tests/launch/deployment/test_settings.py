"""A party's settings: what may stand in the file, and that it is written as it is read."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.settings import FILE, Settings, read, write
from mpcnet.models.private.program import Size
from mpcnet.transport.latency import parse_link

ADDRESSES = {"server0": "10.0.0.1:4100", "server1": "10.0.0.2:4100", "dealer": "[::1]:4100"}
PLAIN = {"role": "server0"}


def written(folder: Path, values: dict[str, object], addresses: dict[str, object] | None = None) -> Path:
    """A file with these values, each as TOML writes it (which is as JSON does, for these)."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    lines += [
        "[addresses]",
        *(f"{k} = {json.dumps(v)}" for k, v in (ADDRESSES if addresses is None else addresses).items()),
    ]
    path = folder / FILE
    path.write_text("\n".join(lines))
    return path


def refusal(folder: Path, values: dict[str, object], addresses: dict[str, object] | None = None) -> str:
    with pytest.raises(LocalConfigError) as caught:
        read(written(folder, PLAIN | values, addresses))
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    found = read(written(tmp_path, PLAIN))
    assert found == Settings(tmp_path, "server0", ADDRESSES)
    assert found.program_path == tmp_path / "program.json"
    assert (found.ahead, found.ahead_sizes, found.streams) == ((), (), 1)


FULL = {
    "program": "tiny.json",
    "timeout_s": 2.5,
    "threads": 3,
    "device": "cuda:1",
    "listen": "0.0.0.0:4100",
    "log": "json",
    "log_file": "server0.log",
    "monitor_port": 9100,
    "net": "rtt=40ms,bw=100mbps",
    "memory_mib": 3000,
    "buffer_mib": 0,
    "queue_mib": 7,
    "tapes": "tapes",
    "record": "records",
    "record_mib": 9,
    "replicas": ["replica0"],
    "batch_tokens": 1024,
    "streams": 2,
    "ahead": ["1x128", "16x64"],
    "ahead_runs": 3,
}


def test_every_setting_is_read(tmp_path: Path) -> None:
    found = read(written(tmp_path, PLAIN | FULL))
    assert {name: getattr(found, name) for name in FULL} == FULL | {
        "ahead": ("1x128", "16x64"),
        "replicas": ("replica0",),
    }
    assert found.ahead_sizes == (Size(1, 128), Size(16, 64))
    assert found.link == parse_link("rtt=40ms,bw=100mbps")
    known = {entry.name for entry in fields(Settings)}
    assert known == {*FULL, *PLAIN, "addresses", "folder", "link", "ahead_sizes"}  # none is untested


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read(written(tmp_path, PLAIN | FULL))
    assert read(write(found)) == found


def test_a_dealer_without_an_address(tmp_path: Path) -> None:
    addresses = {name: ADDRESSES[name] for name in ("server0", "server1")}
    found = read(written(tmp_path, {"role": "dealer"}, addresses))
    assert found.addresses == addresses
    assert read(write(found)) == found


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log_file=texts,
    tapes=texts,
    timeout_s=st.floats(0.1, 86400),
    threads=st.integers(0, 4096),
    streams=st.integers(1, 16),
    ahead=st.lists(st.tuples(st.integers(1, 999), st.integers(1, 9999)), max_size=3),
)
def test_any_settings_survive_being_written(
    tmp_path: Path,
    log_file: str,
    tapes: str,
    timeout_s: float,
    threads: int,
    streams: int,
    ahead: list[tuple[int, int]],
) -> None:
    given_ = Settings(
        tmp_path, "server1", ADDRESSES, log_file=log_file, tapes=tapes, timeout_s=timeout_s, threads=threads,
        streams=streams, ahead=tuple(f"{a}x{b}" for a, b in ahead), ahead_sizes=tuple(Size(a, b) for a, b in ahead),
    )  # fmt: skip
    assert read(write(given_)) == given_


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("timeout_s", 0.1, 86400),
        ("threads", 0, 4096),
        ("monitor_port", 0, 65535),
        ("buffer_mib", 0, 1 << 24),
        ("queue_mib", 1, 1 << 24),
        ("batch_tokens", 1, 1 << 20),
        ("streams", 1, 16),
        ("ahead_runs", 1, 10_000),
    ],
)
def test_ranges(tmp_path: Path, name: str, low: float, high: float) -> None:
    for value in (low, high):
        assert getattr(read(written(tmp_path, PLAIN | {name: value})), name) == value
    for value in (low - 1, high + 1):
        assert f"{name}: want {low:g} to {high:g}, got {value}" in refusal(tmp_path, {name: value})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_timeout_is_a_number_of_seconds(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, PLAIN)
    path.write_text(f"timeout_s = {value}\n" + path.read_text())
    with pytest.raises(LocalConfigError, match=r"timeout_s: want 0\.1 to 86400"):
        read(path)


@pytest.mark.parametrize("name", [name for name in FULL if name != "timeout_s"])
def test_types(tmp_path: Path, name: str) -> None:
    for value in (1.5, True, {"a": 1}):
        shown = {"a": 1} if isinstance(value, dict) else value
        text = json.dumps(value).replace('"a": 1', "a = 1")
        path = written(tmp_path, PLAIN)
        path.write_text(f"{name} = {text}\n" + path.read_text())
        with pytest.raises(LocalConfigError, match=f"{name}: want (int|str|list), got") as caught:
            read(path)
        assert str(shown) in str(caught.value)


@pytest.mark.parametrize(
    "value", [[1], ["128"], ["0x128"], ["1x0"], ["1x128x2"], ["-1x8"], ["1 x 128"], ["1000x8"], [""]]
)
def test_sizes_ahead_are_sentences_x_tokens(tmp_path: Path, value: list[object]) -> None:
    words = refusal(tmp_path, {"ahead": value})
    assert "ahead: want" in words and (str(value[0]) in words)


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    words = refusal(tmp_path, {"streams": 17, "log": "xml", "tapez": "x", "threads": "many"})
    for expected in ("streams: want 1 to 16, got 17", "log: want text or json, got 'xml'", "unknown setting 'tapez'",
                     "threads: want int, got 'many'"):  # fmt: skip
        assert expected in words
    assert words.startswith(str(tmp_path / FILE))


def test_what_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("threads = 1\n")
    with pytest.raises(LocalConfigError, match="addresses is missing; role is missing"):
        read(path)
    path.write_text("not toml")
    with pytest.raises(LocalConfigError, match="want a TOML file"):
        read(path)
    path.write_bytes(b'role = "\xff"')
    with pytest.raises(LocalConfigError, match="want a TOML file"):
        read(path)
    path.unlink()
    with pytest.raises(LocalConfigError, match=r"want a TOML file, got .*No such file"):
        read(path)


def test_addresses(tmp_path: Path) -> None:
    assert "want one for server1, whom owner and clients dial" in refusal(
        tmp_path, {}, {"server0": "a:1", "dealer": "a:2"}
    )
    assert "addresses: want server0, server1, dealer, got 'deeler'" in refusal(
        tmp_path, {}, {"server0": "a:1", "server1": "a:2", "deeler": "a:3"}
    )
    assert "addresses.server1: want a text, got 7" in refusal(tmp_path, {}, ADDRESSES | {"server1": 7})
    assert "want host:port, got 'nowhere'" in refusal(tmp_path, {}, ADDRESSES | {"server1": "nowhere"})
    assert "want host:port, got 'nowhere'" in refusal(tmp_path, {"listen": "nowhere"})


def test_a_link_that_is_none(tmp_path: Path) -> None:
    assert "link 'moon'" in refusal(tmp_path, {"net": "moon"})


def test_settings_are_not_changed_by_being_written(tmp_path: Path) -> None:
    ours = Settings(tmp_path, "client:alice", ADDRESSES, ahead=("1x8",))
    write(ours)
    assert ours == replace(ours) and read(tmp_path / FILE).ahead_sizes == (Size(1, 8),)
