"""How a model's weights become ring words."""

import pytest
from parties import tiny
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.private.parameters import encode, parameters


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_values_and_the_feed_forward_part_have_the_bits_that_their_rings_leave(kind: str) -> None:
    """Of V's columns the rounding is an eighth of that of queries and keys beside them."""
    model = tiny()
    config = model.config()
    words, own = encode(config, model.folded), {parameter.name: parameter for parameter in parameters(config)}

    def errors(name: str, spare: int = 0) -> Tensor:
        parameter = own[name]
        found = ring.decode(words[name], parameter.frac + spare, parameter.bits)
        return (found - model.folded[name]).abs()

    d, qkv, up = config.shape.hidden, f"layer0.qkv.{kind}", f"layer0.up.{kind}"
    assert errors(qkv)[..., : 2 * d].max() <= 2.0**-16
    assert errors(qkv, N.VALUE_SPARE)[..., 2 * d :].max() <= 2.0**-19
    assert errors(up).max() <= 2.0**-17


def test_no_bit_of_those_rings_is_left() -> None:
    """At V's least fraction its rescaling leaves just the ring that it is opened in; GeLU's input has whole bytes."""
    product = N.NORMAL_FRAC + N.QKV_FRAC + N.VALUE_SPARE
    assert N.NORMAL_BITS - (product - N.LEAST_VALUE_FRAC) == N.VALUE_BITS
    assert (
        N.UP_PRODUCT_BITS % 8 == 0 and N.UP_PRODUCT_BITS - (N.NORMAL_FRAC + N.UP_WEIGHT_FRAC - N.UP_FRAC) == N.UP_BITS
    )
