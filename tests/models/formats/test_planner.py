"""What the planner proves, what it chooses where it cannot, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from lockstep import Session
from torch import Tensor

from mpcnet.arrays.ring import ceil_log2
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.demo import demo_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.formats.bounds import Bounds, bounds
from mpcnet.models.formats.calibrate import Calibration, Range, calibrate
from mpcnet.models.formats.calibration_batches import own_batches, texts_by_kind
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.formats.guarantees import guarantees, row_guarantees, unproved
from mpcnet.models.formats.planner import plan
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.protocols import cells
from mpcnet.protocols.division import RECIPROCAL_LIMIT, RSQRT_LIMIT, RowRange, reciprocal, rsqrt
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import RELU_EPS, Inverse
from mpcnet.protocols.suites import SUITES

POINTS = 400
SUITE_NAMES = pytest.mark.parametrize("suite", ["fast", "secformer"])


@cache
def demo() -> tuple[BertShape, Bounds, Calibration]:
    checkpoint = demo_checkpoint()
    folded = fold(checkpoint)
    batches = own_batches(checkpoint, texts_by_kind()["english"], 128)
    calibration = calibrate(checkpoint.shape, folded, batches, checkpoint.sha256)
    return checkpoint.shape, bounds(checkpoint.shape, folded), calibration


def planned(
    softmax: Softmax = "exact", suite: str = "fast", known: Bounds | None = None, length: int = 0, **seen: Range
) -> Formats:
    """The demo model's formats, where other ranges were seen at some sites (`__` is a dot)."""
    shape, own, calibration = demo()
    ranges = {name: dict(sites) for name, sites in calibration.ranges.items()}
    ranges[softmax] |= {site.replace("__", "."): value for site, value in seen.items()}
    return plan(shape, known or own, replace(calibration, ranges=ranges), softmax, SUITES[suite], length)


def over(rows: RowRange) -> Tensor:
    low, high = (torch.tensor(x, dtype=torch.float64).log10().item() for x in (rows.low, rows.high))
    return torch.logspace(low, high, POINTS, dtype=torch.float64)


@pytest.mark.slow
@SUITE_NAMES
@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_every_layer_norm(softmax: Softmax, suite: str) -> None:
    known = planned(softmax, suite)
    sites = [site for site in known.rows if site.endswith("square_sum")]
    assert len(sites) == 13
    for site in sites:
        rows = known.rows[site]
        x, session = over(rows), Session(1)
        run = session.run(lambda p, t, rows=rows: SUITES[suite].rsqrt(p, t, rows, 1.0), session.share(x, 64, 28))
        assert (run.value() * x.sqrt() - 1).abs().max() <= 1e-3, site


@SUITE_NAMES
@pytest.mark.parametrize(
    ("softmax", "keys", "frac"), [("exact", 128, 16), ("exact", 512, 16), ("2quad", 128, 12), ("2relu", 128, 12)]
)
def test_every_softmax(softmax: Softmax, keys: int, frac: int, suite: str) -> None:
    known, root = planned(softmax, suite, length=keys), SUITES[suite].reciprocal

    async def inverse(p: Party, x: Shared, rows: RowRange, by: Inverse) -> Shared:
        z, e = await by(p, x, rows)
        return z.halve(e)

    for rows in {known.softmax_rows(i, keys) for i in range(6)}:
        x, session = over(rows), Session(1)
        run = session.run(lambda p, t, rows=rows: inverse(p, t, rows, root), session.share(x, 48, frac))
        exact = torch.round(x * 2**frac) / 2**frac  # what the protocol was given
        assert (run.value() * exact - 1).abs().max() <= 1e-3


def test_the_demo_model_is_proved_but_for_windows_and_the_least_sums() -> None:
    shape, known, calibration = demo()
    formats = planned()
    rows = list(guarantees(shape, formats, known, calibration))
    assert all(row.sure for row in rows if "head" not in row.name)
    assert {row.name.partition(".head")[0] for row in rows if not row.sure} <= {f"layer{i}" for i in range(6)}
    sums = list(row_guarantees(formats, known, calibration))
    assert all(row.sure for row in sums if row.name.endswith("(most)"))
    assert formats.norm_limits == (0.0,) * 6
    assert formats == Formats.from_dict(json.loads(json.dumps(formats.to_dict())))


def test_what_is_proved_is_served_whatever_was_calibrated() -> None:
    """Narrow ranges, as of few texts, change windows and the least sums only."""
    shape, known, calibration = demo()
    narrow = {
        site: Range(seen.min, seen.min + 0.01 * (seen.max - seen.min), 1)
        for site, seen in calibration.ranges["exact"].items()
    }
    few = plan(
        shape, known, replace(calibration, ranges={**calibration.ranges, "exact": narrow}), "exact", SUITES["fast"]
    )
    full = planned()
    assert replace(few, windows=(), rows={}, audited=frozenset()) == replace(
        full, windows=(), rows={}, audited=frozenset()
    )
    assert all(few.rows[site].high == rows.high for site, rows in full.rows.items())


def test_one_head_of_the_demo_model_needs_a_wide_window() -> None:
    windows = planned().windows
    wide = [(i, window) for i, layer in enumerate(windows) for window in layer if window.bits > 6]
    assert [(i, window.heads) for i, window in wide] == [(0, (2,))]
    assert wide[0][1].clamped
    assert all(sorted(head for window in layer for head in window.heads) == list(range(12)) for layer in windows)
    assert planned("2quad").windows == ()


def test_random_weights_are_planned_as_wide_as_a_trained_models() -> None:
    shape = BertShape(layers=2, hidden=32, heads=4, ffn=64, vocab=50, positions=32)
    checkpoint = random_checkpoint(shape, 1)
    folded = fold(checkpoint)
    calibration = calibrate(shape, folded, [random_tokens(checkpoint, 2, 8)], checkpoint.sha256)
    formats = plan(shape, bounds(shape, folded), calibration, "exact", SUITES["fast"], random=True)
    assert {(window.bits, window.period_bits >= 10) for layer in formats.windows for window in layer} == {(7, True)}


@pytest.mark.parametrize(
    ("low", "high", "bits", "centre"),
    [
        (-20.6, 20.6, 6, 0.0),
        (-20.7, 20.6, 7, 0.0),
        (-38.0, 2.0, 6, -18.0),
        (-2.0, 38.4, 6, 18.0),
        (-52.3, 44.4, 7, -4.0),
        (-60.0, 60.0, 8, 0.0),
        (-200.0, 150.0, 9, -25.0),
    ],
)
def test_a_head_gets_the_narrowest_window_that_it_fits(low: float, high: float, bits: int, centre: float) -> None:
    known = planned(known=larger(3.0), layer3__head2__scores=Range(low, high, 1))
    window = next(w for w in known.windows[3] if 2 in w.heads)
    assert (window.bits, window.centres[window.heads.index(2)]) == (bits, centre)


@pytest.mark.parametrize(
    ("span", "clamped", "bits"),
    [(34.6, False, 6), (34.7, False, 7), (43.3, False, 7), (43.4, True, 7), (97.0, True, 8)],
)
def test_rows_that_span_much_are_clamped(span: float, clamped: bool, bits: int) -> None:
    """52 is what the eight buckets of an exponential reach, 116 what a window of 2^7 takes."""
    window = next(w for w in planned(layer3__head1__row_span=Range(0.0, span, 1)).windows[3] if 1 in w.heads)
    assert (window.clamped, window.bits) == (clamped, bits)


def test_no_difference_of_scores_and_maxima_comes_out_near_zero() -> None:
    """Modulo a window's period: above its maximum, or below what is taken, for scores anywhere within their bounds."""
    _, known, _ = demo()
    for layer, most in zip(planned().windows, known.scores, strict=True):
        for window in layer:
            for head, centre in zip(window.heads, window.centres, strict=True):
                period, taken = 2.0**window.period_bits, 2.0 ** (window.bits if window.clamped else 6)
                half = 2.0 ** (window.bits - 1)
                assert most[head] - centre + half < period - taken  # above the least maximum that may be used
                assert most[head] + centre + half + 2 < period  # below the largest
                assert window.period_bits <= 33 - 12 - planned().query_fracs[planned().windows.index(layer)]


def larger(factor: float) -> Bounds:
    """As of weights that prove less."""
    _, known, _ = demo()
    sizes = {site: factor * size for site, size in known.sizes.items()}
    sums = {site: (least, factor**2 * most) for site, (least, most) in known.square_sums.items()}
    return Bounds(sizes, sums, tuple(tuple(factor * s for s in layer) for layer in known.scores), known.relative)


def test_what_is_not_proved_is_audited() -> None:
    formats = planned(known=larger(30.0))
    assert {"layer0.norms", "layer0.up", "layer1.down.centred"} <= formats.audited
    assert all(limit > 0 for limit in formats.norm_limits[:1])
    assert not {"layer0.qkv", "layer0.norms", "layer0.up"} & planned().audited


def test_what_no_audit_looks_at_has_to_be_proved() -> None:
    _, known, _ = demo()
    wide = replace(known, sizes={**known.sizes, "layer3.qkv": 2.0**19 + 1})
    with pytest.raises(
        LocalConfigError,
        match=r"overflow: layer3\.qkv: want < 524288, .* no text exceeds 5\.243e\+05; what would help: weights as",
    ):
        planned(known=wide)


def test_the_planner_names_every_site_that_could_overflow() -> None:
    with pytest.raises(LocalConfigError, match=r"layer2\.head4\.row_span.*layer4\.up.*mpcnet calibrate"):
        planned(known=larger(100.0), layer2__head4__row_span=Range(0.0, 2000.0, 1), layer4__up=Range(-3.0, 5000.0, 1))


def test_values_that_leave_a_long_row_too_few_bits_are_refused() -> None:
    with pytest.raises(
        LocalConfigError, match=r"layer0\.value: want 6 fraction bits or more, got 5 for values up to 540"
    ):
        planned(known=larger(100.0), layer0__value=Range(-360.0, 360.0, 1))


def test_calibrated_values_serve_where_proved_ones_would_leave_too_few_bits() -> None:
    formats, known = planned(known=larger(100.0)), larger(100.0)
    assert all(formats.value_sizes[i] < known.sizes[f"layer{i}.value"] for i in range(6))
    assert {f"layer{i}.value" for i in range(6)} <= formats.audited
    assert planned().value_frac(0, 512) >= 7


def test_the_row_sums_of_2relu_begin_at_eps() -> None:
    """Whatever the sample was: a row without a positive score may come."""
    for suite in ("fast", "secformer"):
        known = planned("2relu", suite)
        assert all(known.softmax_rows(i, 128).low == RELU_EPS for i in range(6))
    with pytest.raises(LocalConfigError, match=r"layer3\.row_sum \(largest / smallest\): want < "):
        planned("2relu", "secformer", layer3__row_sum=Range(0.25, 17_000.0, 1))


def test_row_sums_of_2quad_reach_far_beyond_what_was_calibrated() -> None:
    """By cells, four times below and ten times above at least, as one word a hundred times brings about."""
    _, _, calibration = demo()
    known = planned("2quad", length=128)
    for i in range(6):
        rows, seen = known.softmax_rows(i, 128), calibration.at("2quad", f"layer{i}.row_sum")
        assert rows.low <= seen.min / 4 and (rows.high >= 10 * seen.max or rows.high == rows.most)
        assert rows.most >= rows.high


@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_formats_tell_little_of_the_weights_bounds(softmax: Softmax) -> None:
    """They are public."""
    formats = planned(softmax, length=128)
    assert all(rows.most == 2.0 ** ceil_log2(rows.most) for rows in formats.rows.values())
    assert all(size == round(size) for size in formats.value_sizes)


def test_two_logits_too_far_apart_to_be_compared_are_refused() -> None:
    shape = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=50, positions=32, head="classification", labels=2, pooling="first")  # fmt: skip
    checkpoint = random_checkpoint(shape, 1)
    folded = fold(checkpoint)
    calibration = calibrate(shape, folded, [random_tokens(checkpoint, 2, 8)], checkpoint.sha256)
    known = bounds(shape, folded)
    plan(shape, known, calibration, "exact", SUITES["fast"])
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"]["logits"] = Range(-171.0, 171.0, 4)
    worse = replace(known, sizes={**known.sizes, "logits": 600.0})
    with pytest.raises(LocalConfigError, match=r"overflow: logits \(span\): want < 512, got 513"):
        plan(shape, worse, replace(calibration, ranges=ranges), "exact", SUITES["fast"])


@pytest.mark.parametrize(
    ("site", "seen"),
    [
        ("layer1.up", Range(-3.0, 683.0, 1)),  # with its margin, and 1 more, which is opened, it is more than 1024
        ("layer2.activation", Range(0.375, 3e7, 1)),
    ],
)
def test_what_a_square_could_overflow_is_refused(site: str, seen: Range) -> None:
    shape, _, calibration = demo()
    shape, known = replace(shape, activation="quad"), larger(40.0)
    sizes = {**known.sizes, **{f"layer{i}.activation": 1e9 for i in range(6)}}
    ranges = {softmax: dict(sites) for softmax, sites in calibration.ranges.items()}
    ranges["exact"][site] = seen
    with pytest.raises(LocalConfigError, match=rf"{site}: want < "):
        plan(shape, replace(known, sizes=sizes), replace(calibration, ranges=ranges), "exact", SUITES["fast"])


@pytest.mark.parametrize(
    ("softmax", "site", "seen"),
    [
        ("exact", "layer3.down.square_sum", Range(215.0, 1.86e6, 1)),  # an MPNet's widest
        ("2quad", "layer3.row_sum", Range(1.7, 8e4, 1)),
        ("2quad", "layer3.row_sum", Range(1e3, 4e6, 1)),
    ],
)
def test_wide_ranges_are_planned_as_far_as_iterations_reach(softmax: Softmax, site: str, seen: Range) -> None:
    known = planned(softmax, "secformer", length=128, **{site.replace(".", "__"): seen})
    rows = known.rows[site]
    if site.endswith("square_sum"):
        assert rows.rsqrt_steps(rows.deflation(RSQRT_LIMIT)) <= 16
        return
    assert rows.reciprocal_steps(rows.deflation(RECIPROCAL_LIMIT)) <= 20
    bits = known.weigh_bits(3, 128)
    assert bits.inverse_frac() - ceil_log2(rows.high) >= 9  # fraction bits of the least reciprocal
    assert 2.0**-bits.context_frac / rows.low < 2e-3
    assert 2.0 ** -bits.inverse_frac() * rows.high < 2e-3


@pytest.mark.parametrize(
    ("softmax", "suite", "site", "seen", "what"),
    [
        ("exact", "secformer", "layer3.down.square_sum", Range(30.0, 1.86e6, 1), "largest / smallest"),
        ("2quad", "secformer", "layer3.row_sum", Range(0.5, 8e4, 1), "largest / smallest"),
        ("2quad", "secformer", "layer3.row_sum", Range(1e-4, 8.0, 1), "rounding of the context"),
        ("2quad", "fast", "layer3.row_sum", Range(1e-3, 8e4, 1), "rounding of the context"),
        ("exact", "fast", "layer3.down.square_sum", Range(1e-4, 8e4, 1), "1 / least"),
    ],
)
def test_wider_ranges_are_refused(softmax: Softmax, suite: str, site: str, seen: Range, what: str) -> None:
    with pytest.raises(LocalConfigError, match=rf"{site} \({what}\): want < "):
        planned(softmax, suite, length=128, **{site.replace(".", "__"): seen})


def test_goldschmidt_takes_the_rounds_that_its_range_needs() -> None:
    known = planned("exact", "secformer")
    for site, rows in known.rows.items():
        session = Session(1)
        run = session.run(lambda p, t, rows=rows: rsqrt(p, t, rows), session.share(over(rows), 64, 28))
        assert run.ledger.total().rounds == 2 * rows.rsqrt_steps(rows.deflation(RSQRT_LIMIT)) - 1, site
    rows, session = known.softmax_rows(0, 128), Session(1)
    run = session.run(lambda p, t: reciprocal(p, t, rows), session.share(over(rows), 40, 16))
    assert run.ledger.total().rounds == rows.reciprocal_steps(rows.deflation(RECIPROCAL_LIMIT))
    run = session.run(lambda p, t: cells.reciprocal(p, t, rows), session.share(over(rows), 40, 16))
    assert run.ledger.total().rounds == 1


def test_the_owner_is_refused_weights_that_the_program_was_not_proved_for() -> None:
    """Formats that are only calibrated are audited; those that are proved are not, so the weights must fit them."""
    shape, known, _ = demo()
    formats = planned()
    assert list(unproved(shape, formats, known)) == []
    retrained = replace(known, sizes={**known.sizes, "layer2.up": 2000.0})
    assert list(unproved(shape, formats, retrained)) == ["layer2.up: proved below 1024, got weights that reach 2000"]
    found = " ".join(unproved(shape, formats, larger(20.0)))
    assert "layer0.down.square_sum: proved below" in found and "layer0.head2.scores: want a period" in found
    assert "layer2.up" not in " ".join(unproved(shape, replace(formats, audited=frozenset({"layer2.up"})), retrained))
