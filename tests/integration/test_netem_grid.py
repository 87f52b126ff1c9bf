"""`mpcnet netem` from the command line: one tiny point, then the same command again, then the report alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.netem.command import app
from launch.netem.results import FILE
from mpcnet.errors import LocalConfigError

TINY = ["--how", "inproc", "--rtt", "1ms", "--bw", "1gbps", "--length", "8", "--runs", "1"]


def test_one_point(tmp_path: Path) -> None:
    line = [*TINY, "--out", str(tmp_path)]
    assert CliRunner().invoke(app, line, catch_exceptions=False).exit_code == 0
    (row,) = [json.loads(text) for text in (tmp_path / FILE).read_text().splitlines()]
    assert row["n"] == 1 and row["rounds"] == 131 and row["min_cosine"] > 0.999
    assert 0.5e-3 < row["probe"]["rtt_s"] < 20e-3 and row["probe"]["goodput_bps"] > 1e7
    assert row["seconds_online"]["median"] > row["delay_s"] > 60 * 1e-3
    assert row["predicted_s"] == pytest.approx(row["delay_s"] + row["transfer_s"] + row["compute_s"])
    assert "1 points measured, 0 failed" in (tmp_path / "report.md").read_text()

    written = (tmp_path / FILE).read_bytes()
    assert CliRunner().invoke(app, line, catch_exceptions=False).exit_code == 0
    assert (tmp_path / FILE).read_bytes() == written

    (tmp_path / "report.md").unlink()
    assert CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False).exit_code == 0
    assert (tmp_path / "report.md").exists()


def test_a_point_that_fails_is_told_by_the_exit_code(tmp_path: Path) -> None:
    """The model is not there: the point says so, and there is a report."""
    ended = CliRunner().invoke(app, [*TINY, "--model", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert ended.exit_code == 1
    (row,) = [json.loads(text) for text in (tmp_path / FILE).read_text().splitlines()]
    assert str(tmp_path / "none") in row["error"] and "\n" not in row["error"]
    assert "1 failed" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--rtt", "fast", "want a number"),
        ("--bw", "0mbps", "link"),
        ("--suite", "fast,slow", "want one of .*got 'slow'"),
        ("--softmax", "soft", "want one of exact, 2quad"),
        ("--batch", "0", "want a whole number from 1"),
        ("--streams", "2", "want no more streams than sentences"),
    ],
)
def test_wrong_values_are_said_before_anything_runs(tmp_path: Path, option: str, value: str, said: str) -> None:
    ended = CliRunner().invoke(app, [*TINY, option, value, "--out", str(tmp_path / "out")])
    assert isinstance(ended.exception, LocalConfigError)
    with pytest.raises(LocalConfigError, match=said):
        raise ended.exception
    assert not (tmp_path / "out").exists()
