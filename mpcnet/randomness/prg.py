"""Pseudo-random words from a seed: AES-128-CTR, one key per domain, a position that only moves forward.

A domain names what a keystream is for (session, stream, pair, purpose). Its key is the BLAKE2b hash of the
domain keyed with the seed, so two domains never share keystream; :class:`Guard` refuses to open the same domain
of the same seed twice, so keystream is never expanded twice either. Both ends of a pair draw in program order, and
need no other agreement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import keystream
from mpcnet.errors import LocalStateError

SEED_BYTES = 32
_ZEROS = memoryview(bytes(1 << 20))  # encrypted to give the keystream; 1 MiB stays in the cache


@dataclass(frozen=True, slots=True)
class Domain:
    """What a keystream is for. Every field is public."""

    session: bytes
    stream: int
    purpose: str

    def encode(self) -> bytes:
        """An unambiguous transcript: each field with its length."""
        purpose = self.purpose.encode()
        fields = (self.session, self.stream.to_bytes(8, "big"), purpose)
        return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


class Guard:
    """Remembers the domains opened with the seeds of this process, and refuses a second opening."""

    def __init__(self) -> None:
        self._claimed: set[bytes] = set()

    def claim(self, key: bytes, domain: Domain) -> None:
        """:raises LocalStateError: this keystream has been opened before."""
        mark = hashlib.blake2b(key, digest_size=16, person=b"mpcnet guard").digest()
        if mark in self._claimed:
            raise LocalStateError(
                f"keystream {domain.purpose!r} of stream {domain.stream}: opened twice; a mask is used once"
            )
        self._claimed.add(mark)


class LibraryCounter:
    """The keystream of a key by the cryptography package, where the kernel has not the instructions it needs."""

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def draw(self, count: int) -> ring.Bytes:
        """The next `count` bytes."""
        out = np.empty(count, np.uint8)
        for start in range(0, count, _ZEROS.nbytes):
            stop = min(start + _ZEROS.nbytes, count)
            self._encryptor.update_into(_ZEROS[: stop - start], out[start:stop].data)
        return out


class Keystream:
    """The words of one domain, in order. Drawing is the only operation: there is no way back."""

    __slots__ = ("_cipher",)

    def __init__(self, seed: bytes, domain: Domain, guard: Guard) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, got {len(seed)}")
        key = hashlib.blake2b(domain.encode(), digest_size=16, key=seed, person=b"mpcnet prg 1").digest()
        guard.claim(key, domain)
        self._cipher = keystream.Counter(key) if keystream.usable() else LibraryCounter(key)

    def raw(self, count: int) -> ring.Bytes:
        """The next `count` bytes."""
        return self._cipher.draw(count)

    def words(self, shape: Sequence[int], bits: int) -> Tensor:
        """The next uniform words of a k-bit ring, drawn at storage width (the bits above k are arbitrary)."""
        stored = prod(ring.stored_shape(shape, bits)) * ring.dtype(bits).itemsize
        return ring.from_stored(self.raw(stored), bits, shape)
