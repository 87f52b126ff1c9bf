"""A tokenizer of what a GGUF file says of it, where that is enough to be the original one's; otherwise it is refused.

The file has words, merges and scores. Whether letters are lowered is not in it, but a name is ("tokenizer.ggml.pre"),
which llama.cpp's converter takes from a hash of the tokens that the original makes of one text. What is built here has
to make the same of it. Kinds without such a name have all of their settings in the file.

It is written into the user's cache, from where it loads like any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.files import user_cache
from mpcnet.models.checkpoints.gguf_file import GgufFile

VERSION = 1  # of what is built: another one is not taken from the cache
KEYS: Mapping[str, str] = {  # of special tokens; the separator's name is spelt so
    "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask", "bos": "bos", "eos": "eos",
}  # fmt: skip
FACTS = ("tokens", "token_type", "scores", "merges", "model", "pre", "precompiled_charsmap", "add_space_prefix")
NORMAL, UNKNOWN, CONTROL, UNUSED = 1, 2, 3, 5  # llama.cpp's types of tokens
SPACE = "\u2581"  # in front of words
WORD_PIECES = "0876d13b50744004aa9aeae05e7b0647eac9d801b5ba4668afc01e709c15e19f"  # bert-base-uncased's
FINGERPRINTS: Mapping[str, Mapping[str, str]] = {  # SHA-256 by name, of each kind
    "bert": {"bert-bge": WORD_PIECES, "jina-v2-en": WORD_PIECES},
    "gpt2": {"roberta-bpe": "8b5a93ed704057481f240da0be7e7dca721d7f8f4755263b6807227a2cbeae65"},
}
SAMPLE = (  # the text whose tokens are hashed
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 3 "
    "33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= "
    "нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure "
    "I'll make it, 'D you like some tea? We'Ve a'lL"
)
FOREIGN = 100  # words beyond ASCII, of which none has an accent: then accents were taken off before they were counted
BESIDE = "put the original model's tokenizer.json and tokenizer_config.json beside it"


@dataclass(frozen=True, slots=True)
class _Words:
    """The file's vocabulary: words by their numbers, types of them, and special tokens' numbers by their names."""

    file: GgufFile
    words: Sequence[str]
    types: Sequence[int]
    special: Mapping[str, int]

    @classmethod
    def of(cls, file: GgufFile) -> _Words:
        words, types = (file.value(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
        if not isinstance(words, list) or not isinstance(types, list) or len(words) != len(types):
            raise _refused(file, "want its words and their types", "none")
        ids = {name: file.value(f"tokenizer.ggml.{key}_token_id") for name, key in KEYS.items()}
        special = {name: place for name, place in ids.items() if isinstance(place, int) and place < len(words)}
        if "bos" in special:  # newer files have no other name for what a text begins with
            special.setdefault("cls", special["bos"])
        return cls(file, words, types, special)

    def only(self, *names: str) -> _Words:
        """With these special tokens.

        :raises LocalConfigError: one is not named.
        """
        missing = [KEYS[name] for name in names if name not in self.special]
        if missing:
            raise _refused(self.file, f"want tokenizer.ggml.{missing[0]}_token_id", "none")
        return replace(self, special={name: self.special[name] for name in names})

    def plain(self, *kinds: int) -> None:
        """:raises LocalConfigError: a token is none of these, nor a special one, so what else it does is not said."""
        known = set(self.special.values())
        for place, kind in enumerate(self.types):
            if kind not in kinds and place not in known:
                raise _refused(self.file, "want words and named special tokens alone", f"{self.words[place]!r}")


def tokenizer_of(file: GgufFile, model_type: str) -> Path:
    """A folder with the tokenizer that the file describes.

    :raises LocalConfigError: it does not say enough, or the cache cannot be written.
    """
    key = hashlib.sha256(f"{VERSION} {model_type}".encode())
    for name in (*FACTS, *(f"{kind}_token_id" for kind in KEYS.values())):
        key.update(f"\n{name} {file.value(f'tokenizer.ggml.{name}')!r}".encode("utf-8", "surrogatepass"))
    folder = user_cache() / "tokenizers" / key.hexdigest()
    if folder.is_dir():
        return folder
    known, settings = _built(file)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        (made / "tokenizer.json").write_text(known.to_str(pretty=True), "utf-8")
        (made / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), "utf-8")
        (made / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
        os.replace(made, folder)
    except OSError as error:
        if not folder.is_dir():  # or somebody else has just made it
            raise LocalConfigError(f"{folder}: want to write the tokenizer there, got {error.strerror}") from error
    return folder


def _built(file: GgufFile) -> tuple[Any, dict[str, Any]]:
    kind, named = file.value("tokenizer.ggml.model"), file.value("tokenizer.ggml.pre")
    builders: Mapping[Any, Callable[[_Words], tuple[Any, Mapping[str, Any]]]] = {
        "bert": _word_pieces, "t5": _unigram, "gpt2": _byte_pairs,
    }  # fmt: skip
    if kind not in builders:
        raise _refused(file, f"want a tokenizer of kind {', '.join(builders)}", f"{kind}")
    prints = FINGERPRINTS.get(kind)
    if prints is not None and named not in prints:
        raise _refused(file, f"want tokens as of {' or '.join(prints)}", f"{named}")
    words = _Words.of(file)
    try:
        known, settings = builders[kind](words)
        got = hashlib.sha256(str(known.encode(SAMPLE).ids).encode()).hexdigest()
    except LocalConfigError:
        raise
    except Exception as error:  # the tokenizers library raises bare ones
        raise _refused(file, "want words that make a tokenizer", f"{error}") from error
    if prints is not None and got != prints[named]:
        raise _refused(file, f"want the tokens that {named} makes", "others of its words")
    return known, {"tokenizer_class": "PreTrainedTokenizerFast", **settings}


def _word_pieces(words: _Words) -> tuple[Any, dict[str, Any]]:
    """BERT's, of lower letters without accents: the one kind of them whose name is known."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = words.only("unk", "sep", "pad", "cls", "mask")
    words.plain(NORMAL, UNUSED)
    vocabulary: dict[str, int] = {}
    special = set(words.special.values())
    for place, (word, kind) in enumerate(zip(words.words, words.types, strict=True)):
        if kind == UNUSED:  # a row of the table without a word
            continue
        begins = word.startswith(SPACE) and word != SPACE
        whole = word if place in special else word[1:] if begins else f"##{word}"
        if whole in vocabulary:
            raise _refused(words.file, "want each word once", f"{whole!r} twice")
        vocabulary[whole] = place
    foreign = [word for word in vocabulary if not word.isascii()]
    accents = [word for word in foreign if any(map(_mark, unicodedata.normalize("NFD", word)))]
    if accents or len(foreign) < FOREIGN:
        got = f"{accents[0]!r}" if accents else f"{len(foreign)} words beyond ASCII, which do not tell"
        raise _refused(words.file, "want words without accents", got)
    names = {name: words.words[place] for name, place in words.special.items()}
    known = Tokenizer(models.WordPiece(vocabulary, unk_token=names["unk"]))
    known.normalizer = normalizers.BertNormalizer(lowercase=True)
    known.pre_tokenizer, known.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    known.add_special_tokens(_added(words, names))
    known.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']}:0 $A:0 {names['sep']}:0",
        pair=f"{names['cls']}:0 $A:0 {names['sep']}:0 $B:1 {names['sep']}:1",
        special_tokens=[(names[name], words.special[name]) for name in ("cls", "sep")],
    )
    return known, _settings(names, types=True)


def _mark(letter: str) -> bool:
    return unicodedata.category(letter) == "Mn"


def _unigram(words: _Words) -> tuple[Any, dict[str, Any]]:
    """XLM-RoBERTa's. sentencepiece's file lacks its mask, which the converter then calls an unused word."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = words.only("unk", "sep", "pad", "cls", "mask", "bos", "eos")
    words.plain(NORMAL, UNUSED)
    scores, mask = words.file.value("tokenizer.ggml.scores"), words.special["mask"]
    pieces = list(words.words)
    pieces[mask] = "<mask>" if words.types[mask] == UNUSED else pieces[mask]
    used = [place for place, kind in enumerate(words.types) if kind != UNUSED or place == mask]
    if not isinstance(scores, list) or len(scores) != len(pieces) or used != list(range(len(used))):
        raise _refused(words.file, "want words and scores without a gap", "others")
    rows = [(pieces[place], 0.0 if place == mask else float(scores[place])) for place in used]
    known = Tokenizer(models.Unigram(rows, unk_id=words.special["unk"], byte_fallback=False))
    if table := words.file.value("tokenizer.ggml.precompiled_charsmap"):
        known.normalizer = normalizers.Precompiled(bytes(table))
    prefix = "always" if words.file.value("tokenizer.ggml.add_space_prefix") is not False else "never"
    known.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme=prefix)]
    )
    known.decoder = decoders.Metaspace(SPACE, prepend_scheme=prefix)
    names = {name: pieces[place] for name, place in words.special.items()}
    known.add_special_tokens(_added(words, names, strip=True))
    known.post_processor = processors.TemplateProcessing(
        single=[names["bos"], "$A", names["eos"]],
        pair=[names["bos"], "$A", names["eos"], names["eos"], "$B", names["eos"]],
        special_tokens=[(names[name], words.special[name]) for name in ("bos", "eos")],
    )
    return known, _settings(names, types=False)


def _byte_pairs(words: _Words) -> tuple[Any, dict[str, Any]]:
    """RoBERTa's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    words = words.only("unk", "sep", "pad", "cls", "mask", "bos", "eos")
    words.plain(NORMAL, UNUSED)
    vocabulary = {word: place for place, word in enumerate(words.words) if words.types[place] != UNUSED}
    rows = [str(row).partition(" ") for row in words.file.value("tokenizer.ggml.merges") or []]
    merges = [(first, second) for first, _, second in rows]
    known = Tokenizer(models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    known.pre_tokenizer, known.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    names = {name: words.words[place] for name, place in words.special.items()}
    known.add_special_tokens(_added(words, names, strip=True))
    ends = [(names[name], words.special[name]) for name in ("sep", "cls")]
    known.post_processor = processors.RobertaProcessing(ends[0], ends[1], trim_offsets=True, add_prefix_space=False)
    return known, _settings(names, types=False)


def _added(words: _Words, names: Mapping[str, str], *, strip: bool = False) -> list[Any]:
    """Special tokens in the order of their numbers. `strip`: the mask takes the space before it, as RoBERTa's does."""
    from tokenizers import AddedToken

    places = sorted({place: name for name, place in words.special.items()}.items())
    return [
        AddedToken(names[name], lstrip=strip and name == "mask", normalized=False, special=True) for _, name in places
    ]


def _settings(names: Mapping[str, str], *, types: bool) -> dict[str, Any]:
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return {"model_input_names": inputs, **{f"{name}_token": word for name, word in names.items()}}


def _refused(file: GgufFile, want: str, got: str) -> LocalConfigError:
    return LocalConfigError(f"{file.path.name}: {want}, got {got[:80]}; {BESIDE}")
