"""What would help a model that no format holds: said with the refusal, by the kinds of sites that are too wide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mpcnet.models.shape import Softmax
from mpcnet.protocols.suites import Suite

SHORTER = "texts of N tokens at most have narrower ranges: mpcnet calibrate --length N"


def remedies(broken: Iterable[str], softmax: Softmax, suite: Suite) -> Iterator[str]:
    """Whatever there is to do about these sites, each once. `broken` begin with the names of sites.

    More texts never help: ranges only widen.
    """
    kinds = {found[1] for text in broken if (found := re.match(r"(?:\w+\.)*(\w+)", text))}
    if kinds & {"row_sum"}:
        yield f"row sums of {softmax} softmax grow with the length, those of --softmax exact do not"
    if kinds & {"row_sum", "scores", "row_span", "norms"}:
        yield SHORTER
    if kinds & {"scores", "row_span", "norms"}:
        yield "a head as sharp as this can be trained flatter: mpcnet distill, or weight decay on its queries and keys"
    if "square_sum" in kinds:
        if not suite.wide:
            yield "--suite fast takes a wider range of rows"
        yield "rows that LayerNorm has to enlarge so much come of weights close to 0 before it: prune or train on"
    if kinds - {"row_sum", "scores", "row_span", "norms", "square_sum"}:
        yield "weights as large as this train smaller with weight decay"
