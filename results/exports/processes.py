"""What `results.load` returned as CSV or Parquet: a row per process, every column typed."""

from __future__ import annotations

import io

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_TEXTS = pa.list_(pa.string())
_SECONDS = pa.list_(pa.float64())
NESTED: dict[str, pa.DataType] = {
    "step_us": pa.list_(pa.int64()),
    "epoch_seconds": _SECONDS,
    "epoch_val_accuracy": _SECONDS,
    "wall_s": pa.map_(pa.string(), pa.float64()),
    "versions": pa.map_(pa.string(), pa.string()),
    "marks": _TEXTS,
    "notes": _TEXTS,
}
"""Columns that hold lists and mappings, with their Parquet types; in CSV they are JSON."""

_FLAT: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "Int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def as_parquet(frame: pd.DataFrame) -> bytes:
    """The bytes of a Parquet file; the types do not depend on the values, missing ones are null."""
    fields = [pa.field(name, NESTED.get(name) or _FLAT[str(frame[name].dtype)]) for name in frame.columns]
    columns = [
        pa.array([_items(value) for value in frame[field.name]], field.type)
        if field.name in NESTED
        else pa.array(frame[field.name], field.type, from_pandas=True)
        for field in fields
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), buffer)
    return buffer.getvalue()


def as_csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 text with a heading line; missing values are empty, floats written so that they read back the same."""
    nested = {name: frame[name].map(_json) for name in NESTED}
    return frame.assign(**nested).to_csv(index=False, lineterminator="\n").encode()


def _items(value: object) -> object:
    return list(value.items()) if isinstance(value, dict) else value


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=lambda array: array.tolist()).decode()
