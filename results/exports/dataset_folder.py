"""Records as a dataset for the Hugging Face Hub: the raw rows, a Parquet file with a row per process, and a card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow as pa

from harness import PROGRAM, PROTOCOL
from results.storage.folder import write_below
from results.storage.merge import KINDS, Merged, merge
from results.tables.columns import COLUMNS, PROCESS_TYPES
from results.tables.parquet_cache import NESTED, as_parquet
from results.tables.render import escape, markdown_table
from results.tables.sheet import Heading

README, PARQUET = "README.md", "data/processes.parquet"
COPIED = tuple(kind for kind in KINDS if kind != "logs")
"""The folders of a results folder that are copied. Logs of failed workers are not: they hold paths and user names."""

MAPPINGS = tuple(name for name, kind in NESTED.items() if pa.types.is_map(kind))
"""Columns that are JSON here, because `datasets` reads no Parquet maps."""


def write_dataset(frame: pd.DataFrame, results_dir: Path, out: Path) -> Merged:
    """Write the records of a results folder, and `frame` (its `results.load`) as Parquet, as a dataset in `out`.

    `out` is a results folder too, so `merge` and `verify` read it. A second export adds new runs. Raises `Refused` if
    `out` holds a run of the same name with other content, and ImportError without huggingface_hub.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(
        pretty_name="Fine-tuning benchmarks",
        tags=["finetune-bench", "benchmark", "fine-tuning"],
        configs=[{"config_name": "processes", "data_files": PARQUET}],
    )
    card = DatasetCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(_body(frame)) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / README).write_text(str(card), encoding="utf-8")  # first: a results folder with a file gets no .gitignore
    done = merge(out, [results_dir], COPIED)
    write_below(out, out / PARQUET, as_parquet(_portable(frame, results_dir)))
    return done


def _portable(frame: pd.DataFrame, results_dir: Path) -> pd.DataFrame:
    """Replace mappings by JSON, and paths by paths inside the folder."""
    texts = {name: frame[name].map(_json).astype("string") for name in MAPPINGS}
    inside = [Path(file).relative_to(results_dir).as_posix() for file in frame["file"]]
    return frame.assign(**texts, file=pd.array(inside, dtype="string"))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _body(frame: pd.DataFrame) -> Iterator[str]:
    counts = ", ".join(f"{count} {status}" for status, count in frame["status"].value_counts().items())
    yield "# Fine-tuning benchmarks"
    yield from (
        "",
        f"{len(frame)} processes ({counts}), measured with finetune-bench, protocol {PROTOCOL}. Each process",
    )
    yield "trained one network in one framework. This card states no license; add one to the metadata above."
    yield from ("", f"- Models: {_names(frame['model'])}", f"- Frameworks: {_names(frame['backend_name'])}")
    yield from (f"- Methods: {_names(frame['scenario'])}", f"- Datasets: {_names(frame['dataset'])}")
    yield from (f"- Devices: {_names(frame['device_name'])}", "", "## Files", "")
    yield f"- `{PARQUET}`: a row per process, with the columns below; `datasets.load_dataset` reads it. `comparison` is"
    yield "  set for the sides of comparisons, which tables leave out."
    yield "- `runs/`: the raw rows as JSON lines, with all step times, command lines and settings"
    yield "- `objects/`: machines, environments and logits, named by their SHA-256"
    yield "- `certificates/`, `ceilings/`: proofs that frameworks did the same work, and measured limits of machines"
    yield from ("", "The folder is a results folder of finetune-bench:", "", "```console")
    yield from (f"$ {PROGRAM} verify --results FOLDER  # calculates every figure again from the raw rows",)
    yield from (f"$ {PROGRAM} merge FOLDER --results bench-results", "```", "", "## Columns", "")
    rows = ((one.name, one.type, one.unit, one.text) for one in COLUMNS if one.name in PROCESS_TYPES)
    yield from markdown_table([Heading(title, False) for title in ("column", "type", "unit", "meaning")], rows)


def _names(values: pd.Series[str]) -> str:
    return escape(", ".join(dict.fromkeys(map(str, values.dropna()))) or "none")
