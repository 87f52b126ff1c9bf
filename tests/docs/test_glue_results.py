"""docs/glue: results of trainings, and the table that is made of them."""

import json
from pathlib import Path

from glue_results import KEPT, keep

from mpcnet.launch.bench.paper import glue_runs, table2


def test_the_table_is_that_of_the_results() -> None:
    found = table2.compose(glue_runs.find(KEPT))
    assert (KEPT / table2.MARKDOWN).read_text().strip() == found.strip(), "run python tests/support/glue_results.py"


def test_keeping_what_is_kept_changes_nothing(tmp_path: Path) -> None:
    keep(KEPT, tmp_path)
    names = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.json*"))
    assert names == sorted(path.relative_to(KEPT) for path in KEPT.rglob("*.json*") if path.name != table2.LINES)
    for name in names:
        text = (tmp_path / name).read_text()
        assert text == (KEPT / name).read_text()
        assert '"/' not in text, f"{name} names a path"


def test_no_label_output_or_path_is_kept(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    own.mkdir()
    results = {"options": {"source": "/home/someone/teacher", "data": ["/home/someone/glue"], "seed": 1}}
    config = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "_name_or_path": "/home/someone"}
    evaluation = {"task": "cola", "labels": [1.0], "outputs": {"float": [[0.5]]}}
    for name, document in (("results.json", results), ("config.json", config), ("evaluations.jsonl", evaluation)):
        (own / name).write_text(json.dumps(document) + "\n")
    keep(own, kept)
    results, config, evaluation = (
        json.loads((kept / name).read_text()) for name in ("results.json", "config.json", "evaluations.jsonl")
    )
    assert results == {"options": {"source": "teacher", "data": ["GLUE"], "seed": 1}}
    assert config == {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384}
    assert evaluation == {"task": "cola", "labels": [], "outputs": {}}
