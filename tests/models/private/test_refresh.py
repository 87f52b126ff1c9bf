"""What a client gets, to somebody who knows all that the dealer does: shares that are uniform but for their sum.

Runs are repeated with the same masks, the same corrections and the same shares of all inputs. Only what the servers have
in common differs, so whatever is uniform from run to run is uniform given everything else.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch
from checks import chi_square
from lockstep import Session
from private import TINY, Private, share_tokens, tiny_model
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.private.inference import Response, audited_inference
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.audit import HASH_BITS
from mpcnet.randomness.dealer import DealerSource
from mpcnet.randomness.prg import Guard, Keystream
from mpcnet.randomness.source import ServerSource

RUNS = 24
LABELS = 3


class Known(Session):
    """A session whose masks and corrections are the same in every run."""

    def __init__(self) -> None:
        super().__init__(1)
        self._pairs = count()

    def sources(self) -> tuple[tuple[ServerSource, ServerSource], DealerSource]:
        pair, hashes = next(self._pairs), self.hashes(1)

        def masks(party: int) -> Keystream:
            return self.keystream(f"server{party}", 1, Guard())

        one, two = (
            ServerSource(party, masks(party), self.keystream("refresh", pair, Guard()), hashes) for party in (0, 1)
        )
        return (one, two), DealerSource((masks(0), masks(1)), hashes)


def responses(model: Private, tokens: Tokens, kind: AnswerKind) -> list[tuple[Response, Response]]:
    """Both servers', run by run."""
    shares, _ = share_tokens(model, tokens)
    session, found = Known(), []
    for _ in range(RUNS):
        run = session.run(
            lambda p, loaded, *x: audited_inference(p, loaded, x, tokens.mask, kind), model.loaded.results, *shares
        )
        found.append((run.results[0], run.results[1]))
    return found


def check_uniform(words: Tensor, bits: int) -> None:
    """Words of every run, [run, word]: all their bits, and all digits of six."""
    for low in range(0, max(bits - 5, 1), 6):
        size = min(bits - low, 6)
        assert abs(chi_square((words >> low & (1 << size) - 1).reshape(-1), 1 << size)) < 5, low


def verdict(response: Response) -> Tensor:
    assert response.out_of_range is not None
    return response.out_of_range.packed


def unpacked(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    return ring.unpack_bits(bits, shape).to(torch.int64)


@pytest.mark.parametrize("kind", ["logits", "label"])
def test_shares_of_answers(kind: AnswerKind) -> None:
    shape = replace(TINY, layers=1, head="classification", labels=LABELS, pooling="first")
    model, some = tiny_model("fast", "2quad", shape)
    tokens = Tokens(*(x.repeat(8, 1) for x in (some.ids, some.types, some.mask)))
    found = responses(model, tokens, kind)
    bits = found[0][0].values.bits
    words = torch.stack([torch.stack([response.values.value for response in pair]) for pair in found]).to(torch.int64)
    totals = words.sum(1) % (1 << bits)
    assert torch.equal(totals, totals[:1].expand_as(totals)), "masks and roundings are the same"
    for party in (0, 1):
        check_uniform(words[:, party], bits)


def test_shares_of_the_audit() -> None:
    """Of sentences in range the sum is 0; of one out of range it is uniform too, given all that was dealt."""
    model, some = tiny_model("fast", "2quad", replace(TINY, layers=1))
    tokens = Tokens(*(x.repeat(8, 1) for x in (some.ids, some.types, some.mask)))
    rows = model.config.formats.rows
    least = rows["layer0.out.square_sum"].low
    narrow = replace(model.config.formats, rows={site: replace(row, low=4 * least) for site, row in rows.items()})
    loaded = tuple(replace(part, config=replace(part.config, formats=narrow)) for part in model.loaded.results)
    strict = replace(model, loaded=replace(model.loaded, results=loaded))
    for audited, flagged in ((model, False), (strict, True)):
        shape = (2, len(tokens.ids), HASH_BITS)
        pairs = [[verdict(response) for response in pair] for pair in responses(audited, tokens, "logits")]
        shares = torch.stack([unpacked(torch.cat(pair), shape) for pair in pairs])  # [run, party, sentence, bit]
        for party in (0, 1):
            check_uniform(shares[:, party], 1)
        totals = shares.sum(1) % 2
        wrong = totals[0].any(-1)
        assert bool(wrong.any()) == flagged
        assert not totals[:, ~wrong].any()
        if flagged:
            check_uniform(totals[:, wrong], 1)
            assert int(totals[:, wrong].sum(0).max()) < RUNS, "no bit is the same in all runs"
