"""A Parquet copy of what a folder of run files says, so that it is parsed once: `derived/PLACE-KEY-DIGEST.parquet`.

The key is of every byte of the files and of the code that reads them, the digest of the copy itself: a copy of anything
else, or one that was damaged, is never taken. Deleting the folder costs time and nothing else.
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
from harness.whole_files import write_whole

WORTH_BYTES = 2**18
"""A folder with less in it is parsed in no time."""
_TEXTS, _SECONDS = pa.list_(pa.string()), pa.list_(pa.float64())
NESTED: dict[str, pa.DataType] = {
    "step_us": pa.list_(pa.int64()),
    "epoch_seconds": _SECONDS,
    "epoch_val_accuracy": _SECONDS,
    "wall_s": pa.map_(pa.string(), pa.float64()),
    "versions": pa.map_(pa.string(), pa.string()),
    "marks": _TEXTS,
    "notes": _TEXTS,
}
"""Columns of a row per process that hold lists and mappings, with their Parquet types."""
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
    frame = table.drop_columns(list(NESTED)).to_pandas()
    for name, kind in NESTED.items():
        cells = _arrays(table[name]) if name == "step_us" else table[name].to_pylist()
        frame[name] = pd.Series([dict(cell) if pa.types.is_map(kind) else cell for cell in cells], dtype="object")
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
    content = as_parquet(frame, {META: piece.said})
    target = folder / f"{own}-{key}-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
        for earlier in folder.glob(f"{own}-*.parquet"):
            if earlier != target:
                earlier.unlink()


def as_parquet(frame: pd.DataFrame, metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """The bytes of a Parquet file of what `results.load` returned; types do not depend on the values, missing ones are
    null."""
    fields = [(name, NESTED.get(name) or pa.type_for_alias(str(frame[name].dtype).lower())) for name in frame.columns]
    items = {name: frame[name].map(lambda one: list(one.items())) for name, kind in fields if pa.types.is_map(kind)}
    table = pa.Table.from_pandas(frame.assign(**items), pa.schema(fields, metadata), preserve_index=False)
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content


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
