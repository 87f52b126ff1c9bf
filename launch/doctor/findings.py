"""What a check of `mpcnet doctor` found: one line, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from mpcnet.errors import MpcError

Level: TypeAlias = Literal["ok", "warning", "error"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `check` was looked at and `found`; `advice` says what to do unless all is well."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, "warning", found, advice)


def error(check: str, found: str, advice: str) -> Finding:
    return Finding(check, "error", found, advice)


def attempt(check: str, advice: str, work: Callable[[], T], findings: list[Finding]) -> T | None:
    """The result of `work`; if it fails, None and a finding."""
    try:
        return work()
    except MpcError as failure:
        findings.append(error(check, str(failure), advice))
        return None
