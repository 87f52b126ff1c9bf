"""`mpcnet bench paper`: a table of the SecFormer paper, measured with this project's protocols and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from mpcnet.errors import LocalConfigError
from mpcnet.launch.bench.paper import glue_runs, table2
from mpcnet.launch.options import Json, check_folder, console, screen, write_text


def paper_command(
    table: Annotated[Literal["2"], typer.Option(help="2: GLUE scores.")],
    results: Annotated[
        Path | None, typer.Option(help="Table 2: a folder with those of mpcnet distill and evaluate, at any depth.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the table in Markdown and as JSON lines.")] = None,
    json_file: Json = "",
) -> None:
    """A table of the SecFormer paper with what is true here, beside the paper's own figures.

    Table 2 is made of what is in --results: runs of mpcnet distill, and of mpcnet evaluate with --out in a run's
    folder. Each cell is the mean over its runs' seeds.
    """
    check_folder(json_file)
    if results is None:
        raise LocalConfigError("table 2: want --results with a folder of mpcnet distill's results, got none")
    runs = glue_runs.find(results)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        console.print(f"report: {table2.write(runs, out)}", soft_wrap=True)
    found = "\n".join(json.dumps(row) for row in table2.lines(runs))
    if json_file == "-":
        print(found)
        return
    if json_file:
        write_text(json_file, found)
    for title, (columns, rows) in table2.tables(runs).items():
        shown = Table(title=title, title_justify="left")
        for column in columns:
            shown.add_column(column, justify="left" if column == columns[0] else "right")
        for row in rows:
            shown.add_row(*row)
        screen().print(shown)
