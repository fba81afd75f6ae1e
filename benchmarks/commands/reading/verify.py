"""`verify`: whether every figure follows from the raw rows, by a checker that shares no code with what made it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.inspecting.verify import verify
from benchmarks.running.own_process import afresh
from harness.errors import Declined, Refused
from results.storage.folder import RESULTS
from results.storage.rows import PairRow, ProcessRow, scan


@click.command
@click.argument("path", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
@click.option(
    "--table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="what `table --format json` or `csv` wrote; default: made now",
)
def command(path: Path, table: Path | None) -> None:
    """Work out every figure of a table and of the stored verdicts below PATH again, from raw rows, and name the first
    that does not follow.

    Ends with 1 if one does not follow, with 3 if there is nothing to follow.
    """
    if not list((path / "runs").rglob("*.jsonl")):
        raise Declined(f"{path} holds no runs; name a results folder")
    cells = _made(path) if table is None else _read(table)
    found = list(verify(path, cells))
    if found:
        click.echo(f"{found[0]}{f' (and {len(found) - 1} more)' if len(found) > 1 else ''}")
        sys.exit(1)
    click.echo(f"{len(cells)} rows of a table and every stored verdict follow from the raw rows")


def _made(path: Path) -> list[dict[str, Any]]:
    said = afresh("table", str(path), "--format", "json")
    if not said.stdout:
        if _holds_only_comparisons(path):
            return []
        raise Declined(said.stderr.strip().splitlines()[-1] if said.stderr.strip() else f"{path} gives no table")
    return list(json.loads(said.stdout))


def _holds_only_comparisons(path: Path) -> bool:
    rows = [line.row for file in (path / "runs").rglob("*.jsonl") for line in scan(file)]
    own = any(isinstance(row, ProcessRow) and row.side is None for row in rows)
    return not own and any(isinstance(row, PairRow) for row in rows)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".json":
            return list(json.loads(file.read_text(encoding="utf-8")))
        import pandas as pd

        frame = pd.read_csv(file, dtype={"version": str, "machine": str, "environment": str}, keep_default_na=True)
        frame["marks"] = [marks.split("; ") if isinstance(marks, str) else [] for marks in frame["marks"]]
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return [{str(name): cell for name, cell in row.items()} for row in rows]
    except (ValueError, KeyError) as error:
        raise Refused(f"{file} is no table in JSON or CSV ({error}); write it with `table --format json`") from error
