"""Whatever the model and the text: an answer is right, or the audit says that it may not be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from wild import BATCH, Draw, any_texts, model, usual, varied

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.config import Config
from mpcnet.models.float_model import reference
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.formats.planner import plan
from mpcnet.models.private.oracle_trace import audited_answer, load_plain
from mpcnet.models.shape import Softmax
from mpcnet.protocols.suites import SUITES

TEXTS = 40
SOFTMAXES: tuple[Softmax, ...] = ("exact", "2quad", "2relu")


def cases(
    seeds: range, softmax: Softmax, suite: str, make: Callable[[Draw], Checkpoint] = model
) -> Iterator[tuple[Tensor, Tensor]]:
    """Distances from the float model, relative to its vectors' lengths, and flags, of a batch of texts at a time.

    Models that are refused have none.
    """
    for seed in seeds:
        draw = Draw(seed)
        checkpoint = make(draw)
        shape, folded = checkpoint.shape, fold(checkpoint)
        calibration = calibrate(shape, folded, [usual(draw, shape) for _ in range(6)], checkpoint.sha256)
        try:
            formats = plan(shape, bounds(shape, folded), calibration, softmax, SUITES[suite])
        except LocalConfigError:
            continue
        loaded = load_plain(Config(shape, formats, SUITES[suite]), folded)
        for _ in range(TEXTS // BATCH):
            tokens = any_texts(draw, shape)
            private, flags = audited_answer(loaded, folded, tokens)
            floats = reference.embed(shape, folded, tokens.ids, tokens.types, tokens.mask, softmax)
            yield (private - floats).norm(dim=1) / floats.norm(dim=1), flags


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["fast", "secformer"])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_an_answer_is_right_or_flagged(softmax: Softmax, suite: str) -> None:
    seeds = range(16) if suite == "fast" else range(5)
    found = list(cases(seeds, softmax, suite))
    distances, flags = (torch.cat([row[i] for row in found]) for i in (0, 1))
    assert len(distances) >= TEXTS * len(seeds) // 4  # most models are taken
    assert distances[~flags].max() < 0.02, distances[~flags].max()
    assert (~flags).sum() > len(flags) // 4  # and most answers, although the texts are far from those calibrated


@pytest.mark.slow
@pytest.mark.parametrize("softmax", ["exact", "2quad"])  # a row of 2ReLU without a positive score divides by 1/4
def test_an_answer_of_another_family_is_right_or_flagged(softmax: Softmax) -> None:
    seeds = range(100, 116)
    found = list(cases(seeds, softmax, "fast", varied))
    distances, flags = (torch.cat([row[i] for row in found]) for i in (0, 1))
    assert len(distances) >= TEXTS * len(seeds) // 4
    assert distances[~flags].max() < 0.02, distances[~flags].max()
    assert (~flags).sum() > len(flags) // 4
