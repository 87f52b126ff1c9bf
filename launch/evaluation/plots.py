"""The plots of evaluations and of ranges, as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mpcnet.launch.evaluation.ranges import Ranges
from mpcnet.launch.evaluation.results import WAYS, Evaluation, margins
from mpcnet.launch.reporting.drawing import COLOURS, DASHES, HATCHES, MARKERS, STYLE, save

T = TypeVar("T")
COLUMNS = 3  # panels beside each other
LEAST_ERROR = 1e-7  # smaller ones are drawn there: the axis is logarithmic
LEAST_BARS = 4  # so many have room: one alone is no wall


def draw(
    rows: Sequence[T], folder: Path, figures: Mapping[str, tuple[str, Callable[[Sequence[T]], Figure]]]
) -> dict[str, str]:
    """Draw each figure of the rows into `folder`; returns the titles by file name, without the endings.

    :raises LocalConfigError: a file cannot be written.
    """
    with mpl.rc_context(STYLE):
        for name, (_, make) in figures.items():
            save(make(rows), folder, name)
    return {name: title for name, (title, _) in figures.items()}


def evaluations(rows: Sequence[Evaluation], folder: Path) -> dict[str, str]:
    """See :func:`draw`."""
    titles = draw(rows, folder, {"accuracy": ("Accuracy three ways", accuracy)})
    told = [row for row in rows if row.answer == "logits"]
    return titles | (draw(told, folder, {"errors": ("Errors beside margins", errors)}) if told else {})


def ranges(rows: Sequence[Ranges], folder: Path) -> dict[str, str]:
    """See :func:`draw`."""
    return draw(rows, folder, {"stretches": ("Texts that need wider ranges", stretches)})


def stretches(rows: Sequence[Ranges]) -> Figure:
    """A panel for each set of texts, a line for each kind of site: the share of texts that are stretched further."""
    figure, panels = _panels(len(rows))
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.kinds))
    for axes, row in zip(panels, rows, strict=False):
        for index, kind in enumerate(kinds):
            values = row.kinds.get(kind, [])
            left = [1 - place / len(values) for place in range(len(values))]
            style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS)]}
            axes.step(values, left, where="pre", label=kind, linewidth=1.2, **style)
        for margin in sorted({site.margin for site in row.sites}):
            axes.axvline(margin, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(yscale="log", title=f"{row.model} ({row.softmax}), {row.data}, n = {row.n}")
        axes.set(xlabel="stretch of the calibrated range", ylabel="texts that need more")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    title = "line: the calibrated range; dotted: the planner's margins"
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, title=title, title_fontsize=8, fontsize=8)
    return figure


def accuracy(rows: Sequence[Evaluation]) -> Figure:
    """The headline metric of the private examples: a group of bars for each evaluation, a bar for each way."""
    figure = Figure(figsize=(max(5.2, 1.1 * len(rows) + 1.6), 4.4), layout="constrained")
    axes, width = figure.subplots(), 0.27
    for index, way in enumerate(WAYS):
        places = [place + (index - 1) * width for place in range(len(rows))]
        heights = [100 * row.private_scores[way][row.headline] for row in rows]
        fill: dict[str, Any] = {"facecolor": COLOURS[index], "hatch": HATCHES[index], "edgecolor": "white"}
        bars = axes.bar(places, heights, width, label=way, linewidth=0.5, **fill)
        axes.bar_label(bars, fmt="%.1f", fontsize=6, rotation=90, padding=2)
    names = [f"{row.task}\n{row.model}\n{row.how}\nn = {row.private_n}" for row in rows]
    axes.set_xticks(range(len(rows)), names, fontsize=7, rotation=90 if len(rows) > 5 else 0)
    axes.set_xlim(-0.6, max(len(rows), LEAST_BARS) - 0.4)
    axes.set(ylabel=f"{', '.join(dict.fromkeys(row.headline for row in rows))}, x 100")
    axes.grid(False, axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(WAYS))
    return figure


def errors(rows: Sequence[Evaluation]) -> Figure:
    """A panel for each evaluation, a mark for each private example: its error, and how decided the float model was.

    A label can only change above the line, where twice the error is more than the margin. A regression has no margin;
    its errors stand above the float model's output.
    """
    figure, panels = _panels(len(rows))
    for axes, row in zip(panels, rows, strict=False):
        floats, private = row.outputs["float"], row.outputs["private"]
        found = [
            max(LEAST_ERROR, *(abs(a - b) for a, b in zip(*pair, strict=True)))
            for pair in zip(private, floats, strict=True)
        ]
        axes.set(yscale="log", title=f"{row.task}, {row.model}\n{row.how}, n = {row.private_n}")
        if len(floats[0]) == 1:
            axes.scatter([output[0] for output in floats], found, **_mark(0))
            axes.set(xlabel="the float model's output", ylabel="error of the output")
        else:
            _beside_margins(axes, margins(floats), found, row.same_labels())
    return figure


def _beside_margins(axes: Axes, ahead: Sequence[float], found: Sequence[float], kept: Sequence[bool]) -> None:
    ahead = [max(margin, LEAST_ERROR) for margin in ahead]
    for index, (same, name) in enumerate(((True, "same label"), (False, "other label"))):
        chosen = [place for place, each in enumerate(kept) if each is same]
        if chosen:
            axes.scatter([ahead[i] for i in chosen], [found[i] for i in chosen], label=name, **_mark(index))
    ends = [min(ahead), max(ahead)]
    axes.plot(ends, [end / 2 for end in ends], color="black", linewidth=0.8, label="error = margin / 2")
    axes.set(
        xscale="log",
        xlabel="float margin: largest less second output",
        ylabel="largest error of an output",
    )
    axes.legend(fontsize=7)


def _mark(index: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[index], "s": 16, "facecolors": "none", "linewidths": 0.9, "edgecolors": COLOURS[index],
        "zorder": 3 + index,
    }  # fmt: skip


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """At least `count` axes; those left over are off."""
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(5.2, 3.8 * columns), 3.6 * rows), layout="constrained")
    panels = [axes for line in figure.subplots(rows, columns, squeeze=False) for axes in line]
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels
