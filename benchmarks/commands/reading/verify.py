"""`verify`: recalculate every figure from the raw rows, with code that is independent of `table`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, option, shared
from benchmarks.inspecting.verify import verify
from benchmarks.running.own_process import start_program
from harness.errors import Declined, Refused
from results.storage.rows import PairRow, ProcessRow, VerdictRow, scan


class VerifyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The number of rows of the table, and a sentence about each figure that does not follow from the raw rows."""

    rows: int
    differences: tuple[str, ...]


@click.command(cls=GroupedCommand)
@option(
    "--table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    group="What to read",
    help="file that `table --format json` or `csv` wrote; default: a new table",
)
@json_option(lambda: VerifyDocument)
@shared("results")
def command(results: Path, table: Path | None, json_: bool) -> None:
    """Recalculate every figure from the raw rows.

    It checks the figures of a table and of the stored verdicts, and names the first that differs. Exits with 1 if one
    differs, with 3 if the folder has no results.
    """
    if not list((results / "runs").rglob("*.jsonl")):
        raise Declined(f"{results} has no runs; give a folder of results with --results")
    cells = _made(results) if table is None else _read(table)
    found = list(verify(results, cells))
    if json_:
        print_json(VerifyDocument(rows=len(cells), differences=tuple(found)))
        sys.exit(1 if found else 0)
    if found:
        click.echo(f"{found[0]}{f' (and {len(found) - 1} more)' if len(found) > 1 else ''}")
        sys.exit(1)
    click.echo(f"{len(cells)} rows of a table and every stored verdict follow from the raw rows")


def _made(results: Path) -> list[dict[str, Any]]:
    with start_program("table", "--results", str(results), "--format", "json") as process:
        stdout, stderr = process.communicate()
    if not stdout:
        if _holds_only_comparisons(results):
            return []
        raise Declined(stderr.strip().splitlines()[-1] if stderr.strip() else f"{results} gives no table")
    return list(json.loads(stdout))


def _holds_only_comparisons(path: Path) -> bool:
    rows = [line.row for file in (path / "runs").rglob("*.jsonl") for line in scan(file)]
    of_runs = any(isinstance(row, ProcessRow) and row.side is None for row in rows)
    return not of_runs and any(isinstance(row, PairRow | VerdictRow) for row in rows)


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
        raise Refused(f"{file} is not a table in JSON or CSV ({error}); write it with `table --format json`") from error
