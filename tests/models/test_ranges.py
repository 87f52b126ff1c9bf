"""Goldschmidt over the calibrated range of every LayerNorm and softmax of the demo model; what the planner refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from lockstep import Session
from torch import Tensor

from models import numbers
from models.calibrate import Calibration, Range, calibrate, default_texts, text_batches
from models.demo import demo_checkpoint
from models.numbers import Numbers
from models.shape import BertShape
from models.weights import fold
from mpcnet.errors import LocalConfigError
from protocols.division import RowRange, reciprocal, rsqrt
from protocols.party import Party
from protocols.share import Shared

POINTS = 400


@cache
def demo_calibration() -> tuple[BertShape, Calibration]:
    checkpoint = demo_checkpoint()
    batches = text_batches(checkpoint.source, default_texts(), 128)
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


@pytest.mark.parametrize(("softmax", "keys", "frac"), [("exact", 128, 16), ("exact", 512, 16), ("2quad", 128, 12)])
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
