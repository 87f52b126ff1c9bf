"""What a fuzz target is, and how it is run."""

from __future__ import annotations

import itertools
import random
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

SHOWN = 2048  # bytes of a case that an error shows
BLOCK = 1024  # cases that are made from one seeded generator
MEMORY_BYTES = 256 << 20  # that all cases together may add to the most that the process ever held


class Target(Protocol):
    """Bytes to try, and what came of them."""

    name: str

    def cases(self, draw: random.Random, count: int) -> Iterator[bytes]:
        """So many of them."""

    def check(self, case: bytes) -> str:
        """How it ended, in a word or two.

        :raises Exception: it ended otherwise than it may.
        """


class Fault(AssertionError):
    """A case that ended otherwise than it may."""

    def __init__(self, target: str, seed: int, index: int, case: bytes, error: BaseException) -> None:
        shown = case.hex() if len(case) <= SHOWN else f"{case[:SHOWN].hex()}... ({len(case)} bytes)"
        again = f"--replay {shown}" if len(case) <= SHOWN else f"--seed {seed} --case {index}"
        super().__init__(
            f"{target}: seed {seed}, case {index}: {type(error).__name__}: {str(error)[:2000]}\nbytes: {shown}\n"
            f"again: python -m tests.fuzz {target} {again}"
        )


@dataclass
class Tried:
    """What became of many cases."""

    count: int = 0
    frames: int = 0  # a case of live parties has several
    ends: Counter[str] = field(default_factory=Counter)


def fuzz(target: Target, seed: int, count: int, tried: Tried | None = None) -> Iterator[Tried]:
    """So many cases, from this seed; yields after each block of them.

    :raises Fault: one ended otherwise than it may, or all together took more memory than they may.
    """
    tried = tried or Tried()
    before = peak_bytes()
    while tried.count < count:
        block = tried.count // BLOCK
        wanted = min(BLOCK, count - tried.count)
        for case in target.cases(random.Random(f"{target.name} {seed} {block}"), wanted):
            try:
                tried.ends[target.check(case)] += 1
            except Exception as error:
                raise Fault(target.name, seed, tried.count, case, error) from error
            tried.count += 1
            tried.frames += getattr(target, "frames_per_case", 1)
        if (grown := peak_bytes() - before) > MEMORY_BYTES:
            raise AssertionError(f"{target.name}: seed {seed}, block {block}: {grown} bytes more than before")
        yield tried


def one(target: Target, seed: int, index: int) -> bytes:
    """Case number `index` of a seed."""
    block = index // BLOCK
    cases = target.cases(random.Random(f"{target.name} {seed} {block}"), BLOCK)
    return next(itertools.islice(cases, index % BLOCK, None))


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
