"""The lines of a run file: their types and their reader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from harness.pairing.side_record import SideRecord
from harness.running.record import Record
from results.storage.comparison import Comparison

SCHEMA = 2
"""Number of the row format. Older rows are read, newer ones only counted. 2 added pairs, verdicts and sides."""

CUT = b" #cut\n"
"""Ends a line that a crash cut off, so that it never parses."""

ATTEMPTS = 2
"""How often a cluster starts a case whose process or node is lost."""

SideName = Literal["A", "B"]
Order = Literal["ABBA", "BAAB", "AB", "BA"]
"""Order of the turns of a pair; `AB` and `BA` for processes that ran one after the other."""
Fault = Literal["cut", "unreadable", "foreign", "future"]
RunStatus = Literal["done", "failed", "interrupted"]


Unit = Literal["cases", "comparisons", "scenarios"]
"""The things that a plan splits: cases of `run`, comparisons of `compare` and `noise`, scenarios of `certify`."""


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Part `number` (from 1) of a plan that several machines run. `labels` are those of every part, in order.

    `plan` is a digest of the whole plan; two files belong together only if theirs are equal.
    """

    number: int
    plan: str
    unit: Unit = "cases"
    labels: tuple[tuple[str, ...], ...]

    @property
    def own(self) -> tuple[str, ...]:
        """The labels of this part."""
        return self.labels[self.number - 1]

    @property
    def name(self) -> str:
        """The part as in `--shard`.

        >>> Shard(number=1, plan="", labels=(("a", "b"), ("c",))).name
        '1/2'
        """
        return f"{self.number}/{len(self.labels)}"


class RunRow(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="row"):
    """The first row of a file. `planned` are case keys in order; `machine` and `environment` name JSON objects.

    `shard` is set if the run is a part of a plan; `planned` then has the order of `shard.own`. `nodes` names the JSON
    objects of the different machines of a cluster.
    """

    schema: int
    run: str
    protocol: int
    command: tuple[str, ...]
    started: str
    machine: str
    environment: str
    planned: tuple[str, ...] = ()
    shard: Shard | None = None
    nodes: tuple[str, ...] = ()


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True, tag="process", tag_field="row"):
    """One process. `environment` names the JSON object of its parent's environment.

    `comparison` and `side` are set for a process of a comparison. On a cluster, `node` is the address of the node, and
    `attempt` counts the starts of the case from 1; elsewhere it is 0.
    """

    schema: int
    run: str
    protocol: int
    environment: str
    record: Record
    comparison: str = ""
    side: SideName | None = msgspec.field(name="arm", default=None)
    node: str = ""
    attempt: int = 0

    @property
    def settled(self) -> bool:
        """Whether a resumed run leaves the case out: it was not interrupted, and a lost process has no attempt left."""
        status = self.record.status
        return status != "interrupted" and not (status == "killed" and 0 < self.attempt < ATTEMPTS)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two processes that took turns: the replicate of a comparison of times.

    `order` repeats for all turns. `disturbed` lists the disturbances that the sensors saw. A disturbed pair is stored
    and measured again, and is a replicate only if `counts`. `confirms` marks pairs of the independent re-run.
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
    """One pair. `environment` names the JSON object of its parent's environment."""

    schema: int
    run: str
    protocol: int
    environment: str


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True, tag="verdict", tag_field="row"):
    """The result of a comparison, after its last pair."""

    schema: int
    run: str
    protocol: int
    comparison: Comparison


class EndRow(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="row"):
    """The last row of a file. A resumed run has several; the last one counts."""

    schema: int
    run: str
    ended: str
    status: RunStatus


Row = RunRow | ProcessRow | PairRow | VerdictRow | EndRow


class StoredLine(NamedTuple):
    """One line of a file from byte `offset`: its row or its fault. `digest` is of the bytes of the line."""

    offset: int
    row: Row | None
    fault: Fault | None = None
    digest: bytes = b""


def scan(path: Path) -> Iterator[StoredLine]:
    """Yield every line of a file in order. A line without a newline or with another format has a fault."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            if raw != b"\n":
                yield _line(offset, raw)
            offset += len(raw)


def record_at(path: Path, offset: int) -> Record:
    """Read the record of the process row that begins at byte `offset` (columns `file` and `offset` of `load`)."""
    return next(records_at(path, [offset]))


def records_at(path: Path, offsets: Iterable[int]) -> Iterator[Record]:
    """Yield the records of the process rows of one file that begin at these bytes."""
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            row = _decoder.decode(file.readline())
            if not isinstance(row, ProcessRow):
                raise ValueError(f"{path} holds no process row at byte {offset}")
            yield row.record


def check(line: bytes) -> None:
    """Raise ValueError, with the position, if the line is not readable."""
    try:
        _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"the row is not valid: {error}; are all its figures finite?") from error


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
    broken = (msgspec.DecodeError, UnicodeDecodeError)
    with suppress(*broken):
        return "future" if _peek.decode(raw).schema > SCHEMA else "unreadable"
    with suppress(*broken):
        _any.decode(raw)
        return "foreign"
    return "unreadable"
