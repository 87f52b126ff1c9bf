"""Keep what trainings found in docs/glue, and write its table: `python tests/support/glue_results.py FOLDER`.

FOLDER has results of `mpcnet distill`, and of `mpcnet evaluate --out` in a run's folder. Scores and options are kept, but no
weights, texts, labels or paths. Without FOLDER only the table is written, as `mpcnet bench paper --table 2 --results
docs/glue --out docs/glue` does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mpcnet.launch.bench.paper import glue_runs, table2
from mpcnet.launch.distill.training_run import RESULTS
from mpcnet.launch.evaluation.results import FILE

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
KEPT = ROOT / "docs" / "glue"
SHAPE = ("model_type", "num_hidden_layers", "hidden_size")  # what the table reads of config.json


def keep(folder: Path, target: Path) -> None:
    """Every run below `folder`, at the same place below `target`."""
    for path in sorted(folder.rglob(RESULTS)):
        kept = target / path.parent.relative_to(folder)
        kept.mkdir(parents=True, exist_ok=True)
        results = json.loads(path.read_text())
        options = results["options"]
        results["options"] = options | {"source": Path(options["source"]).name, "data": ["GLUE"]}
        _write(kept / RESULTS, results)
        config = json.loads((path.parent / "config.json").read_text())
        _write(kept / "config.json", {name: config[name] for name in SHAPE})
        if (path.parent / FILE).exists():
            lines = (path.parent / FILE).read_text().splitlines()
            rows = [json.loads(line) | {"labels": [], "outputs": {}} for line in lines]
            (kept / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        keep(Path(name), KEPT)
    table2.write(glue_runs.find(KEPT), KEPT)
