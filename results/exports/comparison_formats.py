"""Comparisons in the formats that other tools read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args
from xml.etree import ElementTree

import msgspec

from harness.errors import Refused, writing
from results.storage.comparison import Comparison
from results.tables.wording import plain
from results.verdicts.comparison_text import as_markdown, as_text, differences

Format = Literal["text", "markdown", "json", "junit"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write(comparisons: Sequence[Comparison], format: str, out: Path | None) -> None:
    """Write comparisons to a file or to the terminal. Raises `Refused` if the file is not writable."""
    content = formatted(comparisons, format)
    if out is not None:
        save(out, content)
        return
    if format in ("text", "markdown"):
        sys.stdout.write(content.decode())  # in the terminal's encoding
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    sys.stdout.flush()


def save(path: Path, content: bytes, *, append: bool = False) -> None:
    """Write a file. Raises `Refused` if it is not writable."""
    with writing(path), path.open("ab" if append else "wb") as file:
        file.write(content)


def formatted(comparisons: Sequence[Comparison], format: str) -> bytes:
    """Format comparisons in one of FORMATS. Raises `Refused` for another format."""
    if format == "text":
        return as_text(comparisons).encode()
    if format == "markdown":
        return as_markdown(comparisons).encode()
    if format == "json":
        return msgspec.json.format(msgspec.json.encode(list(comparisons)), indent=1) + b"\n"
    if format == "junit":
        return as_junit(comparisons)
    raise Refused(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")


def as_junit(comparisons: Sequence[Comparison], missing: Sequence[str] = (), failed: Sequence[str] = ()) -> bytes:
    """Write JUnit XML: a test per case, `failure` for a regression, `skipped` for an inconclusive verdict.

    `missing` are the cases that only the base has, `failed` the messages of cases without a measurement; each is an
    error.
    """
    count = len(comparisons) + len(missing) + len(failed)
    suite = ElementTree.Element("testsuite", name="finetune-bench", tests=str(count))
    failures = skipped = 0
    for one in comparisons:
        facts = {"name": plain(one.label), "classname": one.purpose, "time": f"{one.seconds:g}"}
        test = ElementTree.SubElement(suite, "testcase", facts)
        text = plain("; ".join([one.sentence, *differences(one)]))
        if one.verdict == "regression" and not one.accepted:
            failures += 1
            ElementTree.SubElement(test, "failure", message=plain(one.sentence), type="regression").text = text
        elif one.verdict == "inconclusive":
            skipped += 1
            ElementTree.SubElement(test, "skipped", message=f"inconclusive: {plain(one.sentence)}")
        else:
            ElementTree.SubElement(test, "system-out").text = text
    for label in missing:
        test = ElementTree.SubElement(suite, "testcase", name=plain(label), classname="missing", time="0")
        ElementTree.SubElement(test, "error", message="the case does not exist any more", type="missing")
    for sentence in failed:
        label, _, reason = plain(sentence).partition(": ")
        test = ElementTree.SubElement(suite, "testcase", name=label, classname="failed", time="0")
        ElementTree.SubElement(test, "error", message=reason, type="failed")
    suite.set("failures", str(failures))
    suite.set("errors", str(len(missing) + len(failed)))
    suite.set("skipped", str(skipped))
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(suite) + b"\n"
