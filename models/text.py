"""Texts to token ids with the model's own tokenizer. Runs at the client: ids are secret, lengths and masks are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mpcnet.errors import LocalConfigError, LocalInputError

Text: TypeAlias = "str | tuple[str, str]"


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A padded batch, int64 [batch, seq] each: ids; types (0 first text, 1 second); mask (1 token, 0 padding)."""

    ids: Tensor = field(repr=False)
    types: Tensor = field(repr=False)
    mask: Tensor

    def rows(self, rows: Sequence[int]) -> Tokens:
        """Some of the rows, padded to the longest of them."""
        chosen = torch.as_tensor(rows)
        width = int(self.mask[chosen].sum(1).max())
        return Tokens(*(x[chosen, :width] for x in (self.ids, self.types, self.mask)))


def by_length(tokens: Tokens, size: int, limit: int) -> list[list[int]]:
    """The rows of at most `limit` tokens, shortest first, in groups of `size`: neighbours need little padding."""
    counts = tokens.mask.sum(1)
    fitting = [row for row in counts.argsort(stable=True).tolist() if counts[row] <= limit]
    return [fitting[start : start + size] for start in range(0, len(fitting), size)]


def encode(tokenizer_dir: str | Path, texts: Sequence[Text], limit: int) -> Tokens:
    """Token ids of texts, or of pairs of texts, padded to the longest.

    :raises LocalInputError: no text, an empty text, or one of more than `limit` tokens (the error says which).
    :raises LocalConfigError: there is no tokenizer in `tokenizer_dir`.
    """
    if not texts:
        raise LocalInputError("texts: want at least one, got none")
    tokenizer = load_tokenizer(tokenizer_dir)
    rows = [_encode_one(tokenizer, text, f"text {i + 1} of {len(texts)}", limit) for i, text in enumerate(texts)]
    ids, types, mask = (
        pad_sequence([torch.tensor(row[key]) for row in rows], batch_first=True, padding_value=padding)
        for key, padding in (("input_ids", tokenizer.pad_token_id), ("token_type_ids", 0), ("attention_mask", 0))
    )
    return Tokens(ids, types, mask)


def encode_full(tokenizer_dir: str | Path, texts: Sequence[Text], length: int) -> Tokens:
    """Rows of exactly `length` tokens and no padding: all texts one after another, cut into pieces.

    :raises LocalInputError: the texts do not fill one row.
    :raises LocalConfigError: there is no tokenizer in `tokenizer_dir`.
    """
    tokenizer = load_tokenizer(tokenizer_dir)
    joined = " ".join(part for text in texts for part in parts(text))
    stream = torch.tensor(tokenizer(joined, add_special_tokens=False, verbose=False)["input_ids"])
    inner = length - 2  # [CLS] and [SEP]
    if inner < 1 or len(stream) < inner:
        raise LocalInputError(f"texts: want at least {length} tokens of 3 or more, got {len(stream) + 2}")
    pieces = stream[: len(stream) // inner * inner].reshape(-1, inner)
    first, last = (torch.full((len(pieces), 1), id) for id in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    ids = torch.cat([first, pieces, last], dim=1)
    return Tokens(ids, torch.zeros_like(ids), torch.ones_like(ids))


def parts(text: Text) -> tuple[str, ...]:
    """One text, or the two of a pair."""
    return (text,) if isinstance(text, str) else text


def _encode_one(tokenizer: Any, text: Text, which: str, limit: int) -> Any:
    for part in parts(text):
        if not tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]:
            raise LocalInputError(f"{which}: want words, got an empty text")
    row = tokenizer(*parts(text), return_token_type_ids=True, verbose=False)
    count = len(row["input_ids"])
    if count > limit:
        raise LocalInputError(f"{which}: want at most {limit} tokens, got {count}")
    return row


def load_tokenizer(tokenizer_dir: str | Path) -> Any:
    """The model's own tokenizer.

    :raises LocalConfigError: there is none.
    """
    from transformers import AutoTokenizer  # two seconds to import: only who tokenises waits for it

    try:
        return AutoTokenizer.from_pretrained(str(tokenizer_dir), local_files_only=Path(tokenizer_dir).is_dir())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{tokenizer_dir}: want a directory or hub name with a tokenizer, got none") from error
