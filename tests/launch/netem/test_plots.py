"""The plots of a grid: everything that was measured is inside the axes, and each point is where it belongs."""

import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from netem_points import made

from mpcnet.launch.netem import plots
from mpcnet.launch.netem.results import Result

RTTS_S, RATES_BPS = (0.001, 0.02, 0.08), (5e7, 1e9)
GRID = [
    made(0.1, spread=0.2, suite=suite, softmax=softmax, length=length, rtt_s=rtt_s * slower, bandwidth_bps=rate_bps)
    for suite, slower in (("fast", 1), ("secformer", 10))  # the panels of a row are very different
    for softmax in ("exact", "2quad")
    for length in (32, 128)
    for rtt_s in RTTS_S
    for rate_bps in RATES_BPS
]


def panels(figure: Figure) -> dict[str, tuple[float, float]]:
    """Each panel's title and time axis, once drawn."""
    figure.draw_without_rendering()
    return {axes.get_title(): axes.get_ylim() for axes in figure.axes if axes.get_title()}


def title(result: Result) -> str:
    point = result.point
    return f"{point.suite}, {point.softmax}\n{point.size_name}; {point.model}, {point.how}"


@pytest.mark.parametrize("draw", [plots.against_rtt, plots.against_bandwidth, plots.by_operation])
def test_nothing_is_cut_off(draw: object) -> None:
    """The panels of a row share their axis: that of the slowest."""
    shown = panels(draw(GRID))  # type: ignore[operator]
    assert len(shown) == 8
    for result in GRID:
        bottom, top = shown[title(result)]
        assert bottom == 0 and top > result.seconds_online.median, title(result)
    for length in (32, 128):
        assert len({limits for name, limits in shown.items() if f"1 x {length} tokens" in name}) == 1


@pytest.mark.parametrize("draw", [plots.against_rtt, plots.against_bandwidth, plots.by_operation])
def test_a_grid_with_holes_has_labels_everywhere(draw: object) -> None:
    """The leftmost panel of each row has the time axis, the lowest of each column the other one."""
    shown = [made(suite="secformer"), made(length=32), made(suite="secformer", length=64)]
    figure: Figure = draw(shown)  # type: ignore[operator]
    figure.draw_without_rendering()
    labels = {axes.get_title(): (axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes if axes.axison}
    fast, second, third = (labels[title(result)] for result in (shown[1], shown[0], shown[2]))
    assert all(fast) and all(third) and second[1]
    for axes in figure.axes:
        if axes.axison and axes.get_ylabel():
            assert [tick.get_text() for tick in axes.get_yticklabels() if tick.get_visible()]


def test_kinds_of_networks_stand_beside_each_other() -> None:
    """A residual above its round-trip time, as wide apart as others whatever their values are."""
    results = [
        made(index / 100, how=how, rtt_s=rtt_s) for how in ("inproc", "tun") for index, rtt_s in enumerate(RTTS_S)
    ]
    _, left_over = plots.prediction(results).axes
    assert [label.get_text() for label in left_over.get_xticklabels()] == ["1", "20", "80"]
    dots = [child for child in left_over.collections if isinstance(child, PathCollection)]
    for offset, kind in zip((-0.08, 0.08), dots, strict=True):
        places = kind.get_offsets().tolist()
        assert places == [pytest.approx([index + offset, index / 100]) for index in range(3)]
