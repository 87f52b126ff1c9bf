"""What is done to a text before the private model, and to the vector after it: public, and agreed like the program.

A client tokenises by itself, so another tokenizer, prompt or length than the model was made for would be another
answer. The program therefore holds these settings and a digest of the tokenizer's files, which each client's folder
brings.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError

TOKENIZER_FILES = (  # all that transformers reads of a tokenizer, whichever of them a folder holds
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "spm.model",
    "sentencepiece.model",
    "bpe.codes",
    "dict.txt",
)
IMAGES = ("dinov2", "dinov2_with_registers", "vit")  # types of models that have an image processor instead
PROCESSOR = "preprocessor_config.json"
SAVE_PROCESSOR = "save it beside the model: AutoImageProcessor.from_pretrained(NAME).save_pretrained(DIR)"
CONFIG = "config.json"  # of it a tokenizer needs the model's type alone, where it does not name its own class


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a client makes token ids of a text, or pixels of an image, and an embedding of the vector that it gets.

    tokenizer_sha256: :func:`tokenizer_digest` of the tokenizer's folder, or of the image processor's.
    max_tokens: longer texts are cut there, special tokens included, as sentence-transformers cuts them; 0: they are
    refused where the model's positions end.
    prompt: stands before every text (of a pair, before the first).
    lower_case: the tokenizer lowers letters first (:func:`lower_letters`).
    normalize: the client divides the vector by its length.
    truncate_dim: the answer is so many first values of the vector, normalised before, as sentence-transformers cuts it;
    0: all of them.

    :raises LocalConfigError: a field has another type, or is out of range.
    """

    tokenizer_sha256: str
    max_tokens: int = 0
    prompt: str = ""
    lower_case: bool = False
    normalize: bool = False
    truncate_dim: int = 0

    def __post_init__(self) -> None:
        types = {"tokenizer_sha256": str, "max_tokens": int, "prompt": str, "lower_case": bool, "normalize": bool}
        types |= {"truncate_dim": int}
        wrong = [
            f"{name}: want {kind.__name__}, got {type(getattr(self, name)).__name__}"
            for name, kind in types.items()
            if type(getattr(self, name)) is not kind
        ]
        if not wrong and not re.fullmatch("[0-9a-f]{64}", self.tokenizer_sha256):
            wrong.append("tokenizer_sha256: want 64 hex digits")
        if not wrong:
            sizes = {"max_tokens": self.max_tokens, "truncate_dim": self.truncate_dim}
            wrong += [f"{name}: want 0 or more, got {size}" for name, size in sizes.items() if size < 0]
        if wrong:
            raise LocalConfigError("preprocessing: " + "; ".join(wrong))

    def finished(self, vectors: Tensor) -> Tensor:
        """Embeddings [n, columns] as the answer is: normalised and cut, if these settings say so."""
        found = torch.nn.functional.normalize(vectors, dim=1) if self.normalize else vectors
        return found[:, : self.truncate_dim] if self.truncate_dim else found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and msgpack."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`.

        :raises LocalConfigError: a field is missing or unknown, or a value is out of range.
        """
        want = {field.name for field in fields(cls)}
        if set(values) != want:
            raise LocalConfigError(
                f"preprocessing: missing fields {sorted(want - set(values))}, unknown {sorted(set(values) - want)}"
            )
        return cls(**values)


def tokenizer_digest(folder: str | Path) -> str:
    """SHA-256 over the model's type, and the name, size and bytes of each of the tokenizer's files, in a fixed order;
    or of the image processor's one file.

    :raises LocalConfigError: there is no tokenizer in the folder, or a file cannot be read.
    """
    folder = Path(folder)
    state = hashlib.sha256(json.dumps(_model_type(folder)).encode())
    for name in _present(folder):
        content = (folder / name).read_bytes()
        state.update(f"\n{name} {len(content)}\n".encode())
        state.update(content)
    return state.hexdigest()


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copy the files of a tokenizer, or of an image processor, into a new folder, so that it has the same digest there
    and loads by itself.

    Of config.json only the model's type goes along: which tokenizer that is, and nothing else of the model.

    :raises LocalConfigError: there is no tokenizer in `source`, or `target` cannot be written.
    """
    source, target = Path(source), Path(target)
    names = _present(source)
    try:
        target.mkdir(parents=True)
        for name in names:
            shutil.copyfile(source / name, target / name)
        if kind := _model_type(source):
            (target / CONFIG).write_text(json.dumps({"model_type": kind}) + "\n", "utf-8")
    except OSError as error:
        raise LocalConfigError(f"tokenizer: want a new folder {target}, got {error.strerror}") from error


def lower_letters(tokenizer: Any) -> None:
    """Let a loaded tokenizer lower its letters first, as sentence-transformers' `do_lower_case` does.

    Not the same as lowering the text: names of special tokens in it are found before.

    :raises LocalConfigError: it is none of the tokenizers library, whose steps can be changed.
    """
    from tokenizers.normalizers import Lowercase, Sequence

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise LocalConfigError(
            f"do_lower_case: want a fast tokenizer, got {type(tokenizer).__name__}; save one that lowers letters itself"
        )
    described = json.loads(backend.to_str())["normalizer"] or {}
    steps = described.get("normalizers", [described])
    if any(step.get("type") == "Lowercase" or step.get("lowercase") is True for step in steps):
        return
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])])


def has_tokenizer(folder: str | Path) -> bool:
    """Whether one of its files is there, or an image processor's."""
    return bool(_files(Path(folder)))


def _files(folder: Path) -> list[str]:
    names = (PROCESSOR,) if _reads_images(folder) else TOKENIZER_FILES
    return [name for name in names if (folder / name).is_file()]


def _reads_images(folder: Path) -> bool:
    try:
        return _model_type(folder) in IMAGES
    except LocalConfigError:  # a damaged config.json, of which others tell
        return False


def _present(folder: Path) -> list[str]:
    names = _files(folder)
    if not names and _reads_images(folder):
        raise LocalConfigError(f"{folder}: want {PROCESSOR}, as models of images have it, got none; {SAVE_PROCESSOR}")
    if not names:
        raise LocalConfigError(
            f"{folder}: want a tokenizer (tokenizer.json, or vocab.txt, and their like), got none; "
            "save it beside the model: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIR)"
        )
    return names


def _model_type(folder: Path) -> str:
    """What config.json says, "" if there is none or it says nothing."""
    path = folder / CONFIG
    try:
        kind = checked_json.mapping(path.read_bytes()).get("model_type") if path.is_file() else None
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{path}: want a JSON object, got {error}") from error
    return str(kind or "")
