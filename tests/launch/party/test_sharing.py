"""A client's shares: small, uniform, and put together again as they were."""

from dataclasses import replace

import pytest
import torch
from parties import SHAPE, some_tokens, tiny
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.launch.party import sharing
from mpcnet.models.families.config import Config, Embedding
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part

PURPOSE = "request"
EMBEDDINGS: tuple[Embedding, ...] = ("private", "client")


def upload(config: Config, size: Size, words: list[Tensor], party: int) -> tuple[int, list[Tensor]]:
    """Bytes of what a server is sent, seed and padding mask included, and what it makes of it."""
    split = sharing.split_tokens(config, size, words, PURPOSE)
    raw = [array for _, array in split.explicit[party]]
    shares = sharing.expand_tokens(config, size, party, split.seeds[party], raw, PURPOSE)
    mask = Part(1, (size.batch, size.length))
    return sharing.SEED.nbytes + mask.nbytes + sum(array.nbytes for array in raw), shares


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("lengths", [[1], [5, 3], [16]], ids=str)
def test_what_is_shared_comes_out(embedding: Embedding, lengths: list[int]) -> None:
    """Of an odd and an even number of tokens: both halves in their places."""
    model, tokens = tiny(), some_tokens(lengths)
    config = model.config(embedding=embedding)
    size = Size(*tokens.ids.shape)
    words = encode_tokens(config, tokens, model.folded)
    split = sharing.split_tokens(config, size, words, PURPOSE)
    first, second = (
        sharing.expand_tokens(
            config, size, party, split.seeds[party], [raw for _, raw in split.explicit[party]], PURPOSE
        )
        for party in (0, 1)
    )
    assert len(words) == len(config.inputs) == (1 if embedding == "client" else 2)
    for given, one, two, word in zip(config.inputs, first, second, words, strict=True):
        assert torch.equal(ring.reduce(one + two, given.bits), ring.reduce(word, given.bits))
    parts = sharing.token_parts(config, size)
    for party in (0, 1):
        assert [part for part, _ in split.explicit[party]] == sharing.explicit_parts(parts, party)


@pytest.mark.parametrize(("vocab", "types", "most"), [(30_522, 2, 250), (50_265, 1, 180), (250_002, 1, 250)])
def test_an_upload_is_small(vocab: int, types: int, most: int) -> None:
    """128 tokens of a real vocabulary: an index for each, in whole bytes."""
    config = replace(tiny().config(), shape=replace(SHAPE, vocab=vocab, types=types, positions=128))
    size = Size(1, 128)
    words = [torch.zeros(1, 128, dtype=ring.dtype(given.bits)) for given in config.inputs]
    for party in (0, 1):
        assert upload(config, size, words, party)[0] <= most


def test_shares_are_uniform_over_their_ring() -> None:
    """What is sent has no bit above the ring, and every bit below it now and then, for indices that are all 0."""
    config = tiny().config()
    size = Size(40, 16)
    words = [torch.zeros(40, 16, dtype=torch.uint8) for _ in config.inputs]
    split = sharing.split_tokens(config, size, words, PURPOSE)
    for explicit in split.explicit:
        for part, raw in explicit:
            assert int(raw.max()) >> part.bits == 0
            for place in range(part.bits):
                assert 0.35 < float((raw >> place & 1).mean()) < 0.65
