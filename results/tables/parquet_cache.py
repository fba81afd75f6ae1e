"""A Parquet copy of what a folder of run files says, so that it is parsed once: `derived/PLACE-KEY-DIGEST.parquet`.

The key is of every byte of the files and of the code that reads them, the digest of the copy itself: a copy of anything
else, or one that was damaged, is never taken. Deleting the folder costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import harness
import results

WORTH_BYTES = 2**18
"""A folder with less in it is parsed in no time."""
NUMBERS = {"step_us": pa.int64(), "epoch_seconds": pa.float64(), "epoch_val_accuracy": pa.float64()}
WORDS = ("marks", "notes")
MAPPINGS = ("wall_s", "versions")
META = b"finetune-bench"


class Piece(NamedTuple):
    """What the files of one folder gave: their rows, typed, and what their other lines said, as JSON."""

    frame: pd.DataFrame
    said: bytes


def read_piece(files: Sequence[Path]) -> Piece | None:
    """The copy of the files of one folder, or None if there is none of them as they are now."""
    place = _place(files)
    found = next(iter(sorted(place[0].glob(f"{place[1]}-{place[2]}-*.parquet"))), None) if place else None
    if found is None:
        return None
    content = found.read_bytes()
    if hashlib.sha256(content).hexdigest()[:32] != found.stem.rsplit("-", 1)[1]:
        return None
    table = pq.read_table(pa.BufferReader(content))
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
    frame["file"] = (f"{files[0].parent}{os.sep}" + frame["file"]).astype("string")
    return Piece(frame, table.schema.metadata[META])


def write_piece(files: Sequence[Path], piece: Piece) -> None:
    """Keep a copy in place of earlier ones, if there is enough to be worth it; where none can be written there is
    none."""
    place = _place(files)
    if place is None:
        return
    folder, own, key = place
    names = pd.array([Path(file).name for file in piece.frame["file"]], dtype="string")
    frame = piece.frame.assign(file=names)
    columns: dict[str, Any] = {name: pa.array(frame[name], type=pa.list_(kind)) for name, kind in NUMBERS.items()}
    columns |= {name: pa.array(frame[name].tolist(), type=pa.list_(pa.string())) for name in WORDS}
    columns |= {name: [msgspec.json.encode(value).decode() for value in frame[name]] for name in MAPPINGS}
    whole = pa.Table.from_pandas(frame.drop(columns=list(columns)), preserve_index=False)
    for name, values in columns.items():
        whole = whole.append_column(
            name, values if isinstance(values, pa.Array) else pa.array(values, type=pa.string())
        )
    stream = pa.BufferOutputStream()
    pq.write_table(whole.replace_schema_metadata({**(whole.schema.metadata or {}), META: piece.said}), stream)
    content = stream.getvalue().to_pybytes()
    target = folder / f"{own}-{key}-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    partial = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(target)
        for earlier in folder.glob(f"{own}-*.parquet"):
            if earlier != target:
                earlier.unlink()


def _arrays(column: pa.ChunkedArray) -> Iterator[np.ndarray[Any, Any]]:
    """The lists of a column as arrays, without a Python object per number."""
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        yield from np.split(values, np.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False))[:-1])


def _place(files: Sequence[Path]) -> tuple[Path, str, str] | None:
    """Folder, place and key of a copy; None for files that are not worth one or lie in no results folder."""
    first = files[0].resolve()
    home = next((parent.parent for parent in first.parents if parent.name == "runs"), None)
    if home is None or sum(file.stat().st_size for file in files) < WORTH_BYTES:
        return None
    key = hashlib.blake2b(_code().encode(), digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            key.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    own = hashlib.sha256(str(first.parent.relative_to(home)).encode()).hexdigest()[:12]
    return home / "derived", own, key.hexdigest()


@functools.cache
def _code() -> str:
    """Digest of everything that a row could depend on."""
    digest = hashlib.sha256(pd.__version__.encode())
    for package in (harness, results):
        for source in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
