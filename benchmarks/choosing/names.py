"""Names from outside as text that is safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line, its control characters as escapes: names of files may hold line breaks and worse.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
