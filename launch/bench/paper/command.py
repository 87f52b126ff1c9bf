"""`mpcnet bench paper`: a table of the SecFormer paper, measured with this project's protocols and models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.bench.paper import glue_runs, table2, table3, table3_report
from mpcnet.launch.options import Json
from mpcnet.launch.reporting import jsonlines
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.launch.reporting.text_files import check_folder, write_text

SUITES = "crypten,puma,mpcformer,shaft,secformer-v1,secformer,secformer/exact,fast,fast/2quad"


def paper_command(
    table: Annotated[Literal["2", "3"], typer.Option(help="2: GLUE scores. 3: cost by suite and operation.")],
    results: Annotated[
        Path | None, typer.Option(help="Table 2: a folder with those of mpcnet distill and evaluate, at any depth.")
    ] = None,
    models: Annotated[str, typer.Option(help="Table 3: models, separated by commas.")] = "demo",
    suites: Annotated[str, typer.Option(help="Table 3: suites, separated by commas; secformer/exact, say.")] = SUITES,
    lengths: Annotated[str, typer.Option(help="Table 3: tokens, separated by commas.")] = "128",
    net: Annotated[str, typer.Option(help="Table 3: links to show: none, lan (the paper's), wan.")] = "none,lan,wan",
    runs: Annotated[int, typer.Option(min=1, help="Table 3: requests of a deployment, after one that warms up.")] = 2,
    turns: Annotated[int, typer.Option(min=1, help="Table 3: deployments of each suite, by turns.")] = 1,
    most_dealt: Annotated[float, typer.Option(help="Table 3: GB; points that deal more are planned only.")] = 8.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table in Markdown and as JSON lines; Table 3 plots all in it.")
    ] = None,
    json_file: Json = "",
) -> None:
    """A table of the SecFormer paper with what is true here, beside the paper's own figures.

    Table 2 is made of what is in --results: runs of mpcnet distill, and of mpcnet evaluate with --out in a run's
    folder. Each cell is the mean over its runs' seeds. Table 3 runs every suite as mpcnet simulate does.
    """
    check_folder(json_file)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if table == "2":
        lines, tables = _table2(results, out)
    else:
        points = table3.points(_words(models), [_tokens(word) for word in _words(lengths)], _words(suites))
        lines, tables = _table3(table3.Plan(points, runs, turns, most_dealt * 1e9), _links(net), out)
    if json_file == "-":
        print(lines)
        return
    if json_file:
        write_text(json_file, lines)
    for title, (columns, rows) in tables.items():
        shown = Table(title=title, title_justify="left")
        for column in columns:
            shown.add_column(column, justify="left" if column == columns[0] else "right")
        for row in rows:
            shown.add_row(*row)
        screen().print(shown)


def _table2(results: Path | None, out: Path | None) -> tuple[str, Mapping[str, table2.Table]]:
    if results is None:
        raise LocalConfigError("table 2: want --results with a folder of mpcnet distill's results, got none")
    runs = glue_runs.find(results)
    if out is not None:
        console.print(f"report: {table2.write(runs, out)}", soft_wrap=True)
    return "\n".join(json.dumps(row) for row in table2.lines(runs)), table2.tables(runs)


def _table3(plan: table3.Plan, nets: Sequence[str], out: Path | None) -> tuple[str, Mapping[str, table2.Table]]:
    def keep(row: dict[str, Any]) -> None:
        if out is not None:
            jsonlines.append(out / table3_report.LINES, row)

    rows = list(plan.rows(console, keep))
    if out is not None:
        console.print(f"report: {table3_report.write(table3_report.kept(out), nets, out)}", soft_wrap=True)
    return "\n".join(json.dumps(row) for row in rows), table3_report.tables(rows, nets)


def _words(text: str) -> list[str]:
    return text.split(",")


def _tokens(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise LocalInputError(f"lengths: want whole numbers of tokens, separated by commas, got {word!r}")
    return int(word)


def _links(text: str) -> list[str]:
    names = _words(text)
    if unknown := [name for name in names if name not in table3.LINKS]:
        raise LocalInputError(f"net: want some of {', '.join(table3.LINKS)}, separated by commas, got {unknown[0]!r}")
    return names
