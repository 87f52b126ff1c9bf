"""What a model takes: tokens that it has embeddings for, or rows of images as its image processor makes them."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.models.image_shape import Image
from mpcnet.models.pooling import check_pooled
from mpcnet.models.shape import BertShape

PIXEL = 1e-5  # that a pixel in single precision may be beyond its ends


def check_tokens(shape: BertShape, token_ids: Tensor, type_ids: Tensor, mask: Tensor) -> None:
    """Refuse token arrays the model has no embedding for.

    :raises LocalInputError: shapes differ, an id is out of range, or a row has no valid token.
    """
    if shape.image is not None:
        _check_rows(shape, shape.image, token_ids, mask)
        return
    sizes = [tuple(x.shape) for x in (token_ids, type_ids, mask)]
    if sizes[0] != sizes[1] or sizes[0] != sizes[2] or len(sizes[0]) != 2 or 0 in sizes[0]:
        raise LocalInputError(f"tokens: want ids, types and mask of one shape [batch, seq], got {sizes}")
    if sizes[0][1] > shape.positions:
        raise LocalInputError(f"tokens: want at most {shape.positions} positions, got {sizes[0][1]}")
    limits = (("ids", token_ids, shape.vocab), ("types", type_ids, max(shape.types, 1)), ("mask", mask, 2))
    for what, values, limit in limits:
        if int(values.min()) < 0 or int(values.max()) >= limit:
            raise LocalInputError(f"tokens: want {what} in 0 ... {limit - 1}, got one outside")
    if not bool(mask.bool().any(1).all()):
        raise LocalInputError("tokens: want a valid token in every row, got a row of padding")
    check_pooled(shape, mask)
    if shape.skipped_positions and bool((mask.diff(dim=1) > 0).any()):
        raise LocalInputError(
            "tokens: want padding after the tokens, whose positions this model counts, got some before"
        )


def _check_rows(shape: BertShape, image: Image, rows: Tensor, mask: Tensor) -> None:
    """Refuse what are no rows of images, or pixels that the model's image processor does not make.

    :raises LocalInputError: see :func:`check_tokens`.
    """
    want = (len(mask), image.rows, image.columns)
    if tuple(rows.shape) != want or 0 in want or tuple(mask.shape) != want[:2] or not bool(mask.bool().all()):
        raise LocalInputError(f"images: want {list(want)} rows of pixels without padding, got {list(rows.shape)}")
    low, high = (torch.tensor(ends).repeat_interleave(image.patch**2) for ends in (image.low, image.high))
    pixels = rows[:, image.lead :]
    if not bool(((pixels >= low - PIXEL) & (pixels <= high + PIXEL)).all()):
        raise LocalInputError(
            "images: want pixels as the model's image processor makes them, got some beyond its range"
        )
