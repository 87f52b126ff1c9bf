"""How the model owner and the client split their secrets between the servers.

For each array one server expands its share from a seed (32 bytes on the wire) and the other receives the difference.
The explicit half alternates, so that both links carry the same load.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.models.families.config import Config
from mpcnet.models.private.parameters import Parameter
from mpcnet.models.private.program import Size, places
from mpcnet.randomness.prg import SEED_BYTES, Domain, Guard, Keystream
from mpcnet.rounds import Part

SEED = Part(8, (SEED_BYTES,), "seed")
TOKENS = "tokens"  # what the keystreams of a client's shares are for


def receiver(index: int) -> int:
    """Which server receives array `index` explicitly."""
    return 1 - index % 2


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """The shares of a list of arrays: a seed for each server, and the explicit halves by server."""

    seeds: tuple[bytes, bytes]
    explicit: tuple[list[tuple[Part, Bytes]], list[tuple[Part, Bytes]]]


def split(values: Sequence[tuple[Part, Tensor]], purpose: str) -> Split:
    """Additive shares of each array: uniform words from a seed, and the value minus them."""
    seeds = (secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SEED_BYTES))
    streams = [_stream(seed, purpose) for seed in seeds]
    explicit: tuple[list[tuple[Part, Bytes]], list[tuple[Part, Bytes]]] = ([], [])
    for index, (part, value) in enumerate(values):
        chosen = receiver(index)
        other = streams[1 - chosen].words(part.shape, part.bits)
        explicit[chosen].append((part, ring.pack_difference(value, other, part.bits)))
    return Split(seeds, explicit)


def expand(parts: Sequence[Part], party: int, seed: bytes, explicit: Iterable[Bytes], purpose: str) -> Iterator[Tensor]:
    """The shares of server `party`, one after the other: explicit where it is the receiver, from its seed elsewhere."""
    stream, given = _stream(seed, purpose), iter(explicit)
    for index, part in enumerate(parts):
        yield ring.unpack(next(given), part) if receiver(index) == party else stream.words(part.shape, part.bits)


def explicit_parts(parts: Sequence[Part], party: int) -> list[Part]:
    """The arrays that server `party` receives explicitly."""
    return [part for index, part in enumerate(parts) if receiver(index) == party]


def _stream(seed: bytes, purpose: str) -> Keystream:
    # The seed is fresh for this one split, so the session and stream of its domain may be constant.
    return Keystream(seed, Domain(bytes(16), 0, purpose), Guard())


def token_parts(config: Config, size: Size) -> list[Part]:
    """What a client shares, each array in two halves of the sequence, so that each server receives one of them."""
    lengths = [places(size) if given.of_places else size.length for given in config.inputs]
    return [
        Part(given.bits, (size.batch, rows, *given.columns))
        for given, length in zip(config.inputs, lengths, strict=True)
        for rows in ((length + 1) // 2, length // 2)
    ]


def split_tokens(config: Config, size: Size, words: Sequence[Tensor], purpose: str) -> Split:
    """The shares of what :func:`mpcnet.models.private.parameters.encode_tokens` makes of a request of this size."""
    parts = token_parts(config, size)
    halves = [half for array in words for half in array.tensor_split([(array.shape[1] + 1) // 2], 1)]
    return split(list(zip(parts, halves, strict=True)), purpose)


def expand_tokens(
    config: Config, size: Size, party: int, seed: bytes, explicit: Iterable[Bytes], purpose: str
) -> list[Tensor]:
    """The share of server `party` of each array, whole."""
    halves = expand(token_parts(config, size), party, seed, explicit, purpose)
    return [torch.cat(both, 1) for both in zip(halves, halves, strict=True)]


def weight_parts(parameters: Sequence[Parameter]) -> list[Part]:
    return [Part(q.bits, q.shape, q.name) for q in parameters]
