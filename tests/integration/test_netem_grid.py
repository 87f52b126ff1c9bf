"""`mpcnet netem` from the command line: one tiny point, then the same command again, then the report alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from netem_points import COMPUTE_S, OVERHEAD_S, POINT, ROUNDS, SENT_BYTES, document, made_base, needs
from rich.console import Console
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError
from mpcnet.launch.netem import experiment
from mpcnet.launch.netem.command import app
from mpcnet.launch.netem.results import FILE, Base, append
from mpcnet.launch.simulate.localhost import Options, Outcome
from mpcnet.launch.simulation.network import Network

pytestmark = pytest.mark.slow

TINY = ["--model", "bert-tiny", "--how", "inproc", "--rtt", "1ms", "--bw", "1gbps", "--length", "8", "--runs", "1"]


def test_one_point(tmp_path: Path) -> None:
    append(tmp_path, replace(made_base(model="bert-tiny", length=8), overhead_s=OVERHEAD_S))
    line = [*TINY, "--out", str(tmp_path)]
    assert CliRunner().invoke(app, line, catch_exceptions=False).exit_code == 0
    _, row = [json.loads(text) for text in (tmp_path / FILE).read_text().splitlines()]
    assert row["n"] == 1 and row["rounds"] == 47 and row["min_cosine"] > 0.999 and row["overhead_s"] == OVERHEAD_S
    one_way_s = 0.5e-3
    assert row["probe"]["rtt_s"] >= 2 * one_way_s and row["probe"]["goodput_bps"] > 0
    assert row["delay_s"] == pytest.approx(47 * row["probe"]["rtt_s"] / 2)
    assert row["seconds_online"]["median"] > 47 * one_way_s  # no frame comes early
    assert row["predicted_s"] == pytest.approx(
        row["delay_s"] + row["transfer_s"] + row["compute_s"] + row["overhead_s"]
    )
    assert "1 points measured, 0 failed" in (tmp_path / "report.md").read_text()

    written = (tmp_path / FILE).read_bytes()
    assert CliRunner().invoke(app, line, catch_exceptions=False).exit_code == 0
    assert (tmp_path / FILE).read_bytes() == written

    (tmp_path / "report.md").unlink()
    assert CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False).exit_code == 0
    assert (tmp_path / "report.md").exists()


@pytest.mark.parametrize("how", ["inproc", needs("tun")])
def test_a_work_over_no_link(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the hosts that its networks have, probed as they are; the parties themselves are not started here."""
    point = replace(POINT, how=how)
    seen = []

    def simulated(texts: list[str], options: Options, console: Console, network: Network) -> Outcome:
        seen.append((len(texts), options.net, options.streams, network.name, network.net))
        nothing = torch.zeros(0)
        return Outcome(None, nothing, nothing, document(point, [2.0, 2.0]), [])

    monkeypatch.setattr(experiment, "simulate", simulated)
    base = experiment.attempt_base(point, 2)
    assert isinstance(base, Base) and base.work == point.work and base.n == 2
    assert seen == [(3, "none", 1, "loopback" if how == "inproc" else "veth", "none")]
    assert base.probe["network"] == seen[0][3]
    assert base.probe["rtt_s"] > 0 and base.probe["goodput_bps"] > 0
    explained_s = ROUNDS * base.probe["rtt_s"] / 2 + 8 * SENT_BYTES / base.probe["goodput_bps"] + COMPUTE_S
    assert base.explained_s == pytest.approx(explained_s)
    assert base.overhead_s == pytest.approx(2.0 - explained_s)


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
