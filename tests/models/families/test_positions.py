"""Positions: where a family's table begins, and where a model without one ends."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import small_models
import torch
from encoders import save_encoder, small_encoder
from small_families import small

from mpcnet.errors import LocalInputError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_hidden
from mpcnet.models.float_model.reference import forward
from mpcnet.models.texts.tokens import Tokens


def test_sinusoidal_positions_are_read() -> None:
    checkpoint, tokens, want = small("distilbert", sinusoidal_pos_embds=True)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_robertas_positions_begin_behind_the_paddings(pad: int) -> None:
    checkpoint, _, _ = small("roberta", pad_token_id=pad)
    assert checkpoint.shape.positions == 26 - pad - 1
    with TemporaryDirectory() as folder:
        found = small_encoder(Path(folder), "roberta", pad_token_id=pad)
        length = found.shape.positions  # all of them
        ids = 4 + torch.arange(2 * length).reshape(2, length) % 46
        mask = torch.ones_like(ids)
        mask[1, 5:], ids[1, 5:] = 0, pad
        tokens = Tokens(ids, torch.zeros_like(ids), mask)
        want = huggingface_hidden(found, tokens)
    folded = fold(found)
    got = forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[mask.bool()].abs().max() < 1e-9
    more = torch.cat([ids, ids[:, :1]], 1)
    with pytest.raises(LocalInputError, match=f"want at most {length} positions"):
        forward(found.shape, folded, more, torch.zeros_like(more), torch.ones_like(more))
    with pytest.raises(LocalInputError, match="want padding after the tokens"):
        forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask.flip(1))


def test_texts_are_not_cut_where_a_model_without_a_table_goes_on(tmp_path: Path) -> None:
    """They are refused behind the positions that are calibrated."""
    save_encoder(tmp_path, "nomic_bert", max_position_embeddings=8192)
    small_models.save_words(tmp_path)
    small_models.layout(tmp_path, sentence_bert_config={"max_seq_length": 8192})
    found = load_checkpoint(tmp_path)
    assert found.preprocessing is not None
    assert (found.shape.positions, found.preprocessing.max_tokens) == (2048, 0)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    shorter = load_checkpoint(tmp_path).preprocessing
    assert shorter is not None and shorter.max_tokens == 512
