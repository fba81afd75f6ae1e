"""The lines of a run's file: their types, and the one reader that decides which lines count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from harness.pairing.side_record import SideRecord
from harness.running.record import Record
from results.storage.comparison import Comparison

SCHEMA = 2
"""Number of the rows' format. A reader takes its own and older ones; newer rows are counted, not guessed at.

2 added pairs and verdicts, and the side of a process.
"""

CUT = b" #cut\n"
"""Ends a line that a crash had cut, so that it can never parse later on."""

SideName = Literal["A", "B"]
Order = Literal["ABBA", "BAAB", "AB", "BA"]
"""How a pair's turns follow each other; `AB` and `BA` where its processes did not live at the same time."""
Fault = Literal["cut", "unreadable", "foreign", "future"]
RunStatus = Literal["done", "failed", "interrupted"]


class RunRow(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="row"):
    """First row of a file. `planned` are case keys in order; `machine` and `environment` name JSON objects."""

    schema: int
    run: str
    protocol: int
    command: tuple[str, ...]
    started: str
    machine: str
    environment: str
    planned: tuple[str, ...] = ()


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True, tag="process", tag_field="row"):
    """One process. `environment` names the JSON object of the environment it was started from.

    `comparison` and `side` say which side of which comparison it belongs to, if it belongs to one.
    """

    schema: int
    run: str
    protocol: int
    environment: str
    record: Record
    comparison: str = ""
    side: SideName | None = msgspec.field(name="arm", default=None)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two processes that took turns: the replicate of a comparison of times.

    `order` is the turns', again and again, or the processes' where one ended before the other began. `disturbed` says
    in sentences what the sensors saw; a disturbed pair is kept and another one measured in its place, so it is no
    replicate unless `counts`. `confirms` marks pairs of the independent re-run.
    """

    comparison: str
    number: int
    order: Order
    a: SideRecord
    b: SideRecord
    disturbed: tuple[str, ...] = ()
    counts: bool = True
    confirms: bool = False


class PairRow(Pair, frozen=True, kw_only=True, tag="pair", tag_field="row"):
    """One pair. `environment` names the JSON object of the environment its parent ran in."""

    schema: int
    run: str
    protocol: int
    environment: str


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True, tag="verdict", tag_field="row"):
    """What a comparison came to, after its last pair."""

    schema: int
    run: str
    protocol: int
    comparison: Comparison


class EndRow(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="row"):
    """Last row of a file; a resumed run has one more, and the last one holds."""

    schema: int
    run: str
    ended: str
    status: RunStatus


Row = RunRow | ProcessRow | PairRow | VerdictRow | EndRow


class StoredLine(NamedTuple):
    """One line of a file from byte `offset`: its row, or why it is none. `digest` is of the line's bytes."""

    offset: int
    row: Row | None
    fault: Fault | None = None
    digest: bytes = b""


def scan(path: Path) -> Iterator[StoredLine]:
    """Every line of a file in order. A line counts only if it ends in a newline and parses; none is raised for."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            if raw != b"\n":
                yield _line(offset, raw)
            offset += len(raw)


def record_at(path: Path, offset: int) -> Record:
    """The whole record of the process row that begins at byte `offset`, as `load` gives it in `file` and `offset`."""
    with path.open("rb") as file:
        file.seek(offset)
        row = _decoder.decode(file.readline())
    if not isinstance(row, ProcessRow):
        raise ValueError(f"{path} holds no process row at byte {offset}")
    return row.record


def check(line: bytes) -> None:
    """Raise ValueError, with the place, if the line would not count when read again."""
    try:
        _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"a row could not be read back: {error}; are all its figures finite?") from error


class _Peek(msgspec.Struct):
    row: str
    schema: int


_decoder: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)
_peek = msgspec.json.Decoder(_Peek)
_any = msgspec.json.Decoder()


def _line(offset: int, raw: bytes) -> StoredLine:
    if not raw.endswith(b"\n") or raw.endswith(CUT):
        return StoredLine(offset, None, "cut")
    try:
        row = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return StoredLine(offset, None, _fault(raw))
    if row.schema > SCHEMA:
        return StoredLine(offset, None, "future")
    return StoredLine(offset, row, digest=hashlib.blake2b(raw, digest_size=16).digest())


def _fault(raw: bytes) -> Fault:
    try:
        return "future" if _peek.decode(raw).schema > SCHEMA else "unreadable"
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "unreadable"
    return "foreign"
