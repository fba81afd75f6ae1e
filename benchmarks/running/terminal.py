"""Text for a terminal: aligned columns, and ASCII replacements for characters that its encoding does not have."""

from __future__ import annotations

import codecs
import functools
import io
import re
import sys
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

STAND_INS = {
    "×": "x", "÷": "/", "±": "+/-", "≠": "!=", "≤": "<=", "≥": ">=", "≈": "~", "∞": "inf", "−": "-",
    "–": "-", "—": "-", "·": "-", "•": "*", "…": "...", "→": "->", "µ": "u", "μ": "u", "°": " deg",
    "‘": "'", "’": "'", "“": '"', "”": '"', "✓": "ok", "✗": "x", "⚠": "!",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{ZERO WIDTH SPACE}": "",
}  # fmt: skip
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
"""Footnote marks and exponents; ¹² becomes ^12."""
HANDLER = "finetune-bench-stand-ins"
PLAIN = "finetune-bench-ascii"


def roughly(seconds: float) -> str:
    """Return a time without false precision.

    >>> roughly(89.6), roughly(150.0)
    ('90 s', '2 min')
    """
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def aligned(rows: Iterable[Sequence[str | Text]], right: Collection[int] = ()) -> str:
    """Return rows of cells as unbroken lines with aligned columns; the columns in `right` are right-aligned.

    >>> print(aligned([("resnet18", "9 s"), ("tiny-cnn", "~12 s")], right={1}))
    resnet18    9 s
    tiny-cnn  ~12 s
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for place in range(max(map(len, cells), default=0)):
        grid.add_column(justify="right" if place in right else "left", no_wrap=True)
    for row in cells:
        grid.add_row(*row)
    console = Console(width=10_000, force_terminal=True, color_system="standard", legacy_windows=False)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def use_stand_ins() -> None:
    """Make stdout and stderr accept every character in any encoding. Call it once, when a program starts."""
    _register()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # click writes UTF-8 to a stream whose encoding is named ASCII, so the name is changed.
            plain = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=PLAIN if plain else None, errors=HANDLER)


@functools.cache
def _register() -> None:
    codecs.register_error(HANDLER, _stand_in)
    codecs.register(_plain_ascii)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def plain(text: str) -> str:
    r"""Return a text in ASCII.

    >>> plain("70 % ± 2¹, 8×16 – 3.5 µs…"), plain("é")
    ('70 % +/- 2^1, 8x16 - 3.5 us...', '\\xe9')
    """
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda run: f"^{run[0].translate(RAISED)}", text)
    text = "".join(STAND_INS.get(character, character) for character in text)
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    if name != PLAIN.replace("-", "_"):
        return None
    ascii_ = codecs.lookup("ascii")
    incremental = ascii_.incrementalencoder, ascii_.incrementaldecoder
    return codecs.CodecInfo(*ascii_[:4], *incremental, name=PLAIN)
