"""The two ways in which a component says no, and the messages that go with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class Declined(Exception):
    """It cannot be done here; the message is the reason. The record's status becomes `skipped`."""


class Refused(Exception):
    """The input is wrong; the message names the thing and the remedy. Exit code 2, or a `failed` record."""


LONGEST = 400
"""Characters of a reason; a row of a results file and a line of a table bear no more."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_APPENDED = re.compile(
    r"Arguments received by |Exception raised from |^frame #\d+: |^Stack trace for op ", re.MULTILINE
)
"""Where Keras lists the arguments of a call, and torch and TensorFlow their stacks; nothing but these follows."""
_TRACED = ('File "', "Detected at node", "defined at (most recent call last)", "<stack traces unavailable>")
"""How lines begin that are about a framework's own code."""


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""A message without escape codes, stacks and listed arguments, cut between two words.

    >>> one_line("\x1b[1mshapes differ\x1b[0m:\n  3 and 4\n\nArguments received by Dense.call():\n  • inputs=…")
    'shapes differ: 3 and 4'
    """
    text = _APPENDED.split(_ESCAPES.sub("", text))[0]
    words = [word for line in text.splitlines() if not line.strip().startswith(_TRACED) for word in line.split()]
    # Names of files may hold what no terminal and no JSON bears.
    said = printable(" ".join(words))
    if len(said) <= longest:
        return said
    cut = said[: longest - 1]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[longest // 2 :] else cut}…"


def printable(text: str) -> str:
    """Text on one line, its control characters as escapes: names of files may hold line breaks and worse.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown(kind: str, name: str, known: Iterable[str], most: int | None = None) -> str:
    """One line that names the nearest known names, and all known names or the `most` nearest of them.

    >>> unknown("model", "resnt18", ["resnet18", "mobilenet"])
    'no model resnt18; did you mean resnet18? (known: resnet18, mobilenet)'
    """
    names = list(known) if most is None else difflib.get_close_matches(name, list(known), most, cutoff=0.0)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"no {kind} {name}{hint} (known: {', '.join(names) or 'none'})"
