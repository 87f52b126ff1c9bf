"""`python -m tests.fuzz decoder --frames 10000000`: many cases from a seed; `--replay HEX`: one again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from tests.fuzz.target import Tried, fuzz, one
from tests.fuzz.targets import TARGETS, target

console = Console(highlight=False, soft_wrap=True)


def main(
    name: Annotated[str, typer.Argument(metavar="TARGET", help=", ".join(TARGETS))],
    frames: Annotated[int, typer.Option(help="How many; against live parties a case has several.", min=1)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of all cases.")] = 0,
    case: Annotated[int, typer.Option(help="One case of the seed instead, by its number.")] = -1,
    replay: Annotated[str, typer.Option(metavar="HEX", help="One case instead.")] = "",
) -> None:
    """Try cases; ends with 1 at the first that ends otherwise than it may."""
    torch.set_num_threads(1)
    with target(name) as chosen:
        if replay or case >= 0:
            console.print(chosen.check(bytes.fromhex(replay) if replay else one(chosen, seed, case)))
            return
        tried, began_s = Tried(), os.times()
        columns = (TextColumn(name), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=Console(stderr=True)) as progress:
                bar = progress.add_task(name, total=frames)
                for _ in fuzz(chosen, seed, -(-frames // getattr(chosen, "frames_per_case", 1)), tried):
                    progress.update(bar, completed=tried.frames)
        except AssertionError as fault:
            console.print(str(fault), markup=False)
            raise typer.Exit(1) from None
        seconds = os.times().elapsed - began_s.elapsed
        console.print(f"{name}: {tried.count} cases of {tried.frames} frames, seed {seed} in {seconds:.1f} s")
        for end, count in tried.ends.most_common():
            console.print(f"{count:10d}  {end}", markup=False)


if __name__ == "__main__":
    typer.run(main)
