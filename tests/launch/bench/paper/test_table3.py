"""Table 3: points, costs by operation that are the plan's, rounds that are the functions' own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import forked
from protocol_programs import NARROW_ROWS, ROW_SUMS, shared
from small_models import save_embedding
from typer.testing import CliRunner

from mpcnet.errors import LocalInputError
from mpcnet.launch.bench.paper import published, table3, table3_report
from mpcnet.launch.cli import app
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats import calibrate
from mpcnet.models.formats.calibrated import Coverage, Kept, write
from mpcnet.models.private.prepare import prepare, random_tokens, with_activation
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols import compare, crypten, division, gelu, puma, quad, shaft, softmax
from mpcnet.protocols.maximum import largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.suites import SUITES
from mpcnet.randomness.meter import MeterSource, measure

KEYS = 16
LEVELS = 4  # of the tree of a maximum
SCORES = shared((2, KEYS, KEYS), 22, 12)
KEEP = torch.ones(1, 1, KEYS)
INPUTS, SUMS, SQUARES = shared((8,), 24, 12), shared((8,), 40, 16), shared((8,), 64, 28)
PLACES = {
    ("crypten", "maximum, a level of its tree"): lambda p: largest(
        p, shared((2, 8), 22, 12), torch.ones(2, dtype=torch.bool)
    ),
    ("crypten", "e^x"): lambda p: crypten.numerators(p, SCORES, KEEP, 40, 16),
    ("crypten", "1/x"): lambda p: crypten.reciprocal(p, SUMS, ROW_SUMS),
    ("crypten", "1/sqrt(x)"): lambda p: crypten.rsqrt(p, SQUARES, NARROW_ROWS),
    ("crypten", "GeLU"): lambda p: crypten.gelu(p, INPUTS, 40),
    ("puma", "e^x, 0 below -14"): lambda p: puma.numerators(p, SCORES, KEEP, 40, 16),
    ("puma", "1/x"): lambda p: puma.reciprocal(p, SUMS, ROW_SUMS),
    ("puma", "1/sqrt(x)"): lambda p: puma.rsqrt(p, SQUARES, NARROW_ROWS),
    ("puma", "GeLU"): lambda p: puma.gelu(p, INPUTS, 64),
    ("mpcformer", "2Quad's numerators"): lambda p: softmax.squares(p, SCORES, KEEP, 48, 12),
    ("mpcformer", "1/x"): lambda p: crypten.reciprocal(p, SUMS, ROW_SUMS),
    ("mpcformer", "Quad"): lambda p: quad.quad(p, INPUTS, 40),
    ("shaft", "softmax"): lambda p: shaft.probabilities(p, SCORES, KEEP, 40, 16),
    ("shaft", "GeLU"): lambda p: shaft.gelu(p, INPUTS, 40),
    ("shaft", "1/sqrt(x)"): lambda p: shaft.rsqrt(p, SQUARES, NARROW_ROWS),
    ("secformer", "comparison of shares"): lambda p: compare.pi_lt(p, shared((8,), 64), shared((8,), 64)),
    ("secformer", "GeLU"): lambda p: gelu.pi_gelu(p, INPUTS, 64),
    ("secformer", "2Quad's numerators"): lambda p: softmax.squares(p, SCORES, KEEP, 48, 12),
    ("secformer", "1/sqrt(x)"): lambda p: division.rsqrt(p, SQUARES, NARROW_ROWS),
}


def rounds_of(program: Any) -> int:
    source = MeterSource()
    return measure(program(Party(source, "here")), source).ledger.total().rounds


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_rounds_here(place: tuple[str, str]) -> None:
    (row,) = [row for row in published.ROUNDS if (row.suite, row.function) == place]
    found = rounds_of(PLACES[place])
    if "e^x" in row.function:  # the maximum comes before
        found -= 3 * LEVELS
    if row.here.isdecimal():
        assert found == int(row.here)
    else:
        assert found == 2 * NARROW_ROWS.rsqrt_steps(NARROW_ROWS.deflation(division.RSQRT_LIMIT)) - 1


def test_points() -> None:
    found = table3.points(["demo"], [8], ["secformer", "secformer/exact", "mpcformer", "puma", "fast"])
    assert [(point.suite, point.softmax) for point in found] == [
        ("secformer", "2quad"), ("secformer", "exact"), ("mpcformer", "2quad"), ("puma", "exact"), ("fast", "exact"),
    ]  # fmt: skip
    with pytest.raises(LocalInputError, match=r"suites: want some of secformer, .* got 'slow'"):
        table3.points(["demo"], [8], ["slow"])


def test_operations() -> None:
    names = {
        "layer3/out/norm/rsqrt": "LayerNorm", "embedding/norm": "LayerNorm", "layer0/activation": "GeLU",
        "layer0/attention/puma": "softmax", "layer0/attention/reciprocal": "softmax", "layer0/attention": "others",
        "layer0/qkv": "others", "audit": "audit", "pool": "others",
    }  # fmt: skip
    assert {name: table3.operation(name) for name in names} == names


@pytest.mark.parametrize("suite", ["crypten", "puma", "mpcformer", "shaft"])
def test_a_planned_row_is_the_plan(suite: str) -> None:
    (point,) = table3.points(["bert-tiny"], [8], [suite])
    prepared = prepare("bert-tiny", suite, None, 8)
    row = table3.planned(point, prepared)
    plan = Plans(prepared.config).infer(Size(1, 8, audit=True)).ledger.total()
    assert (row["rounds"], row["sent_bytes"], row["dealt_bytes"]) == (
        plan.rounds,
        plan.sent_bytes,
        sum(plan.dealt_bytes),
    )
    parts = row["operations"].values()
    assert sum(part["rounds"] for part in parts) == plan.rounds
    assert sum(part["sent_bytes"] for part in parts) == plan.sent_bytes
    assert row["how"] == "planned" and row["random_weights"] and row["departures"] == []
    columns, cells = table3_report.tables([row], ["none", "wan"])["Cost of one sentence"]
    assert dict(zip(columns, cells[0], strict=True))["s offline + online"] == "planned"


def test_medians_over_turns() -> None:
    base = {"model": "m", "length": 8, "suite": "fast", "softmax": "exact", "how": "run", "n": 2}
    rows = [
        base
        | {f"{key}{end}": second for key in ("offline_s", "online_s", "total_s") for end in ("", "_min", "_max")}
        | {
            "links": {"wan": 2 * second},
            "server_cpu_s": second / 2,
            "operations": {"GeLU": {"rounds": 3, "seconds": second}},
        }
        for second in (1.0, 5.0, 2.0)
    ]
    (found,) = table3.merged([*rows, base | {"how": "planned"}])
    assert (found["total_s"], found["total_s_min"], found["total_s_max"], found["n"]) == (2.0, 1.0, 5.0, 6)
    assert found["server_cpu_s"] == 1.0
    assert found["links"] == {"wan": 4.0} and found["operations"]["GeLU"] == {"rounds": 3, "seconds": 2.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lengths", "8,x"], "lengths: want whole numbers of tokens, separated by commas, got 'x'"),
        (["--net", "lan,moon"], "net: want some of none, lan, wan, separated by commas, got 'moon'"),
    ],
)
def test_what_is_refused(options: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["bench", "paper", "--table", "3", *options])
    assert isinstance(done.exception, LocalInputError) and str(done.exception) == words


@pytest.mark.slow
def test_a_run_and_a_plan(tmp_path: Path) -> None:
    """One point through real processes, of a suite that puts its activation in, and one that deals too much."""
    point = ["--models", "bert-tiny", "--lengths", "8", "--suites", "mpcformer", "--runs", "1", "--out", str(tmp_path)]
    with forked():
        for more in ([], ["--most-dealt", "0"]):
            done = CliRunner().invoke(app, ["bench", "paper", "--table", "3", *point, *more], catch_exceptions=False)
            assert done.exit_code == 0
    ran, planned = (json.loads(text) for text in (tmp_path / "table3.jsonl").read_text().splitlines())
    assert (ran["how"], planned["how"]) == ("run", "planned")
    for key in ("rounds", "sent_bytes", "dealt_bytes"):
        assert ran[key] == planned[key]
    assert ran["links"]["none"] < ran["links"]["lan"] < ran["links"]["wan"]
    assert (tmp_path / "table3.md").read_text().startswith("# Table 3")
    assert (tmp_path / "table3.png").stat().st_size > 10_000


def test_errors_with_real_weights(tmp_path: Path) -> None:
    """The division's own error is told apart from the numerators': Newton's, on sums of squares that it is not for."""
    model = str(save_embedding(tmp_path / "model"))
    found = with_activation(load_checkpoint(model), SUITES["mpcformer"])
    made = calibrate.calibrate(found.shape, fold(found), [random_tokens(found, 4, 48)], found.sha256)
    write(Kept(made, Coverage(48, "by hand")), tmp_path / "ranges.json")
    sizes = table3.errors(prepare(model, "mpcformer", None, 48, tmp_path / "ranges.json"))
    assert list(sizes) == ["GeLU", "softmax", "division", "LayerNorm"]
    assert sizes["GeLU"]["largest"] < 1e-3 and sizes["softmax"]["largest"] < 1e-3
    assert sizes["division"]["largest"] > 1 and sizes["LayerNorm"]["largest"] > 1e-2
    assert all(0 < size["mean"] <= size["largest"] for size in sizes.values())
