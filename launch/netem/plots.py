"""The plots of a grid, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from mpcnet.launch.netem.findings import TOLERANCE
from mpcnet.launch.netem.results import Point, Result, rate_name, rtt_name
from mpcnet.launch.reporting.drawing import COLOURS, DASHES, HATCHES, MARKERS, STYLE, save

Value: TypeAlias = Callable[[Result], float]
Panels: TypeAlias = "dict[tuple[str, str], list[Result]]"
LEAST_BARS = 4  # so many have room: one alone is no wall
GROUPS = ("embedding", "layers/linear", "layers/attention", "layers/activation", "layers/norm", "answer")


def write(results: Sequence[Result], folder: Path) -> dict[str, str]:
    """Draw what can be drawn of the results into `folder`; returns the titles by file name, without the endings.

    :raises LocalConfigError: a file cannot be written.
    """
    in_turn = [result for result in results if result.point.streams == 1]  # the others' operations overlap
    figures = {
        "time_rtt": ("Online time against RTT", against_rtt, results),
        "time_bandwidth": ("Online time against bandwidth", against_bandwidth, results),
        "operations": ("Online time by operation, at server0", by_operation, in_turn),
        "prediction": ("Predicted against measured online time", prediction, results),
    }
    titles = {name: title for name, (title, _, shown) in figures.items() if shown}
    with mpl.rc_context(STYLE):
        for name in titles:
            _, draw, shown = figures[name]
            save(draw(shown), folder, name)
    return titles


def against_rtt(results: Sequence[Result]) -> Figure:
    """A line for each bandwidth."""
    labels = ("RTT asked for, ms", "online time, s")
    figure = _lines(results, lambda r: 1e3 * r.point.rtt_s, lambda r: r.point.bandwidth_bps, rate_name, labels)
    return _ticks_at(figure, {1e3 * result.point.rtt_s for result in results})


def against_bandwidth(results: Sequence[Result]) -> Figure:
    """A line for each RTT; the bandwidth on a logarithmic axis."""
    labels = ("bandwidth asked for, Mbit/s", "online time, s")
    figure = _lines(results, lambda r: r.point.bandwidth_bps / 1e6, lambda r: r.point.rtt_s, rtt_name, labels)
    for axes in figure.axes:
        axes.set_xscale("log")
    return _ticks_at(figure, {result.point.bandwidth_bps / 1e6 for result in results})


def _ticks_at(figure: Figure, values: set[float]) -> Figure:
    """Of the lower axis, where something was measured."""
    for axes in figure.axes:
        axes.xaxis.set_major_locator(FixedLocator(sorted(values)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    return figure


def _lines(
    results: Sequence[Result], x: Value, series: Value, name: Callable[[float], str], labels: tuple[str, str]
) -> Figure:
    """Measured medians with their least and most as marks and bars, the prediction as a line."""
    styles = {value: index for index, value in enumerate(sorted({series(result) for result in results}))}

    def draw(axes: Axes, shown: list[Result]) -> None:
        for value, index in styles.items():
            line = sorted((result for result in shown if series(result) == value), key=x)
            if not line:
                continue
            where, colour = [x(result) for result in line], COLOURS[index % len(COLOURS)]
            dash: dict[str, Any] = {"linestyle": DASHES[index % len(DASHES)], "color": colour, "linewidth": 1.2}
            axes.plot(where, [r.predicted_s for r in line], marker="_", markersize=14, **dash)  # one point is no line
            medians = [r.seconds_online.median for r in line]
            bars = [
                [r.seconds_online.median - r.seconds_online.least for r in line],
                [r.seconds_online.most - r.seconds_online.median for r in line],
            ]
            marker = MARKERS[index % len(MARKERS)]
            axes.errorbar(where, medians, bars, fmt=marker, color=colour, markersize=5.5, capsize=3, linewidth=1)

    figure = _panels(results, draw, labels)
    handles = [_handle(index, name(value)) for value, index in styles.items()]
    _legend(figure, handles, "marks: measured (median, least to most); lines and dashes: predicted")
    return figure


def _handle(index: int, label: str) -> Line2D:
    """In the legend: mark and line of a series."""
    marker, dash = MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]
    return Line2D(
        [], [], color=COLOURS[index % len(COLOURS)], marker=marker, linestyle=dash, linewidth=1.2, label=label
    )


def by_operation(results: Sequence[Result]) -> Figure:
    """Compute and waiting of each group of operations, stacked, one bar a link; a mark for the whole online time."""

    def draw(axes: Axes, shown: list[Result]) -> None:
        bars = sorted(shown, key=lambda r: (r.point.bandwidth_bps, r.point.rtt_s))
        bottoms = [0.0] * len(bars)
        for index, group in enumerate(GROUPS):
            heights = [sum(o["compute_s"] + o["wait_s"] for o in r.operations if o["name"] == group) for r in bars]
            axes.bar(range(len(bars)), heights, 0.72, bottoms, **_fill(index))
            bottoms = [a + b for a, b in zip(bottoms, heights, strict=True)]
        totals = [r.seconds_online.median for r in bars]
        axes.plot(range(len(bars)), totals, "_", color="black", markersize=16, markeredgewidth=2)
        axes.set_xlim(-0.6, max(len(bars), LEAST_BARS) - 0.4)
        names = [f"{rtt_name(r.point.rtt_s)}\n{rate_name(r.point.bandwidth_bps)}" for r in bars]
        axes.set_xticks(range(len(bars)), names, rotation=90 if len(bars) > 6 else 0, fontsize=8)
        axes.grid(False, axis="x")

    figure = _panels(results, draw, ("RTT and bandwidth asked for", "time of a request, s"), width=4.6)
    patches = [mpl.patches.Patch(label=group, **_fill(index)) for index, group in enumerate(GROUPS)]
    mark = Line2D([], [], color="black", marker="_", markersize=12, markeredgewidth=2, linestyle="", label="online")
    _legend(figure, [*patches, mark], "bars: compute and waiting, mean request; mark: whole online time, median")
    return figure


def _fill(index: int) -> dict[str, Any]:
    return {"facecolor": COLOURS[index], "hatch": HATCHES[index], "edgecolor": "white", "linewidth": 0.5}


def prediction(results: Sequence[Result]) -> Figure:
    """Left both times, right what is left over by RTT, each with the band of the claim."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    both, left_over = figure.subplots(1, 2)
    kinds = sorted({(r.point.how, r.point.streams > 1) for r in results})
    rtts_s = sorted({r.point.rtt_s for r in results})
    for index, (how, overlapped) in enumerate(kinds):
        shown = [r for r in results if (r.point.how, r.point.streams > 1) == (how, overlapped)]
        style: dict[str, Any] = {
            "marker": MARKERS[index % len(MARKERS)], "s": 34, "facecolors": "none", "linewidths": 1.3,
            "edgecolors": COLOURS[index % len(COLOURS)], "zorder": 3,
            "label": f"{how}, several streams beside complete overlap" if overlapped else how,
        }  # fmt: skip
        both.scatter([r.predicted_s for r in shown], [r.seconds_online.median for r in shown], **style)
        beside = 0.16 * (index - (len(kinds) - 1) / 2)
        left_over.scatter([rtts_s.index(r.point.rtt_s) + beside for r in shown], [r.residual for r in shown], **style)
    seconds = [value for r in results for value in (r.predicted_s, r.seconds_online.median)]
    ends = [min(seconds) / 1.3, max(seconds) * 1.3]
    both.plot(ends, ends, color="black", linewidth=0.8)
    both.fill_between(ends, [(1 - TOLERANCE) * e for e in ends], [(1 + TOLERANCE) * e for e in ends], color="#e4e4e4")
    both.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="predicted online time, s")
    both.set(ylabel="measured online time, s (median)", title="line: equal; grey: within 10 %")
    for axis in (both.xaxis, both.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    left_over.axhspan(-TOLERANCE, TOLERANCE, color="#e4e4e4")
    left_over.axhline(0, color="black", linewidth=0.8)
    left_over.yaxis.set_major_formatter(PercentFormatter(1))
    left_over.set_xticks(range(len(rtts_s)), [f"{1e3 * rtt_s:g}" for rtt_s in rtts_s])
    left_over.set(xlim=(-0.5, len(rtts_s) - 0.5))
    left_over.set(xlabel="RTT asked for, ms", ylabel="measured / predicted - 1", title="residual")
    figure.legend(*both.get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds))
    return figure


def _panels(
    results: Sequence[Result], draw: Callable[[Axes, list[Result]], None], labels: tuple[str, str], width: float = 3.6
) -> Figure:
    """A panel for each work: suites and softmaxes side by side over one time axis, everything else below each other."""
    panels: Panels = {}
    for result in results:
        panels.setdefault((_row(result.point), _column(result.point)), []).append(result)
    rows, columns = (list(dict.fromkeys(key[i] for key in panels)) for i in (0, 1))
    size = (max(5.2, width * len(columns) + 0.6), 3.2 * len(rows) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axes = grid[i, j]
            if shown := panels.get((row, column)):
                axes.set_title(f"{column}\n{row}")
                draw(axes, shown)
            else:
                axes.set_axis_off()
        first = next(axes for axes in grid[i] if axes.axison)
        first.set_ylabel(labels[1])
        first.tick_params(labelleft=True)
        first.set_ylim(0, 1.04 * first.get_ylim()[1])  # of the whole row, and only now: it ends the fitting
    for j in range(len(columns)):
        next(axes for axes in grid[::-1, j] if axes.axison).set_xlabel(labels[0])
    return figure


def _row(point: Point) -> str:
    return f"{point.size_name}; {point.model}, {point.how}"


def _column(point: Point) -> str:
    return f"{point.suite}, {point.softmax}"


def _legend(figure: Figure, handles: Sequence[Any], title: str) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=4, title=title, title_fontsize=9, fontsize=9)
