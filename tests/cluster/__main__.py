"""`python -m tests.cluster --seed 7`: a seed again, with its trace; `--seeds 100000`: many, and those that fail."""

from __future__ import annotations

import os
import sys
from time import monotonic as time_s  # the virtual world replaces that of the module
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from tests.cluster.run import Outcome, many, run

console = Console(highlight=False, soft_wrap=True)


def main(
    seed: Annotated[int, typer.Option(help="The seed, or the first of several.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many.", min=1)] = 1,
    trace: Annotated[bool, typer.Option(help="Print all that happens.")] = False,
) -> None:
    """Run virtual clusters; ends with 1 if something did not hold."""
    torch.set_num_threads(1)
    failed, answers, errors, virtual_s = 0, 0, 0, 0.0
    with many():
        began_s, began_cpu_s = time_s(), os.times().user
        numbers = range(seed, seed + seeds)
        for number in track(numbers, console=Console(stderr=True)) if seeds > 1 else numbers:
            found = run(number)
            failed += bool(found.broken)
            answers, errors, virtual_s = answers + found.answers, errors + found.errors, virtual_s + found.virtual_s
            if trace or found.broken:
                show(found, trace)
    seconds, cpu_s = time_s() - began_s, os.times().user - began_cpu_s
    console.print(
        f"{seeds} seeds, {failed} failed; {answers} answers, {errors} errors told; {virtual_s:.0f} s of virtual time in "
        f"{seconds:.1f} s, {1000 * cpu_s / seeds:.0f} ms of CPU a seed"
        + (f"; trace {found.digest}" if seeds == 1 else "")
    )
    raise typer.Exit(int(failed > 0))


def show(found: Outcome, trace: bool) -> None:
    if trace:
        for at_s, *event in found.trace:
            print(f"{at_s:12.6f}  ", *event, file=sys.stdout)
    for line in found.broken:
        console.print(f"seed {found.seed}: {line}", markup=False)
    if found.broken:
        console.print(f"again: python -m tests.cluster --seed {found.seed} --trace", markup=False)


if __name__ == "__main__":
    typer.run(main)
