"""What follows a model's last layer, by the head of its shape: from bare normalised values to what a client gets.

Pooling, the answer of most encoders, is in :mod:`mpcnet.models.families.bert`, and so is the classifier of whole texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.shape import TOKEN_LINEARS
from mpcnet.protocols.arith import linear
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared

if TYPE_CHECKING:
    from mpcnet.models.families.bert import Model


async def tag(p: Party, model: Model, normal: Shared) -> Shared:
    """Logits of every token, N W + b: [B, n, d] -> [B, n, columns] in a ring of 30 bits.

    None can leave its ring, whatever the text (mpcnet.models.pooling.too_large), so nothing is audited.

    Rounds   1
    Sends    5 bytes an element of N each way
    Offline  5 bytes a logit
    Error    that of N times W's norm, and rounding of W to 2^-14
    Hiding   N is opened under a fresh mask of 40 bits, uniform over all that is sent
    """
    name = TOKEN_LINEARS[model.config.shape.head]
    logits = linear(p, await p.open_one(normal.reduce(N.TOKEN_BITS)), model.weights[f"{name}.weight"])
    bias = model.shared[f"{name}.bias"].reduce(logits.bits)
    return p.rescale(logits + p.rescale(bias, logits.frac), N.LOGIT_FRAC)


def at_tokens(x: Shared, keep: Tensor) -> Shared:
    """0 at padding, whose values nobody audits or asks for: [B, n, columns] for the public mask [B, n]."""
    return x.scale(keep[..., None])


def bits_at_tokens(x: Bits, keep: Tensor) -> Bits:
    """:func:`at_tokens` for bits."""
    chosen = ring.pack_bits(keep[..., None].expand(x.shape))
    return Bits(x.packed & chosen, x.shape, x.party)
