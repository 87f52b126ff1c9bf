"""Tokenizers of every kind: a client's copy gives the ids that the model's own folder gives, or there is no model."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import VOCABULARY, save_weights, save_words
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats.calibration_batches import built_in_batches, texts_by_kind
from mpcnet.models.preprocessing import copy_tokenizer, tokenizer_digest
from mpcnet.models.texts.tokens import Reader, Text, load_tokenizer

TEXTS: tuple[Text, ...] = (
    "the dog eats",
    "The old ship, and 12 cats!",
    "é 你好 x",
    "<mask> [MASK] </s>",
    ("a dog", "the cat"),
)
LINES = [text for text in texts_by_kind()["english"] if isinstance(text, str)]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def kind_of(folder: Path, model_type: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def word_pieces(folder: Path) -> None:
    """A slow BERT's: vocab.txt alone."""
    kind_of(folder, "bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")


def bytes_of_roberta(folder: Path) -> None:
    """vocab.json and merges.txt, as older RoBERTas are stored."""
    kind_of(folder, "roberta")
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(LINES, vocab_size=400, special_tokens=ROBERTA, show_progress=False)
    made.save_model(str(folder))


def unigram(folder: Path) -> None:
    """tokenizer.json, with special tokens of its own."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<<pad>>", "<<unk>>", "<<begin>>", "<<end>>"]
    made.train_from_iterator(
        LINES, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<<unk>>", show_progress=False)
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)


def left_padded(folder: Path) -> None:
    save_words(folder, padding_side="left", truncation_side="left")


def sentence_pieces(model_type: str, name: str, **options: str) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        library = pytest.importorskip("sentencepiece")
        pytest.importorskip("google.protobuf")
        kind_of(folder, model_type)
        model = io.BytesIO()
        library.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES),
            model_writer=model,
            vocab_size=300,
            model_type="unigram",
            minloglevel=2,
            **options,
        )
        (folder / name).write_bytes(model.getvalue())

    return save


KINDS: dict[str, Callable[[Path], None]] = {
    "wordpiece": word_pieces,
    "byte-level bpe": bytes_of_roberta,
    "unigram": unigram,
    "left padding": left_padded,
    "xlm-roberta": sentence_pieces("xlm-roberta", "sentencepiece.bpe.model"),
    "camembert": sentence_pieces("camembert", "sentencepiece.bpe.model"),
    "albert": sentence_pieces("albert", "spiece.model", control_symbols="[CLS],[SEP],[MASK],<pad>"),
    "deberta": sentence_pieces("deberta-v2", "spm.model", control_symbols="[PAD],[CLS],[SEP],[MASK]"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clients_copy_gives_the_same_ids(tmp_path: Path, kind: str) -> None:
    source, copied = tmp_path / "model", tmp_path / "client"
    source.mkdir()
    KINDS[kind](source)
    copy_tokenizer(source, copied)
    assert tokenizer_digest(copied) == tokenizer_digest(source)
    alone, reader = AutoTokenizer.from_pretrained(source), Reader.of(copied, 64)
    for text in TEXTS:
        want = alone(*((text,) if isinstance(text, str) else text))
        row = reader.row(text)
        assert (row.ids, row.types) == (want["input_ids"], want.get("token_type_ids") or [0] * len(row.ids)), text
    assert len({tuple(reader.row(text).ids) for text in TEXTS}) == len(TEXTS)


@pytest.mark.parametrize("kind", ["byte-level bpe", "unigram", "xlm-roberta"])
def test_calibration_texts_in_each_kind(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path)
    tokenizer, folder = load_tokenizer(tmp_path), tmp_path / "model"
    tokenizer.save_pretrained(folder)
    save_weights(folder, words=len(tokenizer))
    batches = built_in_batches(load_checkpoint(folder), 64)
    widest, largest = max(batch.ids.shape[1] for batch in batches), max(int(batch.ids.max()) for batch in batches)
    assert widest == 64 and len(tokenizer) - 20 < largest < len(tokenizer)


def test_sentencepiece_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "sentencepiece" else real(name, *more)
    )
    kind_of(tmp_path, "xlm-roberta")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"no model")
    with pytest.raises(
        LocalConfigError,
        match=r"want sentencepiece and protobuf for sentencepiece\.bpe\.model, got no sentencepiece.*; run: pip",
    ):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_its_own_code(tmp_path: Path) -> None:
    save_weights(tmp_path)
    save_words(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoTokenizer": ["code.Own", None]}}))
    with pytest.raises(
        LocalConfigError, match=r"tokenizer_config\.json: want a tokenizer of transformers' own code, got auto_map"
    ):
        load_checkpoint(tmp_path)
