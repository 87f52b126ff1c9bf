"""What is said to help where no format holds a model: of each kind of site, once."""

from __future__ import annotations

import pytest

from mpcnet.models.formats.remedies import remedies
from mpcnet.protocols.suites import SUITES


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("layer0.head3.scores: want < 511, got 1625 with its margin", ("calibrate --length N", "mpcnet distill")),
        ("layer0.head3.row_span: want < 1012, got 1906", ("calibrate --length N", "mpcnet distill")),
        ("layer2.row_sum (most): want < 4, got 5", ("grow with the length", "calibrate --length N")),
        ("embedding.square_sum (1 / sigma): want < 512, got 1220", ("--suite fast", "weights close to 0")),
        ("layer11.qkv: want < 524288, got 1e9", ("weight decay",)),
        ("logits (span): want < 512, got 513", ("weight decay",)),
    ],
)
def test_each_kind_of_site(site: str, words: tuple[str, ...]) -> None:
    found = list(remedies([site, site], "2quad", SUITES["secformer"]))
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))


def test_the_fast_suite_is_no_remedy_for_itself() -> None:
    (found,) = remedies(["layer0.out.square_sum (most): want < 1, got 2"], "exact", SUITES["fast"])
    assert "--suite" not in found
