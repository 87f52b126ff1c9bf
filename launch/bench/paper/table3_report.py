"""Table 3 for people: Markdown, tables for the screen, and a plot like the paper's figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcnet.launch.bench.paper import published
from mpcnet.launch.bench.paper.table3 import OPERATIONS, merged
from mpcnet.launch.reporting import jsonlines, markdown
from mpcnet.models.private.prepare import BUILTIN

LINK_TEXTS = {"lan": "0.5 ms and 10 Gbit/s", "wan": "40 ms and 100 Mbit/s"}  # of table3.LINKS
LINES, MARKDOWN, PLOT = "table3.jsonl", "table3.md", "table3"
Columns = tuple[list[str], list[list[str]]]


def tables(rows: Sequence[Mapping[str, Any]], nets: Sequence[str]) -> dict[str, Columns]:
    """Titles, columns and rows; `rows` as they were measured, turn by turn."""
    found = merged(rows)
    return {
        "Cost of one sentence": _costs(found, nets),
        "By operation: rounds; MB online each way; MB dealt to both servers; seconds online": _operations(found),
        "Errors against float64, of each operation by itself: largest, mean": _errors(found),
        "Rounds as published, and here": _rounds(),
        "The paper's own figures: seconds, BERT, 512 tokens, on three GPU servers": _paper_seconds(),
        "The paper's code: GB online of both servers, BERT-base, 512 tokens, without a dealer": _paper_bytes(),
    }


def _name(row: Mapping[str, Any]) -> list[str]:
    model = str(row["model"]).removeprefix(BUILTIN) + (" (random weights)" if row["random_weights"] else "")
    return [model, str(row["length"]), f"{row['suite']}, {row['softmax']}"]


def _costs(rows: Sequence[Mapping[str, Any]], nets: Sequence[str]) -> Columns:
    shown = []
    for row in rows:
        ran = row["how"] == "run"
        seconds = f"{row['offline_s']:.2f} + {row['online_s']:.2f}" if ran else "planned"
        links = [f"{row['links'][net]:.1f}" if ran else "" for net in nets if net != "none"]
        known = row.get("cosine") is not None and not row["random_weights"]
        sizes = [f"{row['sent_bytes'] / 1e6:.1f}", f"{row['dealt_bytes'] / 1e6:.0f}"]
        right = [f"{row['cosine']:.5f}" if known else "", _flagged(row)]
        cpu = f"{row['server_cpu_s']:.2f}" if ran else ""
        shown.append([*_name(row), str(row["rounds"]), *sizes, seconds, cpu, *links, *right])
    over = [f"s over {net}, modelled" for net in nets if net != "none"]
    head = [
        "model",
        "tokens",
        "suite",
        "rounds",
        "MB online, each way",
        "MB dealt",
        "s offline + online",
        "server's CPU s",
    ]
    return [*head, *over, "cosine", "of the domain"], shown


def _flagged(row: Mapping[str, Any]) -> str:
    if row["departures"]:
        return "outside" + (", flagged" if row.get("out_of_range") else "")
    return "" if row["random_weights"] else ("flagged" if row.get("out_of_range") else "inside")


def _operations(rows: Sequence[Mapping[str, Any]]) -> Columns:
    shown = []
    for row in rows:
        cells = []
        for name in OPERATIONS:
            cost = row["operations"][name]
            parts = [f"{cost['rounds']:.0f}", f"{cost['sent_bytes'] / 1e6:.1f}", f"{cost['dealt_bytes'] / 1e6:.0f}"]
            cells.append("; ".join([*parts, *([f"{cost['seconds']:.2f}"] if row["how"] == "run" else [])]))
        shown.append([*_name(row), *cells])
    return ["model", "tokens", "suite", *OPERATIONS], shown


def _errors(rows: Sequence[Mapping[str, Any]]) -> Columns:
    shown, seen = [], set()
    for row in rows:
        key = (row["model"], row["suite"], row["softmax"])
        if "errors" in row and key not in seen:
            seen.add(key)
            cells = [f"{size['largest']:.1e}, {size['mean']:.1e}" for size in row["errors"].values()]
            shown.append([_name(row)[0], _name(row)[2], *cells, "; ".join(row["departures"])])
    return [
        "model",
        "suite",
        "GeLU",
        "softmax's numerators",
        "product with V, divided",
        "LayerNorm",
        "outside of the published domain",
    ], shown


def _rounds() -> Columns:
    rows = [
        [r.suite, r.function, "not stated" if r.published is None else str(r.published), r.here, r.how]
        for r in published.ROUNDS
    ]
    return ["suite", "function", "published", "here", "how"], rows


def _paper_seconds() -> Columns:
    rows = [[model, suite, f"{seconds:g}"] for (model, suite), seconds in published.SECONDS.items()]
    return ["model", "system", "s"], rows


def _paper_bytes() -> Columns:
    rows = [
        [suite, *(f"{value:g}" for value in parts), published.ALL_ROUNDS[suite]]
        for suite, parts in published.GIGABYTES.items()
    ]
    return ["system", *published.GROUPS, "in all", "rounds"], rows


def write(rows: Sequence[Mapping[str, Any]], nets: Sequence[str], out: Path) -> Path:
    """Markdown and the plot beside the JSON lines, which are there already; returns the path of the former.

    :raises LocalConfigError: it cannot be written.
    """
    facts = next((row for row in rows if row["how"] == "run"), None)
    lines = ["# Table 3: every system of the paper in one runtime", ""]
    if facts is not None:
        n = merged(rows)[0].get("n", 0)
        lines += [
            "{machine}, commit {commit}, kernels {kernels}, {threads} thread(s) a process, n = ".format(**facts)
            + f"{n}.",
            "",
        ]
    links = "; ".join(f"{name}: {LINK_TEXTS[name]}" for name in nets if name != "none")
    lines += [
        f"Links: {links or 'none'}. Seconds are medians; those over a link are modelled from the run over none.",
        "",
    ]
    for title, (columns, cells) in tables(rows, nets).items():
        if cells:
            lines += [
                f"## {title}",
                "",
                *markdown.table(columns, [[_safe(cell) for cell in row] for row in cells], 3),
                "",
            ]
    if facts is not None:
        plot(merged(rows), out)
        lines += markdown.figures({PLOT: "Seconds and bytes by operation"})
    return markdown.write(out / MARKDOWN, "\n".join(lines))


def _safe(cell: str) -> str:
    return cell.replace("|", "\\|")


def kept(folder: Path) -> list[dict[str, Any]]:
    """The rows that a folder holds."""
    return jsonlines.load(folder / LINES, lambda row: row if row["table"] == 3 else {})


def plot(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """table3.png and table3.svg: a stacked bar for each suite, a row of panels for each model and length that ran."""
    from matplotlib import rc_context  # plots are no business of parties, which start from the same command
    from matplotlib.figure import Figure

    from mpcnet.launch.reporting.drawing import COLOURS, HATCHES, STYLE, save

    ran = [row for row in rows if row["how"] == "run"]
    kinds = list(dict.fromkeys((row["model"], row["length"]) for row in ran))
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 0.9 + 2.8 * len(kinds)), layout="constrained")
        panels = figure.subplots(len(kinds), 2, squeeze=False)
        for (model, length), (left, right) in zip(kinds, panels, strict=True):
            chosen = [row for row in ran if (row["model"], row["length"]) == (model, length)]
            names = [f"{row['suite']}, {row['softmax']}" for row in chosen]
            parts = [*OPERATIONS, "offline"]
            for axes, what in ((left, "seconds"), (right, "megabytes")):
                base = [0.0] * len(chosen)
                for name, colour, hatch in zip(parts, COLOURS, HATCHES, strict=False):
                    sizes = [_size(row, name, what) for row in chosen]
                    axes.barh(names, sizes, left=base, color=colour, hatch=hatch, edgecolor="white", label=name)
                    base = [a + b for a, b in zip(base, sizes, strict=True)]
                axes.invert_yaxis()
            left.set(title=f"{str(model).removeprefix(BUILTIN)}, {length} tokens", xlabel="seconds")
            right.set(xlabel="MB online each way, and dealt", yticklabels=[])
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
        save(figure, folder, PLOT)


def _size(row: Mapping[str, Any], name: str, what: str) -> float:
    if name == "offline":
        return float(row["offline_s"]) if what == "seconds" else float(row["dealt_bytes"]) / 1e6
    cost = row["operations"][name]
    return float(cost["seconds"]) if what == "seconds" else float(cost["sent_bytes"]) / 1e6
