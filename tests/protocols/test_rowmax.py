"""The coarse row maximum: max < m <= max + 4, over the keys that are kept, in rounds that do not depend on the length."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from mpcnet.protocols.party import Party
from mpcnet.protocols.rowmax import coarse_max, window_limit
from mpcnet.protocols.share import Shared

EACH = pytest.mark.parametrize("bits", [6, 7, 8, 9, 10])


PERIOD = 10  # bits of the words before their point


def rowmax(keep: Tensor, bits: int = 7) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        opened = await p.open_one((x + float(window_limit(bits))).reduce(PERIOD + x.frac))
        return (await coarse_max(p, opened, bits, keep)).shared()

    return build


def all_of(x: Input) -> Tensor:
    return torch.ones(x.x.shape[-1], dtype=torch.int64)


def maxima(top: Tensor, bits: int = 7) -> Tensor:
    """m = 2 T + 2 at the scale of the scores."""
    return 2 * torch.remainder(top, 2 ** (PERIOD - 1)) + 2 - window_limit(bits)


def excess(top: Tensor, x: Tensor, keep: Tensor, bits: int = 7) -> Tensor:
    """m - max over the kept keys."""
    return maxima(top, bits) - x.masked_fill(keep.expand_as(x) == 0, -torch.inf).amax(-1, keepdim=True)


KEYS = st.one_of(st.integers(1, 30), st.integers(250, 300))


@few
@given(st.integers(1, 4), KEYS, st.sampled_from([6, 7, 8, 9, 10]), st.integers(0, 2**31))
def test_within_four_of_the_maximum(rows: int, keys: int, bits: int, seed: int) -> None:
    limit = window_limit(bits)
    x = uniform((rows, keys), -limit, limit - 2.0**-12, 22, 12, seed)
    keep = (torch.rand(keys, generator=torch.Generator().manual_seed(seed)) < 0.7).to(torch.int64)
    keep[seed % keys] = 1
    done = outcome(rowmax(keep, bits), x, seed=seed)
    for top in (done.value, done.oracle):
        over = excess(top, x.x, keep, bits)
        assert (over > 0).all()
        assert (over <= 4).all()
    assert (done.run.results[0].bits, done.run.results[0].frac) == (PERIOD - 1, 0)


@EACH
@pytest.mark.parametrize(("keys", "rounds"), [(1, 3), (128, 3), (255, 3), (256, 4), (300, 4), (512, 4)])
def test_cost(keys: int, rounds: int, bits: int) -> None:
    """8 rows, so a bit of each is a byte: beside the scores a count's byte or a parity's 6, the bits of a row, and T."""
    x = uniform((8, keys), -20, 20, 22, 12)
    done = outcome(rowmax(all_of(x), bits), x)
    short, upper = keys <= 255, 2 ** (bits - 1) - 1
    sent = 3 * 8 * keys + 8 * upper * (1 if short else 6) + upper + 8 * 2
    tables = 8 * keys * (upper + 1) // (1 if short else 8)
    check_cost(done, 1 + rounds, sent, tables + 8 * upper * (32 if short else 64) + 16 * upper)


LENGTHS = pytest.mark.parametrize("keys", [2, 256])


@EACH
@LENGTHS
def test_edges(bits: int, keys: int) -> None:
    """The ends of the range, ties, one ulp around bucket borders, and single keys; 200 masks of each, or 20."""
    ulp, end = 2.0**-12, float(window_limit(bits))
    rows = [[-end, -end], [end - ulp, -end], [0.0, ulp], [2 - ulp, 2.0], [2.0, 2 + ulp], [1.0, 1 - ulp]]
    values = torch.tensor(rows * (400 // min(keys, 20)), dtype=torch.float64)
    x = Input(values.repeat_interleave(keys // 2, 1), 22, 12)
    over = excess(outcome(rowmax(all_of(x), bits), x).value, x.x, all_of(x), bits)
    assert (over > 0).all()
    assert (over <= 4).all()


def test_a_count_of_255_and_of_256_equal_scores() -> None:
    """All keys in one bucket: the count must not wrap to zero."""
    for keys in (255, 256, 257, 512):
        x = Input(torch.full((2, keys), 3.5, dtype=torch.float64), 22, 12)
        over = excess(outcome(rowmax(all_of(x)), x).value, x.x, all_of(x))
        assert ((over > 0) & (over <= 4)).all(), keys


@LENGTHS
def test_padding_is_public_and_does_not_count(keys: int) -> None:
    x = given_words([10, 40, -30, 60], 22, 0)
    x = Input(x.x.reshape(1, 4).repeat(1, keys // 2), 22, 12)
    keep = torch.tensor([1, 0, 1, 0]).repeat(keys // 2)
    value = maxima(outcome(rowmax(keep), x).value)
    assert 10 < float(value) <= 14


@LENGTHS
def test_a_row_without_keys_is_at_the_bottom(keys: int) -> None:
    x = uniform((2, keys), -3, 3, 22, 12)
    assert (outcome(rowmax(torch.zeros(keys, dtype=torch.int64)), x).value == 0).all()


@LENGTHS
def test_masks_of_each_batch(keys: int) -> None:
    """[batch, head, query, key] with a mask [batch, 1, 1, key], as attention passes it."""
    x = uniform((2, 3, 4, 3 * keys), -20, 20, 22, 12)
    keep = torch.ones(2, 3 * keys, dtype=torch.int64)
    keep[0, 3:] = 0
    keep = keep.reshape(2, 1, 1, -1)
    done = outcome(rowmax(keep), x)
    over = excess(done.value, x.x, keep)
    assert done.value.shape == (2, 3, 4, 1)
    assert ((over > 0) & (over <= 4)).all()


def test_no_rows_and_no_keys() -> None:
    for keys in (5, 256):
        x = Input(torch.zeros(0, keys, dtype=torch.float64), 22, 12)
        assert outcome(rowmax(all_of(x)), x).value.shape == (0, 1)
    x = Input(torch.zeros(3, 0, dtype=torch.float64), 22, 12)
    assert outcome(rowmax(all_of(x)), x).value.tolist() == [[0.0]] * 3


@LENGTHS
def test_one_corrupted_reply_changes_the_result(keys: int) -> None:
    x = uniform((8, keys), -20, 20, 22, 12)
    check_corruption(rowmax(all_of(x), PERIOD), x)
