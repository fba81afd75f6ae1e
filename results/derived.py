"""A Parquet copy of what a large run file says, so that it is parsed once: `derived/<key>.parquet`.

The key is of the file's size, time and both ends and of the code that reads it, so a copy of anything else is never
taken. Deleting the folder costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import harness
import results

WORTH_BYTES = 2**20
"""Smaller files are parsed in less time than it takes to look for a copy."""
ENDS_BYTES = 4096
NUMBERS = {"step_us": pa.int64(), "epoch_seconds": pa.float64(), "epoch_val_accuracy": pa.float64()}
WORDS = ("marks", "notes")
MAPPINGS = ("wall_s", "versions")
META = b"finetune-bench"


class Piece(NamedTuple):
    """What one file gave: its rows, typed, and what its other lines said, as JSON."""

    frame: pd.DataFrame
    said: bytes


def read_piece(file: Path) -> Piece | None:
    """The copy of a file, or None if there is none of the file as it is now."""
    place = _place(file)
    if place is None or not place.exists():
        return None
    try:
        table = pq.read_table(place)
    except (OSError, pa.ArrowInvalid):  # cut while it was written by something else than this program
        return None
    frame = table.drop_columns([*NUMBERS, *WORDS, *MAPPINGS]).to_pandas()
    for name in NUMBERS:
        frame[name] = pd.Series(list(_arrays(table[name])), dtype="object")
    for name in WORDS:
        frame[name] = pd.Series(table[name].to_pylist(), dtype="object")
    for name in MAPPINGS:
        known = {text: msgspec.json.decode(text) for text in table[name].unique().to_pylist()}
        frame[name] = pd.Series([known[text] for text in table[name].to_pylist()], dtype="object")
    for name in ("epoch_seconds", "epoch_val_accuracy"):
        frame[name] = frame[name].map(list)
    frame["file"] = pd.Series([str(file)] * len(frame), dtype="string")
    return Piece(frame, table.schema.metadata[META])


def write_piece(file: Path, piece: Piece) -> None:
    """Keep a copy, if the file is large enough to be worth one; where it cannot be written there is none."""
    place = _place(file)
    if place is None:
        return
    frame = piece.frame
    columns: dict[str, Any] = {name: pa.array(frame[name], type=pa.list_(kind)) for name, kind in NUMBERS.items()}
    columns |= {name: pa.array(frame[name].tolist(), type=pa.list_(pa.string())) for name in WORDS}
    columns |= {name: [msgspec.json.encode(value).decode() for value in frame[name]] for name in MAPPINGS}
    rest = pa.Table.from_pandas(frame.drop(columns=["file", *columns]), preserve_index=False)
    for name, values in columns.items():
        rest = rest.append_column(name, values if isinstance(values, pa.Array) else pa.array(values, type=pa.string()))
    partial = place.with_name(f"{place.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rest.replace_schema_metadata({**(rest.schema.metadata or {}), META: piece.said}), partial)
        partial.replace(place)


def _arrays(column: pa.ChunkedArray) -> Iterator[np.ndarray[Any, Any]]:
    """The lists of a column as arrays, without a Python object per number."""
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        yield from np.split(values, np.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False))[:-1])


def _place(file: Path) -> Path | None:
    """Where a copy of a file lies; None for a file that is not worth one or is in no results folder."""
    home = next((parent.parent for parent in file.resolve().parents if parent.name == "runs"), None)
    status = file.stat()
    if home is None or status.st_size < WORTH_BYTES:
        return None
    with file.open("rb") as stream:
        ends = stream.read(ENDS_BYTES)
        stream.seek(-ENDS_BYTES, os.SEEK_END)
        ends += stream.read()
    key = hashlib.sha256(f"{file.name} {status.st_size} {status.st_mtime_ns} {_code()} ".encode() + ends)
    return home / "derived" / f"{key.hexdigest()}.parquet"


@functools.cache
def _code() -> str:
    """Digest of everything that a row could depend on."""
    digest = hashlib.sha256(pd.__version__.encode())
    for package in (harness, results):
        for source in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
