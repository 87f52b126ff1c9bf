"""The file of results: what is written is read, a cut line is no harm, and a grid goes on where it stopped."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from netem_points import POINT, document, made, made_base
from rich.console import Console

from mpcnet.errors import LocalConfigError
from mpcnet.launch.netem import experiment, grid
from mpcnet.launch.netem.experiment import PointMissed, base, group, grouped, result
from mpcnet.launch.netem.results import FILE, Base, Failure, Point, Row, append, load

FAILED = Failure(POINT, "server1 gave up", "0123abc", "a machine")
PROBE = {"rtt_s": 0.01, "rtt_spread_s": 0.0, "goodput_bps": 1e8}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [made(0.03), replace(FAILED, point=replace(POINT, length=8)), made_base()]
    for row in rows:
        append(tmp_path, row)
    assert list(load(tmp_path).values()) == rows


def test_the_last_line_of_a_point_counts(tmp_path: Path) -> None:
    append(tmp_path, FAILED)
    append(tmp_path, made(0.03))
    assert load(tmp_path) == {POINT: made(0.03)}


def test_a_line_cut_short_is_left_out_and_then_replaced(tmp_path: Path) -> None:
    append(tmp_path, made(0.0))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"point": {"how": "in')
    assert list(load(tmp_path)) == [POINT]
    append(tmp_path, made(0.0, length=8))
    assert [point.length for point in load(tmp_path)] == [128, 8]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"point": {}}', '{"work": {}}', '{"point": {"how": "inproc"}, "error": "none"}']
)
def test_another_file(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(line + "\n")
    with pytest.raises(LocalConfigError, match="line 1: want a result of this version"):
        load(tmp_path)


def test_a_line_names_all_that_a_reader_needs(tmp_path: Path) -> None:
    append(tmp_path, made(0.03))
    line = json.loads((tmp_path / FILE).read_text())
    wanted = {
        "point",
        "n",
        "probe",
        "rounds",
        "sent_bytes",
        "compute_s",
        "predicted_s",
        "residual",
        "commit",
        "machine",
    }
    assert set(line) >= wanted
    assert line["point"]["how"] == "inproc" and line["residual"] == pytest.approx(0.03)
    assert line["seconds_online"]["least"] <= line["seconds_online"]["median"] <= line["seconds_online"]["most"]


def test_the_grid_is_the_product_without_idle_streams() -> None:
    axes = grid.Axes([0.001, 0.01], [1e8], ["fast"], ["exact"], [8], [1, 4], [1, 4, 4])
    points = list(axes.points("inproc", "demo"))
    assert [(p.rtt_s, p.batch, p.streams) for p in points] == [
        (0.001, 1, 1), (0.01, 1, 1), (0.001, 4, 1), (0.01, 4, 1), (0.001, 4, 4), (0.01, 4, 4),
    ]  # fmt: skip


def test_a_grid_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done points are skipped; failed ones and those of fewer runs are measured; a failure does not end the grid."""
    points = [replace(POINT, length=length) for length in (8, 16, 32, 64)]
    for row in (made(0.0, length=8), replace(FAILED, point=points[1]), replace(made(0.0, length=32), n=1)):
        append(tmp_path, row)
    tried: list[int] = []

    def attempt(point: Point, runs: int, base: Base | Failure | None) -> Row:
        assert isinstance(base, Base) and base.work == point.work
        tried.append(point.length)
        return replace(FAILED, point=point) if point.length == 16 else made(0.0, length=point.length)

    monkeypatch.setattr(grid, "attempt", attempt)
    monkeypatch.setattr(grid, "attempt_base", lambda point, runs: made_base(length=point.length))
    assert grid.run(points, 3, tmp_path, Console(quiet=True)) == 1
    assert tried == [16, 32, 64]
    assert [isinstance(load(tmp_path)[point], Failure) for point in points] == [False, True, False, False]


def test_a_base_is_measured_once_for_a_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first of its points, and not again by the next command; several streams need none."""
    tried: list[Point] = []
    given: list[object] = []

    def attempt(point: Point, runs: int, base: Base | Failure | None) -> Row:
        given.append(base)
        return experiment.attempt(point, runs, base) if isinstance(base, Failure) else made(0.0, **asdict(point))

    def attempt_base(point: Point, runs: int) -> Base | Failure:
        tried.append(point)
        return made_base(length=point.length) if point.length != 16 else replace(FAILED, point=point)

    monkeypatch.setattr(grid, "attempt", attempt)
    monkeypatch.setattr(grid, "attempt_base", attempt_base)
    points = [replace(POINT, rtt_s=rtt_s, length=length) for length in (8, 16) for rtt_s in (0.001, 0.01)]
    assert grid.run(points, 3, tmp_path, Console(quiet=True)) == 2
    assert tried == [points[0], points[2]] and load(tmp_path)[points[0].work] == given[0] == made_base(length=8)
    assert load(tmp_path)[points[3]] == replace(FAILED, point=points[3])
    assert grid.run([replace(points[0], rtt_s=0.02)], 3, tmp_path, Console(quiet=True)) == 0
    assert grid.run([replace(points[0], batch=4, streams=4)], 3, tmp_path, Console(quiet=True)) == 0
    assert len(tried) == 2 and given[-1] is None


def test_a_failure_is_one_line_and_a_bug_does_not_tell_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*work: object) -> Row:
        raise errors.pop()

    errors = [KeyError("a secret"), LocalConfigError("tun needs\nroot")]
    monkeypatch.setattr(experiment, "measure", measure)
    monkeypatch.setattr(experiment, "measure_base", measure)
    first, second = (experiment.attempt(POINT, 1, None) for _ in range(2))
    assert isinstance(first, Failure) and first.error == "tun needs root"
    assert isinstance(second, Failure) and second.error == "bug: KeyError"
    errors.append(LocalConfigError("no memory"))
    third = experiment.attempt_base(POINT, 1)
    assert isinstance(third, Failure) and third.error == "over no link: no memory"


def test_a_run_of_other_work_is_refused() -> None:
    other = document(POINT, [1.0, 1.0]) | {"sentences": 1}
    with pytest.raises(PointMissed, match="1 x 128 tokens: want"):
        result(POINT, 2, PROBE, other, None)
    with pytest.raises(PointMissed, match="1 x 128 tokens: want"):
        base(POINT.work, 2, PROBE, other)


def test_operations_are_grouped() -> None:
    names = [
        "embedding/norm",
        "layer5/qkv",
        "layer0/attention/exp",
        "layer1/out/norm/rsqrt",
        "layer2/activation",
        "result",
    ]
    groups = ["embedding", "layers/linear", "layers/attention", "layers/norm", "layers/activation", "answer"]
    assert list(map(group, names)) == groups
    row = {"rounds": 4, "sent_bytes": 100, "compute_s": 0.5, "wait_s": 1.0}
    rows = grouped([{"name": f"layer{i}/activation", **row} for i in range(2)], 2)
    assert rows == [{"name": "layers/activation", "rounds": 4, "sent_bytes": 100, "compute_s": 0.5, "wait_s": 1.0}]
