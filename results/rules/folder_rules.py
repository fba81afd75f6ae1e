"""Rules about a results folder: missing records and unreadable lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from harness.rules import Finding, rule
from results.storage.rows import Fault
from results.storage.shards import Gap

SENTENCES: dict[Fault, str] = {
    "cut": "cut off while it was written",
    "unreadable": "damaged",
    "foreign": "not written by this program",
    "future": "written by a newer version of this program; upgrade to read it",
}


@rule("V50", "folder")
def missing_cases(planned: Mapping[str, int], missing: Mapping[str, int], ended: Collection[str]) -> Iterator[Finding]:
    """A run planned a case and has no record for it."""
    for run, count in missing.items():
        remedy = "" if run in ended else "; `run --resume` runs the missing cases"
        yield f"run {run} planned {planned[run]} cases and has no record of {count} of them{remedy}"


@rule("V50", "folder")
def missing_shards(missing: Iterable[Gap]) -> Iterator[Finding]:
    """A part of a plan (`--shard`) has no run."""
    yield from (str(gap) for gap in missing if not gap.begun)


@rule("V50", "folder")
def unread_lines(unread: Mapping[Fault, int]) -> Iterator[Finding]:
    """A line of a results file cannot be read."""
    for fault, count in unread.items():
        yield f"{count} line{'s' if count > 1 else ''} not read: {SENTENCES[fault]}"


FOLDER_RULES = (missing_cases, missing_shards, unread_lines)
