"""Answers for people and for JSON: a label, a score or a vector with its name and all digits, one entry a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mpcnet.errors import one_line
from mpcnet.launch.requests.asked import listed
from mpcnet.launch.requests.entities import entities
from mpcnet.launch.requests.fills import fills
from mpcnet.launch.requests.spans import best_span
from mpcnet.launch.requests.view import VIEW, Known, View
from mpcnet.models.families.config import AnswerKind, Config
from mpcnet.models.picture import Picture
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Given

SHOWN = 48  # characters of a text in a table
ROWS = 64  # of a table; JSON has them all
LEFT_RANGE = (
    "a value left the range that the program was planned for; run `mpcnet calibrate --model DIR --texts FILE` with "
    "texts like yours (of images, --texts FOLDER), then `mpcnet init` again"
)
OUT_OF_RANGE = f"{LEFT_RANGE}; --accept-out-of-range shows the answer all the same"


def entry(
    config: Config, kind: AnswerKind, values: Tensor, known: Known | None = None, view: View = VIEW
) -> dict[str, Any]:
    """What one row of results says: of a label its name; a classifier's likelier label, its probability and all logits;
    the score of a model with one label; an embedding; the entities of a text; the answer in a context; words for masks.
    Where the text is not `known`, the logits of tokens.
    """
    if config.shape.tells_tokens or config.shape.fills:
        return {"logits": values.tolist()} if known is None else _of_tokens(config, kind, values, known, view)
    if kind == "label":
        return {"label": names(config)[int(values.argmax())]}
    if config.shape.head == "embedding":
        return {"values": values.tolist()}
    if config.shape.multi_label:  # each holds or does not
        chances = dict(zip(names(config), values.sigmoid().tolist(), strict=True))
        holding = [name for name, chance in chances.items() if chance > 0.5]
        return {"labels": holding, "probabilities": chances, "logits": values.tolist()}
    if config.shape.labels == 1:
        named = {"name": names(config)[0], "score": as_score(config.shape, values).item()}
        return named | ({"logit": values.item()} if config.shape.sigmoid else {})
    place = int(values.argmax())
    return {"label": names(config)[place], "probability": values.softmax(0)[place].item(), "logits": values.tolist()}


def as_score(shape: BertShape, logits: Tensor) -> Tensor:
    """A cross-encoder's score, as its folder says; another model's single value as it is."""
    return logits.sigmoid() if shape.sigmoid else logits


def ranked(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries with a rank of each that has a score, 1 for the largest."""
    scored = [place for place, row in enumerate(found) if "score" in row]
    best = sorted(scored, key=lambda place: -float(found[place]["score"]))
    ranks = {place: {"rank": number} for number, place in enumerate(best, 1)}
    return [row | ranks.get(place, {}) for place, row in enumerate(found)]


def _of_tokens(config: Config, kind: AnswerKind, values: Tensor, known: Known, view: View) -> dict[str, Any]:
    if config.shape.fills:
        return {"fills": [[asdict(word) for word in words] for words in fills(values, known, view.top)]}
    if config.shape.head == "question-answering":
        span = best_span(values, known, view.max_answer_len, impossible=view.impossible)
        return {"answer": span.text, "score": span.score, "start": span.start, "end": span.end}
    found = entities(names(config), values, known, view.aggregation, labels=kind == "label")
    return {"entities": [asdict(entity) for entity in found]}


def names(config: Config) -> tuple[str, ...]:
    """A classifier's labels by their names, or by number where the program has none."""
    return config.labels or tuple(f"LABEL_{place}" for place in range(config.shape.labels))


def guarded(answer: dict[str, Any], out_of_range: bool, where: str, accept: bool) -> dict[str, Any]:
    """An answer whose values kept to their ranges; of another, why it is none, or the answer with a mark."""
    if not out_of_range:
        return answer
    marked = {"out_of_range": True}
    return answer | marked if accept else {"error": f"{where}: {OUT_OF_RANGE}"} | marked


def beside(
    config: Config, kind: AnswerKind, private: Tensor, plain: Tensor, known: Known | None = None, view: View = VIEW
) -> dict[str, Any]:
    """One text's private answer and the plaintext model's, under the same names with plain_ before them.

    Of embeddings only their cosine: what a run compares has hundreds of values a text.
    """
    if config.shape.head == "embedding":
        return {"cosine": torch.cosine_similarity(private, plain, dim=0).item()}
    if kind == "label":
        plain = as_labels(plain)
    theirs = entry(config, kind, plain, known, view)
    return entry(config, kind, private, known, view) | {
        f"plain_{name}": value for name, value in theirs.items() if name != "name"
    }


def as_labels(logits: Tensor) -> Tensor:
    """One-hot rows of the largest of [..., labels]."""
    return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()


def nearness(figures: Mapping[str, Any]) -> str:
    """Labels, cosines or errors of a comparison, in words."""
    if "labels" in figures:
        return f"{figures['same_labels']} of {len(figures['labels'])} labels are the same"
    if figures["max_abs_error"] is None:
        return "no answer"
    cosine = "" if figures["min_cosine"] is None else f"least cosine {figures['min_cosine']:.6f}, "
    return f"{cosine}largest error {figures['max_abs_error']:.5f}"


def warning(where: Sequence[str], accept: bool) -> str:
    """What an audit says of these texts, for people; nothing if there are none."""
    if not where:
        return ""
    if accept:
        return f"{listed(where)}: a value left its range, so the answer may be wrong: it is shown because you asked"
    return f"{listed(where)}: no answer: {OUT_OF_RANGE}"


def table(texts: Sequence[Given], document: Mapping[str, Any], private: Tensor, plain: Tensor) -> Table:
    """What a run's document has to say of each of the first texts. `private` and `plain` are of the answered ones."""
    rows = list(zip(texts, document["answers"], strict=False))
    kinds = {name for row in document["answers"] for name in row}
    columns: tuple[str, ...] = ("text", "private (first values)", "float model", "cosine")
    if "probability" in kinds:
        columns = ("text", "private", "probability", "float model", "probability")
    elif "label" in kinds:  # all that the client learns
        columns = ("text", "private label", "float model", "same")
    elif "labels" in kinds:
        columns = ("text", "private labels", "float model", "same")
    elif "fills" in kinds:
        columns = ("text", "private words for the masks", "float model", "same")
    elif "answer" in kinds:
        columns = ("text", "private answer", "float model", "same")
    elif "entities" in kinds:
        columns = ("text", "private entities", "float model", "same")
    elif "score" in kinds:
        columns = ("text", "private score", "float model", "error")
    if texts and isinstance(texts[0], Picture):
        columns = ("image", *columns[1:])
    if "rank" in kinds:
        columns = ("rank", *columns)
    made = Table(title="private answers beside the float model's", title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column in ("probability", "error") else "left")
    return _filled(made, rows, private, plain)


def _filled(made: Table, rows: Sequence[tuple[Given, Mapping[str, Any]]], private: Tensor, plain: Tensor) -> Table:
    answered = iter(zip(private, plain, strict=True))
    ranked = any("rank" in row for _, row in rows)
    lines = []
    for text, row in rows if ranked else rows[:ROWS]:
        pair = next(answered) if _answered(row) else None
        cells = _cells(row, pair)
        mark = " (out of range)" if row.get("out_of_range") and "error" not in row else ""
        shown = [escape(_short(text)), escape(cells[0] + mark), *(escape(cell) for cell in cells[1:])]
        lines.append((row.get("rank", 0), shown))
    if ranked:
        by_rank = sorted(lines, key=lambda line: line[0] or len(lines) + 1)  # what has none comes last
        lines = [(rank, [str(rank or ""), *shown]) for rank, shown in by_rank]
    for _, shown in lines[:ROWS]:
        made.add_row(*shown)
    return made


def _answered(row: Mapping[str, Any]) -> bool:
    """Whether it was asked at all: one out of range was, and has values that are not given out."""
    return not row.get("empty") and ("error" not in row or bool(row.get("out_of_range")))


def _cells(row: Mapping[str, Any], pair: tuple[Tensor, Tensor] | None) -> list[str]:
    if "error" in row:
        return [f"error: {row['error'].partition(': ')[2].partition(';')[0]}"]
    if row.get("empty"):
        return ["(blank)"]
    if "probability" in row:
        first = [row["label"], f"{row['probability']:.4f}"]
        return [*first, row["plain_label"], f"{row['plain_probability']:.4f}"]
    if "label" in row:
        return [row["label"], row["plain_label"], "yes" if row["label"] == row["plain_label"] else "no"]
    if "labels" in row:
        same = "yes" if row["labels"] == row["plain_labels"] else "no"
        return [", ".join(row["labels"]), ", ".join(row["plain_labels"]), same]
    if "fills" in row:
        best = [[words[0] for words in row[name]] for name in ("fills", "plain_fills")]
        words = [", ".join(f"{word['text']} ({word['score']:.2f})" for word in each) for each in best]
        alike = [word["token"] for word in best[0]] == [word["token"] for word in best[1]]
        return [*(one_line(text, 2 * SHOWN) for text in words), "yes" if alike else "no"]
    if "answer" in row:
        shown = [f"{row[f'{by}answer'] or '(none)'} ({row[f'{by}score']:.2f})" for by in ("", "plain_")]
        alike = all(row[name] == row[f"plain_{name}"] for name in ("start", "end"))
        return [*(one_line(text, SHOWN) for text in shown), "yes" if alike else "no"]
    if "entities" in row:
        mine, theirs = (_shown_entities(row[name]) for name in ("entities", "plain_entities"))
        return [mine, theirs, "yes" if _places(row["entities"]) == _places(row["plain_entities"]) else "no"]
    if "score" in row:
        error = abs(row["score"] - row["plain_score"])
        return [f"{row['name']} {row['score']:+.4f}", f"{row['plain_score']:+.4f}", f"{error:.4f}"]
    assert pair is not None
    shown = [" ".join(f"{value:+.4f}" for value in values[:4].tolist()) for values in pair]
    return [*shown, f"{row['cosine']:.6f}"]


def _shown_entities(found: Sequence[Mapping[str, Any]]) -> str:
    """Each with its label, and its score if it is known."""
    scores = ["" if one["score"] is None else f" {one['score']:.2f}" for one in found]
    shown = [f"{one['text']} ({one['label']}{score})" for one, score in zip(found, scores, strict=True)]
    return one_line(", ".join(shown), 2 * SHOWN) or "none"


def _places(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    return [(one["label"], one["start"], one["end"]) for one in found]


def _short(text: Given) -> str:
    """In one printable line: a text may hold a form feed, or what moves a terminal's cursor. Of a picture its file's
    name, without its folder."""
    if isinstance(text, Picture):
        return one_line(Path(text.name).name, SHOWN)
    return one_line(text if isinstance(text, str) else " | ".join(text), SHOWN)
