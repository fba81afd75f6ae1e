"""Names as they are said: on one line, and with the nearest ones when one is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str) -> str:
    """Text on one line, its control characters as escapes: names of files may hold line breaks and worse.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line that names the nearest known names.

    >>> unknown("model", "resnt18", ["resnet18", "mobilenet"])
    'no model resnt18; did you mean resnet18? (known: resnet18, mobilenet)'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"no {kind} {name}{hint} (known: {', '.join(names)})"
