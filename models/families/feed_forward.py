"""What stands between the two linear maps of a layer's second half: the activation, gated or not."""

from __future__ import annotations

import numpy as np

from mpcnet.models.families.loaded import Model
from mpcnet.models.formats import fixed_point as N
from mpcnet.protocols.arith import lift, product
from mpcnet.protocols.gelu import gelu_tanh, relu, silu, tanh
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.share import Shared
from mpcnet.protocols.suites import Suite
from mpcnet.rounds import parallel


async def feed_forward(p: Party, model: Model, number: int, projected: Shared) -> Shared:
    """The activation, and its product with the other half of the columns if it is gated: [B, n, inner] -> [B, n, ffn].

    Rounds   those of the activation, and 1 more if gated
    """
    config, layer, p = model.config, f"layer{number}", p.at("activation")
    shape, sure = config.shape, config.formats.sure(f"{layer}.up")
    up = p.rescale(projected, N.UP_FRAC).reduce(N.UP_BITS)
    if not shape.gated:
        return await activate(p, config.suite, shape.activation, up, N.GELU_BITS, sure=sure)
    up, gate = up.take(np.s_[..., : shape.ffn]), up.take(np.s_[..., shape.ffn :])
    activation = activate(p, config.suite, shape.activation, up, N.UP_BITS, sure=sure)
    activated, opened = await parallel(activation, p.at("gate").open_one(gate))
    wide = lift(p, await p.at("gate").open_one(activated), N.GATED_BITS, sure=True)  # no larger than `up`
    other = lift(p, opened, N.GATED_BITS, sure=config.formats.sure(f"{layer}.gate"))
    return p.rescale(product(p, wide, other), N.GELU_FRAC)


async def activate(p: Party, suite: Suite, kind: str, x: Shared, bits: int, *, sure: bool) -> Shared:
    """An activation, its result with the fraction bits of x in a ring of `bits`.

    Rounds   3; 1 of quad; of gelu those of the suite's, 4 in SecFormer's, and 1 more for a wider ring than it has
    Hiding   what is opened to grow is under a fresh mask of its ring
    """
    if kind == "gelu":
        widest = min(max(bits, suite.gelu_ring), suite.gelu_most)
        activated = p.rescale(await suite.gelu(p, x, widest, sure), x.frac)
        if activated.bits >= bits:
            return activated.reduce(bits)
        return lift(p, await p.open_one(activated), bits, sure=True).shared()  # no larger than x
    if kind == "quad":
        return await quad(p, x, bits, sure=sure)
    if kind == "tanh":
        return await tanh(p, x, bits)
    functions = {"gelu_tanh": gelu_tanh, "silu": silu, "relu": relu}
    found: Shared = await functions[kind](p, x, bits, sure)
    return found
