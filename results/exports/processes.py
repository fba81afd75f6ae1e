"""The result of `results.load` as CSV, a row per process."""

from __future__ import annotations

import msgspec
import pandas as pd

from results.tables.parquet_cache import NESTED


def as_csv(frame: pd.DataFrame) -> bytes:
    """Write CSV with a heading line; lists and mappings are JSON, missing values empty, floats exact."""
    nested = {name: frame[name].map(_json) for name in NESTED}
    return frame.assign(**nested).to_csv(index=False, lineterminator="\n").encode()


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=lambda array: array.tolist()).decode()
