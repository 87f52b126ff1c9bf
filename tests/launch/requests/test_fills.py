"""Words for masks: those that transformers' pipeline finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import save_head
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM
from transformers.pipelines.fill_mask import FillMaskPipeline

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.fills import fills
from mpcnet.launch.requests.view import Known
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.texts.tokens import Reader


def test_those_of_transformers(tmp_path: Path) -> None:
    folder = save_head(tmp_path, BertForMaskedLM, std=0.4)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer, found = AutoTokenizer.from_pretrained(folder), load_checkpoint(folder)
    pipeline = FillMaskPipeline(model=model, tokenizer=tokenizer)
    reader = Reader.of(folder, 64, None, found.shape)
    texts = ["the [MASK] eats", "a [MASK] ship [MASK], not [MASK]"]
    logits = published(found)(texts)
    for text, values in zip(texts, logits, strict=True):
        theirs = pipeline(text, top_k=4)
        theirs = theirs if isinstance(theirs[0], list) else [theirs]
        mine = fills(values, Known(text, reader.row(text), tokenizer), 4)
        assert [[word.token for word in words] for words in mine] == [[one["token"] for one in row] for row in theirs]
        assert [[word.text for word in words] for words in mine] == [
            [one["token_str"] for one in row] for row in theirs
        ]
        for words, row in zip(mine, theirs, strict=True):
            assert [word.score for word in words] == pytest.approx([one["score"] for one in row], rel=1e-9)
    tokens = reader.pad([reader.row(text) for text in texts])
    assert tokens.places is not None and tokens.places.tolist() == [[2, 2, 2], [2, 4, 7]]
    assert reader.pad([reader.row("the dog eats")]).places is None  # as for calibration
    with pytest.raises(LocalInputError, match=r"want a \[MASK\] to fill, got a text without"):
        reader.asked("the dog eats")
