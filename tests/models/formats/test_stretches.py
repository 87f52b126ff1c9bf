"""How texts use calibrated ranges: stretches of single sites by hand, and of a small model's own calibration."""

from dataclasses import replace

import pytest
import torch

from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.folding import Folded, fold
from mpcnet.models.families.config import Config
from mpcnet.models.float_model.reference import classify
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import Calibration, Range, calibrate
from mpcnet.models.formats.limits import MARGIN
from mpcnet.models.formats.planner import plan
from mpcnet.models.private import oracle_trace
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.private.ranges import Site, by_kind, measure, share, sites, stretches, use
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.suites import SUITES

SHAPE = BertShape(
    layers=2, hidden=32, heads=2, ffn=64, vocab=64, positions=16, head="classification", labels=2, pooling="first"
)
CHECKPOINT = random_checkpoint(SHAPE, 1)
FOLDED = fold(CHECKPOINT)
LARGE = replace(
    CHECKPOINT, tensors={name: value if "norm" in name else 5 * value for name, value in CHECKPOINT.tensors.items()}
)  # its texts have different answers
SUM = "layer0.out.square_sum"


def some_tokens() -> Tokens:
    tokens = random_tokens(CHECKPOINT, 6, 12)
    tokens.mask[1, 5:] = 0
    return tokens


def calibration(checkpoint: Checkpoint = CHECKPOINT) -> Calibration:
    return calibrate(SHAPE, fold(checkpoint), [some_tokens()], checkpoint.sha256)


def changed(found: Calibration, softmax: str, name: str, seen: Range) -> Calibration:
    return replace(found, ranges={**found.ranges, softmax: {**found.ranges[softmax], name: seen}})


def program(found: Calibration, softmax: str = "exact", suite: str = "secformer", folded: Folded = FOLDED) -> Config:
    """Of the suite whose ranges are those calibrated, with their margin."""
    return Config(SHAPE, plan(SHAPE, bounds(SHAPE, folded), found, softmax, SUITES[suite], 16), SUITES[suite])


def test_a_site_that_is_limited_from_above() -> None:
    up = Site("layer1.up", (0.0, 10.0), 1.5, 0.0, 40.0, lambda seen: seen.absmax, "layer1.up")
    assert (up.kind, up.room) == ("up", 4.0)
    assert [up.stretch(Range(low, 3.0, 1)) for low in (0.0, -20.0)] == [0.3, 2.0]
    assert [up.passes(Range(low, 3.0, 1)) for low in (-40.0, -40.1)] == [False, True]


def test_a_sum_is_limited_from_below_too() -> None:
    total = Site("embedding.square_sum", (2.0, 8.0), 1.5, 1.0, 12.0, lambda seen: seen.max, "")
    assert (total.kind, total.room) == ("embedding.square_sum", 1.5)
    assert [total.stretch(Range(*seen, 1)) for seen in ((1.6, 8.0), (2.0, 12.0), (4.0, 4.0))] == [1.25, 1.5, 0.5]
    assert [total.passes(Range(*seen, 1)) for seen in ((0.9, 8.0), (2.0, 12.5), (1.0, 12.0))] == [True, True, False]


def test_uses_of_several_sites() -> None:
    one = Site("a", (0.0, 1.0), 1.5, 0.0, 2.0, lambda seen: seen.absmax, "a")
    first, second = (use(one, [Range(0.0, value, 1) for value in reached]) for reached in ([0.5, 1.2], [0.8, 3.0]))
    assert (second.largest, second.nearness) == (3.0, 1.5)
    assert stretches([first, second]) == [0.8, 3.0]
    assert second.passed == [False, True] and first.beyond(1.2) == [False, False]
    assert share([[True, False, False, False], [True, True, False, False]]) == 0.5


@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_the_calibrating_texts_just_fit(softmax: str) -> None:
    """Every site is stretched to 1 by one of them; a span, whose ends two texts may have, by none further."""
    found = calibration()
    uses = measure(program(found, softmax), found, FOLDED, some_tokens())
    for each in uses:
        if each.site.name.endswith("(span)"):
            assert 0.5 < each.largest <= 1
        else:
            assert each.largest == pytest.approx(1.0, abs=1e-9), each.site.name
        assert len(each.stretches) == 6 and not any(each.passed)
    kinds = by_kind(uses)
    assert len(kinds["up"]) == 2 and len(kinds["pooler.input"]) == 1
    assert len(kinds["scores"]) == (2 * SHAPE.heads if softmax == "exact" else 2)
    assert {each.site.margin for each in kinds["scores"]} == {MARGIN}
    assert ("row_sum" in kinds) == (softmax == "2quad")
    assert ("row_span" in kinds) == (softmax == "exact")


def test_a_range_that_was_calibrated_too_narrowly_is_told() -> None:
    """Of the text alone that has the value, by the factor by which it is too narrow."""
    found = calibration()
    honest = {each.site.name: each for each in measure(program(found), found, FOLDED, some_tokens())}
    seen = found.at("exact", "layer1.up")
    halved = changed(found, "exact", "layer1.up", Range(seen.min / 2, seen.max / 2, seen.count))
    told = {each.site.name: each for each in measure(program(halved), halved, FOLDED, some_tokens())}
    assert told["layer1.up"].stretches == pytest.approx([2 * value for value in honest["layer1.up"].stretches])
    others = [name for name in told if name != "layer1.up"]
    assert all(told[name].stretches == honest[name].stretches for name in others)


def test_a_sum_below_its_range_passes_its_limit() -> None:
    """The planner's margin of a sum is its limit."""
    found = calibration()
    seen = found.at("exact", "embedding.square_sum")
    wrong = changed(found, "exact", "embedding.square_sum", Range(2 * seen.min, 2 * seen.max, seen.count))
    told = next(
        each
        for each in measure(program(wrong), wrong, FOLDED, some_tokens())
        if each.site.name == "embedding.square_sum"
    )
    assert told.site.room == pytest.approx(MARGIN)
    assert told.largest == pytest.approx(2.0) and any(told.passed)


@pytest.mark.parametrize("factor", [1 / 1.4, 1.4, 5.0])
def test_what_is_said_of_a_text_becomes_of_its_answer(factor: float) -> None:
    """Within the planner's margin the oracle is right. Far beyond the limit every text's answer is wrong."""
    found, tokens = calibration(LARGE), some_tokens()
    seen = found.at("exact", SUM)
    moved = changed(found, "exact", SUM, Range(factor * seen.min, factor * seen.max, seen.count))
    folded = fold(LARGE)
    planned = program(moved, suite="fast", folded=folded)
    rows = {**planned.formats.rows, SUM: RowRange(factor * seen.min / MARGIN, factor * seen.max * MARGIN)}
    config = replace(planned, formats=replace(planned.formats, rows=rows))
    told = next(each for each in measure(config, moved, folded, tokens) if each.site.name == SUM)
    answers = oracle_trace.answer(oracle_trace.load_plain(config, folded), folded, tokens)
    errors = (answers - classify(SHAPE, folded, tokens.ids, tokens.types, tokens.mask)).abs().amax(1)
    if factor == 5.0:
        assert all(told.passed) and errors.min() > 0.05
    else:
        assert not any(told.passed) and told.largest > 1.3 and errors.max() < 0.002


def test_limits_are_the_planners() -> None:
    found = calibration()
    known = {site.name: site for site in sites(program(found), found)}
    assert known["layer0.head1.scores"].most == 31.0
    assert known["layer0.head1.row_span"].most == 52.0
    assert known["layer0.up"].most == 2.0**10


def test_padding_is_not_looked_at() -> None:
    """Each text is run without the padding that its neighbours need."""
    found, tokens = calibration(), some_tokens()
    every = measure(program(found), found, FOLDED, tokens)
    alone = measure(program(found), found, FOLDED, tokens.rows([1]))
    assert tokens.rows([1]).ids.shape == (1, 5)
    for each, other in zip(every, alone, strict=True):
        assert each.stretches[1] == other.stretches[0]
    other_padding = replace(tokens, ids=torch.where(tokens.mask > 0, tokens.ids, 7))
    assert [u.stretches for u in measure(program(found), found, FOLDED, other_padding)] == [u.stretches for u in every]
