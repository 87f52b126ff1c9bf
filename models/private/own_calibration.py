"""A calibration with the user's texts beside the built-in ones, kept where every later command finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.formats import calibrated
from mpcnet.models.formats.calibrated import Kept
from mpcnet.models.formats.calibration_batches import own_batches
from mpcnet.models.private.prepare import asked_length, calibrated_length, calibration_of
from mpcnet.models.texts.tokens import Given


def with_texts(
    found: Checkpoint, texts: Sequence[Given], length: int = 0, say: Callable[[str], None] = lambda text: None
) -> Kept:
    """The built-in calibration, for texts of `length` tokens (0: all positions), widened by these texts; not kept yet.

    :raises LocalConfigError: the weights are random, the model has fewer positions, or a value is not finite.
    :raises LocalInputError: the model cannot read one of the texts; the error says which.
    """
    longest = length_of(found, length)
    batches = own_batches(found, texts, longest) if texts else []
    folded = fold(found)
    with torch.inference_mode():
        kept = calibration_of(found, folded, longest, say)
        if not batches:
            return kept
        single = {name: value.float() for name, value in folded.items()}
        return calibrated.widen(
            kept,
            found.shape,
            single,
            calibrated.told(
                batches, say, f"on {len(texts)} {'texts' if found.shape.image is None else 'images'} of yours"
            ),
        )


def length_of(found: Checkpoint, length: int) -> int:
    """Tokens of the longest row; `length` 0: all that the model reads.

    :raises LocalConfigError: the weights are random, or the model does not read texts of that length.
    """
    if not found.source:
        raise LocalConfigError("calibrate: want a checkpoint, got a model whose weights are random")
    return asked_length(found.shape, length, 0) or calibrated_length(found, 1)


def keep(found: Checkpoint, kept: Kept) -> Kept:
    """Put it where commands find it for these weights, in the place of an earlier one.

    :raises LocalConfigError: it cannot be written.
    """
    return calibrated.write(kept, calibrated.folder(found) / calibrated.OWN)
