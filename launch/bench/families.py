"""Every family's private answers beside transformers', through the five processes: a table's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from mpcnet.launch.simulate import DEFAULT_TEXTS, Options, simulate
from mpcnet.models.checkpoints.families import FAMILIES

LABELS = {"embedding": 0, "classification": 3}  # of the seeded models, by head


def rows(families: Sequence[str], checkpoints: Sequence[str], console: Console) -> Iterator[dict[str, Any]]:
    """Small models of some families, or of all, from a seed: an encoder and a classifier of each; or checkpoints."""
    for model in checkpoints:
        yield measured(model, console)
    if checkpoints and not families:
        return
    from mpcnet.launch.bench.seeded import save_seeded  # transformers: only who makes models waits for it

    for kind in families or FAMILIES:
        for labels in LABELS.values():
            if labels and len(FAMILIES[kind].architectures) < 2:  # no classifier of it runs
                continue
            with TemporaryDirectory() as folder:
                path = save_seeded(Path(folder) / kind, kind, labels)
                yield measured(str(path), console) | {"family": kind, "checkpoint": "seeded"}


def measured(model: str, console: Console) -> dict[str, Any]:
    """One simulation of three texts: how near the answers are to the float model's, and what they cost."""
    outcome = simulate(DEFAULT_TEXTS, Options(model), console)
    shape, document = outcome.prepared.config.shape, outcome.document
    same = outcome.private.argmax(1) == outcome.plain.argmax(1)
    row = {
        "family": "",
        "head": shape.head,
        "checkpoint": model,
        "cosine": document["min_cosine"],
        "agreement": f"{int(same.sum())} of {len(same)}" if shape.labels >= 2 else None,
        "max_abs_error": document["max_abs_error"],
        "out_of_range": sum(document["out_of_range"]),
        "layers": shape.layers,
        "hidden": shape.hidden,
        "vocab": shape.vocab,
    }
    return row | {key: document[key] for key in ("rounds", "sent_bytes", "offline_bytes", "machine", "commit")}
