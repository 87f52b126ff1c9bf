"""From logits of every word at a text's masks to the likeliest words, as transformers' `pipeline("fill-mask")` does."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mpcnet.launch.requests.view import Known


@dataclass(frozen=True, slots=True)
class Fill:
    """A word for a mask, its probability, and its number in the tokenizer."""

    text: str = field(repr=False)
    score: float
    token: int = field(repr=False)


def fills(logits: Tensor, known: Known, top_k: int = 5) -> list[list[Fill]]:
    """For each mask of a text its likeliest words, best first, of logits [count, vocab]; rows behind do not count."""
    chances = logits[: len(known.row.places)].double().softmax(-1)
    found = chances.topk(min(top_k, chances.shape[-1]))
    return [
        [Fill(str(known.tokenizer.decode([id])), score, id) for score, id in zip(scores, ids, strict=True)]
        for scores, ids in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]
