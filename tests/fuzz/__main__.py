"""`python -m tests.fuzz decoder --frames 10000000`: many cases from a seed; `--replay HEX`: one again."""

from __future__ import annotations

import os
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.fuzz.target import Fault, Tried, fuzz
from tests.fuzz.targets import TARGETS, target

console = Console(highlight=False, soft_wrap=True)


def main(
    name: Annotated[str, typer.Argument(metavar="TARGET", help=", ".join(TARGETS))],
    frames: Annotated[int, typer.Option(help="How many cases.", min=1)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of all cases.")] = 0,
    replay: Annotated[str, typer.Option(metavar="HEX", help="One case instead.")] = "",
) -> None:
    """Try cases; ends with 1 at the first that ends otherwise than it may."""
    torch.set_num_threads(1)
    with target(name) as chosen:
        if replay:
            console.print(chosen.check(bytes.fromhex(replay)))
            return
        tried, began_s = Tried(), os.times()
        columns = (TextColumn(name), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=Console(stderr=True)) as progress:
                bar = progress.add_task(name, total=frames)
                for _ in fuzz(chosen, seed, frames, tried):
                    progress.update(bar, completed=tried.count)
        except Fault as fault:
            console.print(str(fault), markup=False)
            raise typer.Exit(1) from None
        seconds = os.times().elapsed - began_s.elapsed
        console.print(f"{name}: {tried.count} cases of seed {seed} in {seconds:.1f} s")
        for end, count in tried.ends.most_common():
            console.print(f"{count:10d}  {end}", markup=False)


if __name__ == "__main__":
    typer.run(main)
