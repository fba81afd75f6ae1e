"""A cache of parsed run files as Parquet: `derived/PLACE-KEY-DIGEST.parquet`. It is safe to delete.

The key is a digest of the run files and of the code that reads them; the digest is that of the copy itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import harness
import results
from harness.process.environment import sources_digest
from harness.whole_files import write_whole

WORTH_BYTES = 2**18
"""Smallest size of run files that are worth a copy."""
_TEXTS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())
NESTED: dict[str, pa.DataType] = {
    "step_us": pa.list_(pa.int64()),
    "epoch_seconds": _NUMBERS,
    "epoch_val_accuracy": _NUMBERS,
    "epoch_joules": _NUMBERS,
    "wall_s": pa.map_(pa.string(), pa.float64()),
    "versions": pa.map_(pa.string(), pa.string()),
    "marks": _TEXTS,
    "notes": _TEXTS,
}
"""Parquet types of the columns of `results.load` that hold lists and mappings."""
META = b"finetune-bench"


class Piece(NamedTuple):
    """The typed rows of the files of one folder, and the facts of their other lines as JSON."""

    frame: pd.DataFrame
    facts: bytes


def read_piece(files: Sequence[Path]) -> Piece | None:
    """Return the copy of the files of one folder, or None without an up-to-date copy."""
    place = _place(files)
    found = next(iter(sorted(place[0].glob(f"{place[1]}-{place[2]}-*.parquet"))), None) if place else None
    if found is None:
        return None
    content = found.read_bytes()
    if hashlib.sha256(content).hexdigest()[:32] != found.stem.rsplit("-", 1)[1]:
        return None
    table = pq.read_table(pa.BufferReader(content))
    frame = table.drop_columns(list(NESTED)).to_pandas()
    for name, kind in NESTED.items():
        cells = _arrays(table[name]) if name == "step_us" else table[name].to_pylist()
        frame[name] = pd.Series([dict(cell) if pa.types.is_map(kind) else cell for cell in cells], dtype="object")
    frame["file"] = (f"{files[0].parent}{os.sep}" + frame["file"]).astype("string")
    return Piece(frame, table.schema.metadata[META])


def write_piece(files: Sequence[Path], piece: Piece) -> None:
    """Replace the copy of these files, if they are large enough and the folder is writable."""
    place = _place(files)
    if place is None:
        return
    folder, prefix, key = place
    names = pd.array([Path(file).name for file in piece.frame["file"]], dtype="string")
    frame = piece.frame.assign(file=names)
    content = as_parquet(frame, {META: piece.facts})
    target = folder / f"{prefix}-{key}-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
        for earlier in folder.glob(f"{prefix}-*.parquet"):
            if earlier != target:
                earlier.unlink()


def as_parquet(frame: pd.DataFrame, metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """Return the result of `results.load` as a Parquet file. Types do not depend on values; missing ones are null.

    Lists and mappings have the types of NESTED, unless they were converted to text.
    """
    kinds = {name: str(frame[name].dtype).lower() for name in frame.columns}
    fields = [(name, NESTED[name] if kind == "object" else pa.type_for_alias(kind)) for name, kind in kinds.items()]
    items = {name: frame[name].map(lambda one: list(one.items())) for name, kind in fields if pa.types.is_map(kind)}
    table = pa.Table.from_pandas(frame.assign(**items), pa.schema(fields, metadata), preserve_index=False)
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content


def _arrays(column: pa.ChunkedArray) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the lists of a column as arrays, without a Python object per number."""
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        yield from np.split(values, np.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False))[:-1])


def _place(files: Sequence[Path]) -> tuple[Path, str, str] | None:
    """Return folder, prefix and key of a copy; None for small files and for files outside a results folder."""
    first = files[0].resolve()
    home = next((parent.parent for parent in first.parents if parent.name == "runs"), None)
    if home is None or sum(file.stat().st_size for file in files) < WORTH_BYTES:
        return None
    key = hashlib.blake2b(_code().encode(), digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            key.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    prefix = hashlib.sha256(str(first.parent.relative_to(home)).encode()).hexdigest()[:12]
    return home / "derived", prefix, key.hexdigest()


@functools.cache
def _code() -> str:
    """Return the digest of all code that a row depends on."""
    return f"{pd.__version__} {sources_digest(*(Path(package.__path__[0]) for package in (harness, results)))}"
