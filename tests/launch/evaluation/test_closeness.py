"""Answers beside the published model's: requests by length, and what is reported of each kind."""

import torch

from mpcnet.launch.evaluation.closeness import BUDGET, by_kind, groups, together
from mpcnet.launch.evaluation.corpus import Sample
from mpcnet.models.texts.tokens import Tokens


def of_lengths(*lengths: int) -> Tokens:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return Tokens(mask, mask * 0, mask)


def test_rows_of_a_length_share_a_request():
    assert groups(of_lengths(3, 5, 3, 5, 4)) == [[0, 2], [4], [1, 3]]
    many = groups(of_lengths(*[BUDGET // 2] * 3))
    assert many == [[0, 1], [2]]
    assert groups(of_lengths(BUDGET + 1, BUDGET + 1)) == [[0], [1]]


def test_kinds():
    samples = [Sample("a", "x"), Sample("b", "y"), Sample("a", "z")]
    mine = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    theirs = torch.tensor([[1.0, 0.0], [0.0, 2.5], [1.0, 0.0]], dtype=torch.float64)
    first, second = by_kind(samples, of_lengths(3, 9, 4), mine, theirs, [False, True, True])
    assert (first.kind, first.n, first.tokens, first.out_of_range, first.max_abs_error) == ("a", 2, 4, 1, 1.0)
    assert abs(first.min_cosine - 0.5**0.5) < 1e-12 and abs(first.mean_cosine - (1 + 0.5**0.5) / 2) < 1e-12
    assert (second.kind, second.n, second.tokens, second.out_of_range, second.max_abs_error) == ("b", 1, 9, 1, 0.5)
    both = together([first, second])
    assert (both.kind, both.n, both.tokens, both.out_of_range, both.max_abs_error) == ("all", 3, 9, 2, 1.0)
    assert both.min_cosine == first.min_cosine
    assert abs(both.mean_cosine - (2 * first.mean_cosine + second.mean_cosine) / 3) < 1e-12
    assert together(by_kind(samples, of_lengths(3, 9, 4), mine, theirs, None)).out_of_range is None
