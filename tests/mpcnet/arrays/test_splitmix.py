"""Public constants: SplitMix64's words, and how little of them is kept."""

import numpy as np
import pytest

from mpcnet.arrays import splitmix as S


def test_the_published_words() -> None:
    """SplitMix64 from a state of 0, as its authors' code prints them."""
    assert [hex(word) for word in S.splitmix(3)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_all_differ_and_shorter_rows_are_the_start_of_longer_ones() -> None:
    words = S.splitmix(5000)
    assert len(np.unique(words)) == 5000
    for count in (0, 1, 2, 3, 4096, 4097):
        assert np.array_equal(S.splitmix(count), words[:count])


def test_many_lengths_keep_no_more_than_the_longest() -> None:
    """A server is asked for a row for each length of a text, and runs for months."""
    S._made.cache_clear()
    rows = [S.splitmix(count) for count in range(1, 3000)]
    held = {row.base.ctypes.data: row.base.nbytes for row in rows if row.base is not None}
    assert sum(held.values()) <= 4 * 8 * 3000


def test_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        S.splitmix(3)[0] = 1
