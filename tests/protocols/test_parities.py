"""Parities in place of counts: what they say of a bucket, how often that is false, and what it costs then."""

import pytest
import torch
from checks import Input, check_cost, outcome, uniform
from lockstep import Build
from torch import Tensor

from mpcnet.protocols import parities as P
from mpcnet.protocols.arith import lift_bit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

BITS = pytest.mark.parametrize("buckets", [32, 64, 128, 256, 512])


def none_at_or_above(keep: Tensor, buckets: int) -> Build:
    """The bits, as numbers."""

    async def build(p: Party, x: Shared) -> Shared:
        none = await P.none_at_or_above(p, await p.open_one(x), x.frac, buckets, keep)
        return lift_bit(p, (await p.open_bits(none))[0], 16).shared()

    return build


@BITS
@pytest.mark.parametrize("keys", [1, 31, 32, 33, 300])
def test_one_bit_for_each_bucket_above_the_lowest(buckets: int, keys: int) -> None:
    """Whole scores, whose bucket a mask may raise by one: as many bits say none as there are buckets above that."""
    x = uniform((8, keys), 0, buckets - 2, 22, 12)
    whole = Input(x.x.floor(), 22, 12)
    keep = torch.arange(keys) % 3 != 1
    top = whole.x.masked_fill(~keep, 0.0).amax(-1)
    done = outcome(none_at_or_above(keep, buckets), whole)
    assert torch.equal(buckets - 1 - done.oracle.sum(-1), top)
    above = buckets - 1 - done.value.sum(-1) - top
    assert ((above == 0) | (above == 1)).all()
    upper = buckets - 1
    check_cost(done, 4, 8 * (3 * keys + 6 * upper) + upper, 8 * (keys * buckets // 8 + 64 * upper) + 2 * 8 * upper)


def test_a_false_none_is_as_rare_as_its_bits_say() -> None:
    """Of parities with a byte one in 256 is 0 though its bucket is in use, each by itself."""
    rows, keys, buckets = 400, 20, 64
    generator = torch.Generator().manual_seed(1)
    opened = torch.randint(0, buckets, (rows, keys), generator=generator).to(torch.int16)
    table = torch.zeros(rows, keys, buckets, dtype=torch.uint8)
    table[..., 0] = 1  # of a mask of 0: what is opened is the bucket
    coefficients = torch.randint(-(2**63), 2**63 - 1, (keys, buckets), generator=generator)
    found = P._summed(opened, torch.ones(rows, keys, dtype=torch.uint8), table, coefficients)
    in_use = torch.arange(1, buckets).flip(0) <= opened.amax(-1, keepdim=True)
    assert not found[~in_use].any()
    zero = (found[..., :8] == 0).all(-1) & in_use
    assert int(in_use.sum()) / 256 == pytest.approx(int(zero.sum()), rel=0.25)
    assert zero.sum(-1).max() <= 4  # of 60 of a row
    assert not (found == 0).all(-1)[in_use].any()
