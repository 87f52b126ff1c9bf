"""The coarse row maximum: max < m <= max + 4, over the keys that are kept, in rounds that do not depend on the length."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from protocols.party import Party
from protocols.rowmax import coarse_max
from protocols.share import Shared


def rowmax(keep: Tensor) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await coarse_max(p, x, keep)

    return build


def all_of(x: Input) -> Tensor:
    return torch.ones(x.x.shape[-1], dtype=torch.int64)


def excess(value: Tensor, x: Tensor, keep: Tensor) -> Tensor:
    """m - max over the kept keys."""
    return value - x.masked_fill(keep.expand_as(x) == 0, -torch.inf).amax(-1, keepdim=True)


@few
@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**31))
def test_within_four_of_the_maximum(rows: int, keys: int, seed: int) -> None:
    x = uniform((rows, keys), -62, 62 - 2.0**-12, 22, 12, seed)
    keep = (torch.rand(keys, generator=torch.Generator().manual_seed(seed)) < 0.7).to(torch.int64)
    keep[seed % keys] = 1
    done = outcome(rowmax(keep), x, seed=seed)
    for value in (done.value, done.oracle):
        over = excess(value, x.x, keep)
        assert (over > 0).all()
        assert (over <= 4).all()
    assert (done.run.results[0].bits, done.run.results[0].frac) == (22, 12)


@pytest.mark.parametrize(("keys", "rounds"), [(1, 3), (128, 3), (255, 3), (256, 4), (300, 4), (512, 4)])
def test_cost(keys: int, rounds: int) -> None:
    """8 rows, so a bit of each is a byte: a score 1 byte, a count 63 (or 126) bytes, the bits 63 of each row."""
    x = uniform((8, keys), -20, 20, 22, 12)
    done = outcome(rowmax(all_of(x)), x)
    short = keys <= 255
    sent = 8 * keys + 8 * 63 * (1 if short else 2) + (0 if short else 2 * 63) + 63
    tables = 8 * keys * 64 * (1 if short else 2)
    zero = 63 * 256 if short else 63 * (32 + (16 if keys < 512 else 32)) + 63
    check_cost(done, rounds, sent, tables + zero + 8 * 63 * 3)
    assert (zero + 8 * 63 * 3) / 8 == (2205 if short else 574.875 if keys < 512 else 700.875)


def test_edges() -> None:
    """The ends of the range, ties, one ulp around bucket borders, and single keys; 200 masks of each."""
    ulp = 2.0**-12
    rows = [[-62.0, -62.0], [62 - ulp, -62.0], [0.0, ulp], [2 - ulp, 2.0], [2.0, 2 + ulp], [-2.0, -2 - ulp]]
    x = Input(torch.tensor(rows * 200, dtype=torch.float64), 22, 12)
    over = excess(outcome(rowmax(all_of(x)), x).value, x.x, all_of(x))
    assert (over > 0).all()
    assert (over <= 4).all()


def test_a_count_of_255_and_of_256_equal_scores() -> None:
    """All keys in one bucket: the count must not wrap to zero."""
    for keys in (255, 256, 257, 512):
        x = Input(torch.full((2, keys), 3.5, dtype=torch.float64), 22, 12)
        over = excess(outcome(rowmax(all_of(x)), x).value, x.x, all_of(x))
        assert ((over > 0) & (over <= 4)).all(), keys


def test_padding_is_public_and_does_not_count() -> None:
    x = given_words([10, 40, -30, 60], 22, 0)
    x = Input(x.x.reshape(1, 4), 22, 12)
    keep = torch.tensor([1, 0, 1, 0])
    value = outcome(rowmax(keep), x).value
    assert 10 < float(value) <= 14


def test_a_row_without_keys_is_at_the_bottom() -> None:
    x = uniform((2, 5), -3, 3, 22, 12)
    assert (outcome(rowmax(torch.zeros(5, dtype=torch.int64)), x).value == -62).all()


def test_masks_of_each_batch() -> None:
    """[batch, head, query, key] with a mask [batch, 1, 1, key], as attention passes it."""
    x = uniform((2, 3, 4, 6), -20, 20, 22, 12)
    keep = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).reshape(2, 1, 1, 6)
    done = outcome(rowmax(keep), x)
    over = excess(done.value, x.x, keep)
    assert done.value.shape == (2, 3, 4, 1)
    assert ((over > 0) & (over <= 4)).all()


def test_no_rows_and_no_keys() -> None:
    x = Input(torch.zeros(0, 5, dtype=torch.float64), 22, 12)
    assert outcome(rowmax(all_of(x)), x).value.shape == (0, 1)
    x = Input(torch.zeros(3, 0, dtype=torch.float64), 22, 12)
    assert outcome(rowmax(all_of(x)), x).value.tolist() == [[-62.0]] * 3


def test_one_corrupted_reply_changes_the_result() -> None:
    x = uniform((8, 5), -20, 20, 22, 12)
    check_corruption(rowmax(all_of(x)), x)
