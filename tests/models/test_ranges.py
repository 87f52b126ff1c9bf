"""Goldschmidt over the calibrated range of every LayerNorm and softmax of the demo model; what the planner refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from lockstep import Session
from torch import Tensor

from models import numbers
from models.calibrate import Calibration, Range, calibrate
from models.calibration_batches import own_batches, texts_by_kind
from models.demo import demo_checkpoint
from models.numbers import Numbers
from models.prepare import random_tokens
from models.shape import BertShape
from models.weights import fold, random_checkpoint
from mpcnet.errors import LocalConfigError
from mpcnet.ring import ceil_log2
from protocols.division import RECIPROCAL_LIMIT, RSQRT_LIMIT, RowRange, reciprocal, rsqrt
from protocols.party import Party
from protocols.rowmax import Window
from protocols.share import Shared
from protocols.softmax import RELU_EPS

POINTS = 400


@cache
def demo_calibration() -> tuple[BertShape, Calibration]:
    checkpoint = demo_checkpoint()
    batches = own_batches(checkpoint, texts_by_kind()["english"], 128)
    return checkpoint.shape, calibrate(checkpoint.shape, fold(checkpoint), batches, checkpoint.sha256)


def demo_numbers(softmax: str) -> Numbers:
    shape, calibration = demo_calibration()
    return numbers.plan(shape, calibration, softmax)


def over(rows: RowRange) -> Tensor:
    low, high = (torch.tensor(x, dtype=torch.float64).log10().item() for x in (rows.low, rows.high))
    return torch.logspace(low, high, POINTS, dtype=torch.float64)


@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_every_layer_norm(softmax: str) -> None:
    known = demo_numbers(softmax)
    sites = [site for site in known.rows if site.endswith("square_sum")]
    assert len(sites) == 13
    for site in sites:
        rows = RowRange(*known.rows[site])
        x, session = over(rows), Session(1)
        run = session.run(lambda p, t, rows=rows: rsqrt(p, t, rows), session.share(x, 64, 28))
        assert (run.value() * x.sqrt() - 1).abs().max() <= 1e-3, site
        steps = rows.rsqrt_steps(rows.deflation(2.0))
        assert run.ledger.total().rounds <= 2 * steps + 2


@pytest.mark.parametrize(
    ("softmax", "keys", "frac"), [("exact", 128, 16), ("exact", 512, 16), ("2quad", 128, 12), ("2relu", 128, 12)]
)
def test_every_softmax(softmax: str, keys: int, frac: int) -> None:
    known = demo_numbers(softmax)

    async def inverse(p: Party, x: Shared, rows: RowRange) -> Shared:
        z, e = await reciprocal(p, x, rows)
        return z.halve(e)

    for rows in {known.softmax_rows(f"layer{i}", keys) for i in range(6)}:
        x, session = over(rows), Session(1)
        run = session.run(lambda p, t, rows=rows: inverse(p, t, rows), session.share(x, 40, frac))
        exact = torch.round(x * 2**frac) / 2**frac  # what the protocol was given
        assert (run.value() * exact - 1).abs().max() <= 1e-3
        assert run.ledger.total().rounds <= rows.reciprocal_steps(rows.deflation(1.5)) + 2


def test_the_row_sums_of_2relu_begin_at_eps() -> None:
    """Whatever the sample was: a row without a positive score may come."""
    known = demo_numbers("2relu")
    _, calibration = demo_calibration()
    for i in range(6):
        rows, seen = known.softmax_rows(f"layer{i}", 128), calibration.at("2relu", f"layer{i}.row_sum")
        assert rows.low == RELU_EPS <= seen.min and rows.high == seen.max * 1.5
    assert known.longest == 512
    with pytest.raises(LocalConfigError, match=r"layer3\.row_sum \(largest / smallest\): want < "):
        with_range("2relu", "layer3.row_sum", Range(0.25, 17_000.0, 1))


def test_two_logits_too_far_apart_to_be_compared_are_refused() -> None:
    shape = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=50, positions=32, head="classification", labels=2, pooling="first")  # fmt: skip
    checkpoint = random_checkpoint(shape, 1)
    calibration = calibrate(shape, fold(checkpoint), [random_tokens(checkpoint, 2, 8)], checkpoint.sha256)
    numbers.plan(shape, calibration, "exact")
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"]["logits"] = Range(-171.0, 171.0, 4)
    with pytest.raises(LocalConfigError, match=r"overflow: logits \(span\): want < 512, got 513"):
        numbers.plan(shape, replace(calibration, ranges=ranges), "exact")


def test_windows_of_the_demo_model() -> None:
    """Its first layer's scores go beyond 45 on both sides; the others' lie within 20 of some centre."""
    assert [window.bits for window in demo_numbers("exact").windows] == [7, 6, 6, 6, 6, 6]
    assert demo_numbers("2quad").windows == ()
    shape, calibration = demo_calibration()
    widest = numbers.plan(shape, calibration, "exact", widest=True)
    assert [window.bits for window in widest.windows] == [7] * 6


@pytest.mark.parametrize(
    ("low", "high", "window"),
    [
        (-20.6, 20.6, Window(6, 0.0)),
        (-20.7, 20.6, Window(7, 0.0)),
        (-38.0, 2.0, Window(6, -18.0)),
        (-2.0, 38.4, Window(6, 18.0)),
        (-38.0, 5.0, Window(7, -16.0)),
        (-50.3, 42.4, Window(7, -4.0)),
    ],
)
def test_scores_get_the_narrowest_window_that_they_fit(low: float, high: float, window: Window) -> None:
    planned = with_range("exact", "layer3.scores", Range(low, high, 1))
    assert planned.window("layer3") == window
    assert planned == Numbers.from_dict(json.loads(json.dumps(planned.to_dict())))


@pytest.mark.parametrize(
    ("site", "seen", "words"),
    [("scores", Range(-50.5, 50.5, 1), "scores: want < 63"), ("row_span", Range(1.0, 92.9, 1), "row_span: want < 116")],
)
def test_scores_that_fit_no_window_are_refused(site: str, seen: Range, words: str) -> None:
    with pytest.raises(LocalConfigError, match=rf"overflow: layer3\.{words}"):
        with_range("exact", f"layer3.{site}", seen)


def test_the_planner_names_every_site_that_could_overflow() -> None:
    shape, calibration = demo_calibration()
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"]["layer2.scores"] = Range(-60.0, 60.0, 1)
    ranges["exact"]["layer4.up"] = Range(-3.0, 5000.0, 1)
    with pytest.raises(LocalConfigError, match=r"layer2\.scores.*layer4\.up"):
        numbers.plan(shape, replace(calibration, ranges=ranges), "exact")


def test_the_planner_refuses_values_that_leave_a_long_row_too_few_bits() -> None:
    shape, calibration = demo_calibration()
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"]["layer0.value"] = Range(-90.0, 90.0, 1)
    with pytest.raises(LocalConfigError, match="over the longest row"):
        numbers.plan(shape, replace(calibration, ranges=ranges), "exact")


@pytest.mark.parametrize(
    ("site", "seen"),
    [
        ("layer1.up", Range(-3.0, 682.0, 1)),  # with its margin, and 1 more, which is opened, it is 1024
        ("layer2.activation", Range(0.375, 3e7, 1)),
    ],
)
def test_the_planner_refuses_what_a_square_could_overflow(site: str, seen: Range) -> None:
    shape, calibration = demo_calibration()
    shape = replace(shape, activation="quad")
    numbers.plan(shape, calibration, "exact")
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"][site] = seen
    with pytest.raises(LocalConfigError, match=rf"overflow: {site}: want < "):
        numbers.plan(shape, replace(calibration, ranges=ranges), "exact")


def with_range(softmax: str, site: str, seen: Range) -> Numbers:
    shape, calibration = demo_calibration()
    ranges = {name: dict(sites) for name, sites in calibration.ranges.items()}
    ranges[softmax][site] = seen
    return numbers.plan(shape, replace(calibration, ranges=ranges), softmax, 128)


@pytest.mark.parametrize(
    ("softmax", "site", "seen"),
    [
        ("exact", "layer3.down.square_sum", Range(215.0, 1.86e6, 1)),  # an MPNet's widest
        ("2quad", "layer3.row_sum", Range(1.7, 8e4, 1)),
        ("2quad", "layer3.row_sum", Range(1e3, 4e6, 1)),
    ],
)
def test_wide_ranges_are_planned_as_far_as_the_protocols_reach(softmax: str, site: str, seen: Range) -> None:
    known = with_range(softmax, site, seen)
    rows = RowRange(*known.rows[site])
    if site.endswith("square_sum"):
        assert rows.rsqrt_steps(rows.deflation(RSQRT_LIMIT)) <= 16
        return
    assert rows.reciprocal_steps(rows.deflation(RECIPROCAL_LIMIT)) <= 20
    bits = known.weigh_bits("layer3", 128)
    assert bits.inverse_frac() - ceil_log2(rows.high) >= 9  # fraction bits of the deflated reciprocal: an audit's 1/16
    assert 2.0**-bits.context_frac / rows.low < 2e-3
    assert 2.0 ** -bits.inverse_frac() * rows.high < 2e-3


@pytest.mark.parametrize(
    ("softmax", "site", "seen", "what"),
    [
        ("exact", "layer3.down.square_sum", Range(30.0, 1.86e6, 1), "largest / smallest"),
        ("2quad", "layer3.row_sum", Range(0.5, 8e4, 1), "largest / smallest"),
        ("2quad", "layer3.row_sum", Range(1e-4, 8.0, 1), "rounding of the context"),
    ],
)
def test_wider_ranges_are_refused(softmax: str, site: str, seen: Range, what: str) -> None:
    with pytest.raises(LocalConfigError, match=rf"{site} \({what}\): want < "):
        with_range(softmax, site, seen)
