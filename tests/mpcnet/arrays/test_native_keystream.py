"""The keystream's kernel against the cryptography package: any draws, far from the start, any threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mpcnet.arrays.native import keystream, library
from mpcnet.arrays.native.keystream import Counter
from mpcnet.randomness.prg import LibraryCounter

pytestmark = pytest.mark.skipif(not keystream.usable(), reason="no kernels, or no VAES")

KEY = bytes(range(16))
SIZES = (0, 1, 15, 16, 17, 511, 512, 513, 0, 65_519, 65_536, 65_537, 7, 1_000_003)


@pytest.mark.parametrize("level", [level for level in library.levels() if level != "portable"])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bytes_as_the_library(threads: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, kernel = torch.get_num_threads(), keystream._keystream
    monkeypatch.setattr(keystream, "_keystream", lambda _, *arguments: kernel(level, *arguments))
    try:
        torch.set_num_threads(threads)
        ours, theirs = Counter(KEY), LibraryCounter(KEY)
        for size in SIZES:
            got = ours.draw(size)
            assert got.flags.aligned and got.tobytes() == theirs.draw(size).tobytes(), size
    finally:
        torch.set_num_threads(before)


def test_the_cipher_of_the_number_of_each_block() -> None:
    """FIPS 197, appendix C.1's key: block 0 is the cipher of zeros."""
    assert Counter(KEY).draw(16).tobytes().hex() == "c6a13b37878f5b826f4f8162a1c8d879"


def test_blocks_beyond_32_bits_of_their_number() -> None:
    """Carries reach the upper half of the counter's last eight bytes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    first = (1 << 32) - 3
    ours = Counter(KEY)
    ours._drawn = 16 * first + 5
    cipher = Cipher(algorithms.AES(KEY), modes.CTR(first.to_bytes(16, "big"))).encryptor()
    assert ours.draw(2000).tobytes() == cipher.update(bytes(2005))[5:]


def test_threads_that_draw_at_once_get_different_bytes() -> None:
    ours, size = Counter(KEY), 40_000
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: ours.draw(size).tobytes(), range(200)))
    whole = LibraryCounter(KEY).draw(200 * size).tobytes()
    assert sorted(drawn) == sorted(whole[at : at + size] for at in range(0, len(whole), size))


def test_a_draw_that_fails_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise MemoryError

    ours, whole = Counter(KEY), LibraryCounter(KEY).draw(64).tobytes()
    with monkeypatch.context() as context:
        context.setattr(keystream, "_keystream", failing)
        with pytest.raises(MemoryError):
            ours.draw(16)
    assert ours.draw(48).tobytes() == whole[16:]


def test_a_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="want a key of 16 bytes, got 32"):
        Counter(bytes(32))
