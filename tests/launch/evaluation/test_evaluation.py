"""Evaluations: which examples are drawn, what is aggregated, and what the report says of results made by hand."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation import plots, report, results
from mpcnet.launch.evaluation.examples import Choice, choose, drawn, groups, in_order, restore, single
from mpcnet.launch.evaluation.results import Difference, Evaluation, margins
from mpcnet.models.texts.tokens import Tokens

FLOATS = [[2.0, -1.0], [0.01, 0.0], [-3.0, 1.0], [0.5, 0.25]]
PRIVATE = [[2.001, -1.0], [0.0, 0.004], [-3.0, 1.0], [0.5, 0.249]]


def made(**changes: object) -> Evaluation:
    """Four private examples of ten; the second changes its label, which was wrong."""
    scores = {way: {"accuracy": 0.75} for way in results.WAYS}
    row = Evaluation(
        task="sst-2", headline="accuracy", model="some_model", suite="fast", softmax="2quad", answer="logits", seed=3, available=10,
        n=10, private_n=4, longest=30, scores={"float": {"accuracy": 0.8}, "oracle": {"accuracy": 0.9}},
        private_scores=scores | {"private": {"accuracy": 1.0}},
        differences={
            "private-float": Difference.of(torch.tensor(PRIVATE), torch.tensor(FLOATS)),
            "oracle-float": Difference(1.0, 0.002, 0.001), "private-oracle": Difference(0.75, 0.003, 0.0005),
        },
        batch=2, requests=2, rounds=(45, 45), sent_bytes=2.5e6, dealt_bytes=3.5e6,
        seconds={"upload": 0.01, "offline": 0.125, "online": 0.25}, load=0.1, threads=1, kernels="none",
        machine="a machine", commit="0123abc", labels=[0.0, 1.0, 1.0, 0.0],
        outputs={"float": FLOATS, "oracle": FLOATS, "private": PRIVATE},
    )  # fmt: skip
    return replace(row, **changes)


def test_drawing_is_fixed_by_the_seed_and_nested() -> None:
    few, more = drawn(1000, 20, 1), drawn(1000, 300, 1)
    assert few == drawn(1000, 20, 1) != drawn(1000, 20, 2)
    assert len(few) == 20 and few == sorted(set(few)) and set(few) < set(more)
    assert drawn(5, 0, 1) == drawn(5, 9, 1) == [0, 1, 2, 3, 4]


def test_private_examples_are_among_the_others(tmp_path: Path) -> None:
    (tmp_path / "SST-2").mkdir()
    lines = [f"text {i}\t{i % 2}" for i in range(50)]
    (tmp_path / "SST-2" / "dev.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    chosen = choose(Choice("sst-2", str(tmp_path), limit=20, private_limit=5, seed=4))
    assert (chosen.available, len(chosen.texts), len(chosen.private)) == (50, 20, 5)
    names = [f"text {row}" for row in drawn(50, 20, 4)]
    assert chosen.texts == names
    assert [names[place] for place in chosen.private] == [f"text {row}" for row in drawn(50, 5, 4)]
    assert chosen.labels.tolist() == [int(name[5:]) % 2 for name in names]
    assert choose(Choice("sst-2", str(tmp_path), limit=3)).private == [0, 1, 2]


def test_groups_are_of_like_length_and_results_return_in_order() -> None:
    mask = (torch.arange(6) < torch.tensor([3, 6, 1, 4, 2])[:, None]).long()
    tokens = Tokens(torch.arange(30).reshape(5, 6), mask * 0, mask)
    grouped = groups(tokens, 2)
    assert grouped == [[2, 4], [0, 3], [1]]
    widths, steps = [], []

    def first(rows: Tokens) -> torch.Tensor:
        widths.append(rows.ids.shape[1])
        return rows.ids[:, :1]

    found = in_order(grouped, tokens, first, lambda: steps.append(1))
    assert found[:, 0].tolist() == [0, 6, 12, 18, 24]
    assert widths == [2, 4, 6] and len(steps) == 3
    assert restore(grouped, torch.tensor([20, 40, 0, 30, 10])).tolist() == [0, 10, 20, 30, 40]


def test_single_texts() -> None:
    assert single([("a", "b"), "c", ("b", "d")]) == ["a", "b", "c", "d"]


def test_differences() -> None:
    found = Difference.of(torch.tensor([[1.0, 0.5], [0.0, 3.0]]), torch.tensor([[1.0, 1.5], [0.0, 2.5]]))
    assert found == Difference(0.5, 1.0, 0.375)
    assert Difference.of(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [2.0]])) == Difference(None, 0.5, 0.25)
    assert margins(FLOATS) == [3.0, 0.01, 4.0, 0.25]
    assert made().same_labels() == [True, False, True, True]


def test_the_verdict() -> None:
    said = report.verdict(made())
    assert "accuracy 100.00 private, 75.00 float** on the same 4 of 10 dev examples (drawn with seed 3)" in said
    assert "+25.00 points (goal: within 0.5: missed)" in said
    assert "The same label for 75.00%; the float model's margin at the others was at most 0.01. " in said
    assert said.endswith("Largest error 0.01.")


@pytest.mark.parametrize(("private", "word"), [(0.755, "met"), (0.745, "met"), (0.7551, "missed"), (0.7449, "missed")])
def test_the_goal(private: float, word: str) -> None:
    row = made()
    row = replace(row, private_scores={**row.private_scores, "private": {"accuracy": private}})
    assert f"within 0.5: {word})" in report.verdict(row)


def test_all_examples_are_not_drawn() -> None:
    assert "4 of 4 dev examples: " in report.verdict(made(available=4))


def test_a_regression_has_errors_and_no_labels() -> None:
    outputs = {way: [[1.0], [2.5]] for way in ("float", "oracle")} | {"private": [[1.0], [2.25]]}
    scores = {way: {"pearson": 0.9} for way in results.WAYS}
    difference = Difference.of(torch.tensor(outputs["private"]), torch.tensor(outputs["float"]))
    row = made(headline="pearson", private_scores=scores, outputs=outputs, differences={"private-float": difference})
    assert "label" not in report.verdict(row)
    axes = plots.errors([row]).axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[1.0, plots.LEAST_ERROR], [2.5, 0.25]]


def test_label_answers_have_no_errors(tmp_path: Path) -> None:
    hot = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    row = made(answer="label", outputs={"float": FLOATS, "oracle": FLOATS, "private": hot})
    difference = Difference.of(torch.tensor(hot), torch.tensor(FLOATS), "label")
    assert difference == Difference(0.75, None, None)
    row = replace(row, differences={"private-float": difference})
    assert row.key != made().key and "sst-2, some_model (fast, 2quad, label): accuracy 100.00" in report.verdict(row)
    assert "The same label for 75.00%;" in report.verdict(row) and "Largest error" not in report.verdict(row)
    assert plots.evaluations([row], tmp_path) == {"accuracy": "Accuracy three ways"}


def test_the_tables() -> None:
    text = report.compose([made()], {})
    lead = r"| sst-2, accuracy | some\_model | fast, 2quad |"
    assert f"{lead} 10 | 80.00 | 90.00 | 4 | 75.00 | 75.00 | 100.00 | +25.00 points | 75.00% |" in text
    assert f"{lead} 0.01 (0.002) | 0.002 (0.001) | 0.003 (0.0005) |  |" in text
    assert f"{lead} 2 of up to 2 | 30 | 45 | 2.50 | 3.50 | 0.125 | 0.250 |" in text
    assert "ot quiet" not in text


def test_seconds_beside_other_work_are_left_out() -> None:
    text = report.compose([made(load=1.5)], {})
    assert "| not quiet | not quiet |" in text and "0.250" not in text
    assert "(load 1.5 to 1.5)" in text
    assert "load 1.5" in report.facts(made(load=1.5))["its seconds"]


def test_files(tmp_path: Path) -> None:
    """The last line of each model and task counts; report and plots come from the lines alone."""
    old, other = made(commit="old"), made(task="rte", rounds=(45, 50))
    for row in (old, other, made()):
        results.append(tmp_path, row)
    assert results.load(tmp_path) == [made(), other]
    text = report.write(tmp_path).read_text()
    assert "2 evaluations; a machine; commit 0123abc." in text and "45 to 50" in text
    names = re.findall(r"\]\(([a-z_]+\.(?:png|svg))\)", text)
    assert names == ["accuracy.png", "accuracy.svg", "errors.png", "errors.svg"]
    for name in names:
        assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="want results of mpcnet evaluate, got none"):
        report.write(tmp_path)
    (tmp_path / results.FILE).write_text('{"task": "sst-2"}\n')
    with pytest.raises(LocalConfigError, match="line 1: want a result of this version"):
        results.load(tmp_path)


def test_what_changed_its_label_has_a_mark_of_its_own() -> None:
    """At the float model's margin, as high as its error."""
    same, other = plots.errors([made()]).axes[0].collections
    assert other.get_offsets().tolist() == [[0.01, 0.01]]
    assert len(same.get_offsets()) == 3


def test_bars_are_the_private_examples_metrics() -> None:
    heights = [bar.get_height() for bar in plots.accuracy([made()]).axes[0].patches]
    assert heights == [75.0, 75.0, 100.0]


def test_a_models_name_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    assert results.display_name(str(tmp_path / "student")) == "student"
    assert results.display_name("org/name") == "org/name"
