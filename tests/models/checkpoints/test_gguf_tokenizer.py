"""A tokenizer out of a GGUF file alone: the original's tokens for texts of many scripts, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_models import save_embedding, save_weights
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import gguf_tokenizer
from mpcnet.models.checkpoints.configuration import tokenizer_folder
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.checkpoints.gguf_file import GgufFile
from mpcnet.models.checkpoints.gguf_tokenizer import tokenizer_of
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats.calibration_batches import texts_by_kind
from mpcnet.models.preprocessing import TOKENIZER_FILES, copy_tokenizer, tokenizer_digest

converted = pytest.importorskip("converted")
gguf = pytest.importorskip("gguf", reason="the extra mpcnet[gguf] is not installed")
LINES = [text for texts in texts_by_kind().values() for text in texts if isinstance(text, str)]
ODD = [
    "",
    "  two  spaces ",
    "tab\tand\nline",
    "É Ü ß ﬁ Å",
    "[MASK] x [SEP]",
    "a<mask> b </s>",
    "zero\u200bwidth\ufeff",
    "�\x00\x07",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def alone(folder: Path) -> Path:
    """A folder of a GGUF file and a config.json."""
    converted.convert(folder)
    converted.strip(folder)
    return folder


def same(found: Any, original: Any) -> None:
    for text in LINES + ODD:
        assert found(text)["input_ids"] == original(text)["input_ids"], text
    one, two = found(LINES[0], LINES[1]), original(LINES[0], LINES[1])
    assert one["input_ids"] == two["input_ids"] and one.get("token_type_ids") == two.get("token_type_ids")
    assert (found.mask_token_id, found.pad_token_id, found.sep_token_id) == (
        original.mask_token_id, original.pad_token_id, original.sep_token_id
    )  # fmt: skip
    assert set(found.all_special_ids) == set(original.all_special_ids)


@pytest.fixture(scope="module")
def demo() -> Path:
    return demo_model_dir()  # once: it looks at all of the files


@pytest.fixture
def bert(demo: Path, tmp_path: Path) -> Path:
    """A small BERT of the demo model's words."""
    folder = tmp_path / "bert"
    save_weights(folder, words=30522, hidden_size=16)
    for name in TOKENIZER_FILES:
        if (demo / name).is_file():
            shutil.copyfile(demo / name, folder / name)
    return folder


def test_word_pieces(bert: Path, tmp_path: Path) -> None:
    original = AutoTokenizer.from_pretrained(bert)
    found = load_checkpoint(alone(bert))
    same(AutoTokenizer.from_pretrained(found.source), original)
    assert found.preprocessing is not None
    copy_tokenizer(found.source, tmp_path / "client")
    assert tokenizer_digest(tmp_path / "client") == found.preprocessing.tokenizer_sha256
    assert tokenizer_folder(str(bert), "") == found.source  # made once


def refusal(folder: Path) -> str:
    with pytest.raises(LocalConfigError) as caught:
        tokenizer_of(GgufFile.open(folder / "model-F32.gguf"), "bert")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; put the original model's tokenizer.json and tokenizer_config.json beside it")
    return str(caught.value)


def test_a_refusal_comes_with_the_models_others(tmp_path: Path) -> None:
    save_embedding(tmp_path, vocab_size=92)
    alone(tmp_path)
    with pytest.raises(LocalConfigError, match=r"cannot run privately: model-F32\.gguf: want tokens as of bert-bge or"):
        load_checkpoint(tmp_path)


def test_capital_letters_that_are_kept(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same words: nothing else in the file tells."""
    words = AutoTokenizer.from_pretrained(bert).get_vocab()
    BertTokenizerFast(vocab=words, do_lower_case=False).save_pretrained(bert)
    wanted = converted.fingerprint(bert)
    monkeypatch.setattr(converted, "NAMES", {wanted: "bert-bge"})
    monkeypatch.setattr(gguf_tokenizer, "FINGERPRINTS", {"bert": {"bert-bge": wanted}})
    assert "model-F32.gguf: want the tokens that bert-bge makes, got others of its words" in refusal(alone(bert))


def test_accents_that_are_kept(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the one text does not tell, but a word with one does."""
    path = bert / "tokenizer.json"
    known = json.loads(path.read_text())
    known["model"]["vocab"]["é"] = known["model"]["vocab"].pop("[unused1]")
    known["normalizer"]["strip_accents"] = False
    path.write_text(json.dumps(known))
    assert converted.fingerprint(bert) in converted.NAMES
    assert "want words without accents, got 'é'" in refusal(alone(bert))


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (b"bert", b"plm4", "want a tokenizer of kind bert, t5, gpt2, got plm4"),
        (b"jina-v2-en", b"jina-v9-en", "want tokens as of bert-bge or jina-v2-en, got jina-v9-en"),
        (b".mask_token_id", b".mork_token_id", "want tokenizer.ggml.mask_token_id, got none"),
        (b"", b"", "want words without accents, got 0 words beyond ASCII, which do not tell"),
    ],
)
def test_what_a_file_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes, says: str
) -> None:
    save_embedding(tmp_path)
    monkeypatch.setattr(converted, "NAMES", {converted.fingerprint(tmp_path): "jina-v2-en"})
    path = alone(tmp_path) / "model-F32.gguf"
    data, kind = path.read_bytes(), (8).to_bytes(4, "little") + (4).to_bytes(8, "little")
    whole = (kind + before, kind + after) if before == b"bert" else (before, after)
    place = data.index(b"tokenizer.ggml.model") if before == b"bert" else 0
    path.write_bytes(data[:place] + data[place:].replace(*whole, 1))
    assert says in refusal(tmp_path)


def test_sentence_pieces(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    folder = converted.save_pieces(tmp_path / "xlm", LINES[:40] + LINES[-10:])
    original = AutoTokenizer.from_pretrained(folder)
    found = load_checkpoint(alone(folder))
    same(AutoTokenizer.from_pretrained(found.source), original)


def test_byte_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "roberta"
    made = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(LINES, vocab_size=1200, special_tokens=special, show_progress=False)
    save_weights(
        folder, lambda config: RobertaModel(RobertaConfig(**config.to_diff_dict())), words=1203, pad_token_id=1
    )
    made.save_model(str(folder))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    path = folder / "tokenizer.json"
    known = json.loads(path.read_text())
    next(row for row in known["added_tokens"] if row["content"] == "<mask>")["lstrip"] = True
    path.write_text(json.dumps(known))
    original, wanted = AutoTokenizer.from_pretrained(folder), converted.fingerprint(folder)
    alone(folder)
    assert "want the tokens that roberta-bpe makes, got others of its words" in refusal(folder)
    monkeypatch.setattr(gguf_tokenizer, "FINGERPRINTS", {"gpt2": {"roberta-bpe": wanted}})
    same(AutoTokenizer.from_pretrained(load_checkpoint(folder).source), original)
