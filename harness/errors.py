"""The two exceptions that carry a message for users, and functions that format messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Key = TypeVar("Key", bound=str | int)
Value = TypeVar("Value")


class Declined(Exception):
    """The machine or installation cannot run the request; the message is the reason. The record is `skipped`."""


class Refused(Exception):
    """The input is wrong; the message names the problem and the remedy. Exit code 2, or a `failed` record."""


LONGEST = 400
"""Maximum number of characters of a reason in a results file or a table."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_APPENDED = re.compile(
    r"Arguments received by |Exception raised from |^frame #\d+: |^Stack trace for op ", re.MULTILINE
)
"""Beginning of Keras' list of call arguments and of stacks of torch and TensorFlow, which end a message."""
_TRACED = ('File "', "Detected at node", "defined at (most recent call last)", "<stack traces unavailable>")
"""Beginnings of lines about a framework's own code."""


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""Return a message without escape codes, stacks and listed arguments, cut between two words.

    >>> one_line("\x1b[1mshapes differ\x1b[0m:\n  3 and 4\n\nArguments received by Dense.call():\n  • inputs=…")
    'shapes differ: 3 and 4'
    """
    text = _APPENDED.split(_ESCAPES.sub("", text))[0]
    words = [word for line in text.splitlines() if not line.strip().startswith(_TRACED) for word in line.split()]
    line = printable(" ".join(words))
    if len(line) <= longest:
        return line
    cut = line[: longest - 1]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[longest // 2 :] else cut}…"


def printable(text: str) -> str:
    """Return text on one line, with escapes for control characters and for bytes that are not UTF-8 in file names.

    >>> printable("two\\nlines"), printable("a\\udcff")
    ('two\\\\nlines', 'a\\\\xff')
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # Python's file names have bytes that are not UTF-8 as U+DC80 to U+DCFF
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


def each_once(option: str, pairs: Iterable[tuple[Key, Value]], remedy: str = "give one value") -> dict[Key, Value]:
    """Return the pairs as a dict. Raises `Refused` for a key that occurs twice: one of its values would be ignored.

    >>> each_once("--python", [("A", "old"), ("B", "new")])
    {'A': 'old', 'B': 'new'}
    """
    found: dict[Key, Value] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(f"{option} is given twice for {key}; {remedy}")
        found[key] = value
    return found


@contextmanager
def writing(target: object) -> Iterator[None]:
    """Raise `Refused` if the target, such as `--out FILE`, cannot be written in the block."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{target} cannot be written ({error.strerror})") from error


def not_utf8(text: str) -> bool:
    """Return whether a text, such as a path, has bytes that are not UTF-8, which JSON cannot hold."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def unknown(kind: str, name: str, known: Iterable[str], most: int | None = None) -> str:
    """Return a message with similar names, and all known names or the `most` similar of them.

    >>> unknown("model", "resnt18", ["resnet18", "mobilenet"])
    'no model resnt18 (did you mean resnet18?); known: resnet18, mobilenet'
    >>> unknown("parameter", "size", [])
    'no parameter size; known: none'
    """
    names = list(known) if most is None else difflib.get_close_matches(name, list(known), most, cutoff=0.0)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"no {kind} {name}{hint}; {'known' if most is None else 'nearest'}: {', '.join(names) or 'none'}"
