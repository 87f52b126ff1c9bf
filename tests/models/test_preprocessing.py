"""The tokenizer's digest, its copies, and the settings beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from mpcnet.errors import LocalConfigError
from mpcnet.models.preprocessing import Preprocessing, copy_tokenizer, lower_letters, tokenizer_digest

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "Old", "old", "ship", "sails")
SOME = Preprocessing("0" * 64, 256, "query: ", True, True, 16)


def save(folder: Path, **options: Any) -> Path:
    folder.mkdir()
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, **options).save_pretrained(folder)
    return folder


def test_round_trip_and_what_is_wrong() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(SOME.to_dict()))) == SOME
    with pytest.raises(LocalConfigError, match=r"missing fields \['prompt'\], unknown \['text'\]"):
        Preprocessing.from_dict({("text" if name == "prompt" else name): v for name, v in SOME.to_dict().items()})
    with pytest.raises(LocalConfigError, match="max_tokens: want int, got bool; prompt: want str, got NoneType"):
        Preprocessing.from_dict(SOME.to_dict() | {"max_tokens": True, "prompt": None})
    with pytest.raises(LocalConfigError, match="want 0 or more, got -1"):
        replace(SOME, max_tokens=-1)
    with pytest.raises(LocalConfigError, match="truncate_dim: want 0 or more, got -1"):
        replace(SOME, truncate_dim=-1)
    with pytest.raises(LocalConfigError, match="want 64 hex digits"):
        replace(SOME, tokenizer_sha256="0" * 63)


def test_the_digest_covers_every_file_and_nothing_else(tmp_path: Path) -> None:
    one, other = save(tmp_path / "one"), save(tmp_path / "other")
    assert tokenizer_digest(one) == tokenizer_digest(other)
    (other / "README.md").write_text("what does not count")
    (other / "config.json").write_text('{"hidden_size": 8}')
    assert tokenizer_digest(one) == tokenizer_digest(other)
    seen = {tokenizer_digest(one)}
    for name, content in (
        ("tokenizer_config.json", "{}"),
        ("vocab.txt", "a"),
        ("config.json", '{"model_type": "bert"}'),
    ):
        (other / name).write_text(content)
        seen.add(tokenizer_digest(other))
    (other / "vocab.txt").rename(other / "merges.txt")
    assert len(seen | {tokenizer_digest(other)}) == 5


def test_a_copy_is_the_same_tokenizer_and_loads_by_itself(tmp_path: Path) -> None:
    source = save(tmp_path / "source")
    (source / "tokenizer.json").unlink()  # as older models are stored: the class follows from the model's type
    (source / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (source / "config.json").write_text('{"model_type": "bert", "hidden_size": 8, "id2label": {"0": "secret"}}')
    copy_tokenizer(source, tmp_path / "client" / "tokenizer")
    copied = tmp_path / "client" / "tokenizer"
    assert tokenizer_digest(copied) == tokenizer_digest(source)
    assert "secret" not in (copied / "config.json").read_text()
    text = "the Old old ship"
    assert AutoTokenizer.from_pretrained(copied)(text)["input_ids"] == [2, 5, 6, 7, 8, 3]
    with pytest.raises(LocalConfigError, match=r"want a new folder .*, got File exists"):
        copy_tokenizer(source, copied)


def test_no_tokenizer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(LocalConfigError, match=r"want a tokenizer .* AutoTokenizer\.from_pretrained"):
        copy_tokenizer(tmp_path, tmp_path / "copy")
    (tmp_path / "vocab.txt").write_text("a")
    with pytest.raises(LocalConfigError, match=r"config\.json: want a JSON object"):
        tokenizer_digest(tmp_path)


@pytest.mark.parametrize("lowers", [False, True])
def test_letters_are_lowered_once_and_special_tokens_found_before(tmp_path: Path, lowers: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save(tmp_path / "cased", do_lower_case=lowers))
    for _ in range(2):
        lower_letters(tokenizer)
        assert tokenizer("The OLD [SEP] Ship")["input_ids"] == [2, 5, 7, 3, 8, 3]


def test_a_tokenizer_whose_letters_cannot_be_lowered() -> None:
    with pytest.raises(LocalConfigError, match="do_lower_case: want a fast tokenizer, got object; save one that"):
        lower_letters(object())
