"""Kernels of trigonometric series against torch, bit by bit: every level and thread count, odd sizes, arbitrary words."""

from dataclasses import replace

import pytest
import torch
from kernels import SIZES, in_torch, refuse, strangers, words

from mpcnet.arrays.native import series as native
from mpcnet.protocols import series as S

TURNS = [1, 3, 10, 11, 13, 20]  # bits of an angle
BIG = 2**63 - 1
FACTORS = [
    ((), (), (), BIG),
    ((1,), (-(2**31),), (2**31,), -1),
    ((1, 2, 5, 7), (3, BIG, -BIG - 1, 0), (-1, 2**40, BIG, 5), -BIG - 1),
]


@pytest.mark.parametrize("kind", native.WAVES, ids=str)
@pytest.mark.parametrize("size", TURNS)
def test_weighted_sum(level: str, size: int, kind: torch.dtype) -> None:
    for count in SIZES:
        x = words((count,), seed=count)
        for k, a, b, constant in FACTORS:
            shares = words((2 * len(k), count), kind, count + 1)
            want = in_torch(S._weighted_sum, x, size, k, a, b, constant, shares)
            got = native.weighted_sum(x, S._angles(size), k, a, b, constant, shares, level)
            assert got.dtype == kind
            assert torch.equal(got, want)


@pytest.mark.parametrize(("bits", "kind"), [(17, torch.int32), (32, torch.int32), (33, torch.int64), (64, torch.int64)])
@pytest.mark.parametrize("size", TURNS)
def test_waves(level: str, size: int, bits: int, kind: torch.dtype) -> None:
    for count in SIZES:
        x = words((count,), seed=count)
        for k, frac in (((1, 4, 1000), 14), ((3,), 0), ((BIG, 2), 29)):
            got = native.waves(x, S._angles(size), k, frac, kind, level)
            assert got.dtype == kind
            assert torch.equal(got, in_torch(S._waves, x, size, k, frac, bits))
        assert native.waves(x, S._angles(size), (), 14, kind, level).shape == (0, count)


def test_operands_of_any_layout(level: str) -> None:
    x, shares, k = words((7, 5)), words((5, 7, 4)), (1, 3)
    angles = S._angles(13)
    strided = replace(angles, coarse=angles.coarse.t().contiguous().t(), fine=angles.fine.t().contiguous().t())
    want = native.weighted_sum(x.t().contiguous(), angles, k, k, k, 1, shares.permute(2, 0, 1).contiguous(), level)
    assert torch.equal(native.weighted_sum(x.t(), strided, k, k, k, 1, shares.permute(2, 0, 1), level), want)


def test_what_is_refused(level: str) -> None:
    x, shares, angles, k = words((9,)), words((4, 9)), S._angles(13), (1, 3)

    def total(x=x, angles=angles, k=k, a=k, b=k, shares=shares):  # type: ignore[no-untyped-def]
        return native.weighted_sum(x, angles, k, a, b, 0, shares, level)

    def waves(x=x, angles=angles, frac=14, kind=torch.int32):  # type: ignore[no-untyped-def]
        return native.waves(x, angles, k, frac, kind, level)

    for y in strangers(x):
        refuse(total, x=y)
    for y in (*strangers(shares), shares.to(torch.int16), shares[:3]):
        refuse(total, shares=y)
    for wrong in ({"k": (1,)}, {"a": (1,)}, {"b": (1, 2, 3)}):
        refuse(total, **wrong)
    for y in (x.to(torch.int32), x.to("meta")):
        refuse(waves, x=y)
    for wrong in ({"frac": -1}, {"frac": 30}, {"kind": torch.int16}, {"kind": torch.float32}):
        refuse(waves, **wrong)
    for name in ("coarse", "fine"):
        table = getattr(angles, name)
        for y in (*strangers(table), table[:, :0], table[:, :3], table[:1]):
            refuse(waves, angles=replace(angles, **{name: y}))


def test_narrow_shares_without_kernels() -> None:
    assert not native.fits(torch.int16)
    assert not native.fits(torch.uint8)
