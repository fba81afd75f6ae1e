"""Output on a terminal whose encoding lacks a character: a readable stand-in in ASCII takes its place."""

from __future__ import annotations

import codecs
import functools
import io
import re
import sys

STAND_INS = {
    "×": "x", "÷": "/", "±": "+/-", "≠": "!=", "≤": "<=", "≥": ">=", "≈": "~", "∞": "inf", "−": "-",
    "–": "-", "—": "-", "·": "-", "•": "*", "…": "...", "→": "->", "µ": "u", "μ": "u", "°": " deg",
    "‘": "'", "’": "'", "“": '"', "”": '"', "✓": "ok", "✗": "x", "⚠": "!",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{ZERO WIDTH SPACE}": "",
}  # fmt: skip
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
"""Footnote marks and exponents: ¹² becomes ^12."""
HANDLER = "finetune-bench-stand-ins"
PLAIN = "finetune-bench-ascii"


def use_stand_ins() -> None:
    """Let stdout and stderr take every character, whatever their encoding is. For the entry of a program."""
    _register()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # click takes a stream that is called ASCII for a mistake and writes UTF-8 to it.
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
    r"""Text in ASCII.

    >>> plain("70 % ± 2¹, 8×16 – 3.5 µs…"), plain("é")
    ('70 % +/- 2^1, 8x16 - 3.5 us...', '\\xe9')
    """
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda run: f"^{run[0].translate(RAISED)}", text)
    text = "".join(STAND_INS.get(character, character) for character in text)
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    if name != PLAIN.replace("-", "_"):
        return None
    own = codecs.lookup("ascii")
    return codecs.CodecInfo(
        own.encode,
        own.decode,
        own.streamreader,
        own.streamwriter,
        own.incrementalencoder,
        own.incrementaldecoder,
        name=PLAIN,
    )
