"""JSON of files and of peers: a value that is safe to walk through, or one `ValueError` with a short reason.

Python's own parser lets through what JSON has not (NaN, infinity), overflows to infinity, and breaks off with errors
of other kinds where lists are nested deeply. What it returns is another kind of value than was hoped for, and may be
too large for what is done with it: :data:`MALFORMED` are the errors that reading fields of such a value raises.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEPTH = 64  # lists in lists: what walks or prints a value may recurse
DIGITS = 300  # of a whole number: so that it has a float
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


def parse(text: str | bytes) -> Any:
    """The value that a JSON text holds. Numbers are finite, keys are given once, and lists at most :data:`DEPTH` deep.

    :raises ValueError: it is not JSON, or not such JSON; the message quotes nothing of a text that is not JSON at all.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(
            decoded, parse_constant=_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("bytes that are not UTF-8") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(value)
    if "\\ud" in decoded.lower():  # an escape may have made half of a character, which nobody can write
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character (a lone surrogate)") from None
    return value


def mapping(text: str | bytes) -> dict[str, Any]:
    """:func:`parse` of an object.

    :raises ValueError: as :func:`parse`; or it is another value.
    """
    value = parse(text)
    if not isinstance(value, dict):
        raise ValueError(f"want an object, got {kind(value)}")
    return value


def kind(value: object) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


TOO_DEEP = f"lists or objects nested more than {DEPTH} deep"


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        level = [
            child
            for each in level
            if isinstance(each, (dict, list))
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _constant(text: str) -> Any:
    raise ValueError(f"{text}, which is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large for a float")
    return value


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a whole number of more than {DIGITS} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object that has one key twice")
    return found
