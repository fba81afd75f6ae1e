"""`table`: what was measured, side by side."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from results.certificates.certificate import read_certificates
from results.exports.comparison_formats import save
from results.storage.folder import RESULTS
from results.tables.render import FORMATS, Format, render
from results.tables.sheet import DEFAULT, Style
from results.tables.side_by_side import unproved

NARROW, WIDE = 100, 200
"""Columns of text where no terminal says how many it has."""


@click.command
@click.argument("path", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--target", type=click.FloatRange(0, 1), help="validation accuracy for the time to accuracy")
@click.option("--require-certificate", is_flag=True, help="end with 3 if backends stand side by side without a ratio")
@click.option(
    "--certificates", type=click.Path(file_okay=False, path_type=Path), help="results folder that holds certificates"
)
@click.option("--wide", is_flag=True, help="every column: ranges, resolution, compiling, latencies, seeds, runs")
@click.option("--explain", is_flag=True, help="name the rule behind each note, such as V46; `rules V46` explains it")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="file to write instead of the terminal")
def command(
    path: Path,
    format_: Format,
    target: float | None,
    require_certificate: bool,
    certificates: Path | None,
    out: Path | None,
    *,
    wide: bool,
    explain: bool,
) -> None:
    """Tabulate the records of PATH: a results folder, or the file of one run."""
    folder = certificates or (path if path.is_dir() else _results_folder(path))
    style = Style(wide, explain)
    sys.exit(print_table(path, folder, target, format_, out, style, require=require_certificate))


def print_table(
    path: Path,
    certificates: Path,
    target: float | None,
    format_: Format = "text",
    out: Path | None = None,
    style: Style = DEFAULT,
    *,
    require: bool = False,
) -> int:
    """Print or write the answer and the table of the records under `path`; ratios need the certificates of a folder.

    Returns the exit code: 1 if a figure cannot be followed to the records; 3 if planned cases are missing, if rows
    cannot be read (V50), or if `require` and figures of two backends stand side by side without a certificate.
    """
    from results import load, table
    from results.rules.table_rules import unfollowed
    from results.tables.load import ALONE, NothingMeasured
    from results.tables.time_to_accuracy import sentences

    terminal = sys.stdout.isatty() and out is None
    unbounded = WIDE if style.wide else NARROW
    width = shutil.get_terminal_size((unbounded, 24)).columns if terminal else unbounded
    frame, proofs = load(path), read_certificates(certificates)
    rows = table(frame, target)
    if rows.empty:
        raise NothingMeasured(f"{path} holds {ALONE}")
    rows.attrs["leads"] = list(sentences(frame))
    lost = unfollowed(rows, frame)
    rows.attrs["warnings"] = [*rows.attrs["warnings"], *lost]
    content = render(rows, format_, certificates=proofs, style=style, width=width, colour=terminal)
    if out is not None:
        save(out, content)
    elif format_ in ("text", "markdown"):
        click.echo(content.decode(), nl=False)  # in the terminal's encoding
    else:
        click.echo(content, nl=False)
    missing = unproved(rows, proofs.all) if require else []
    for sentence in missing:
        click.echo(f"--require-certificate: {sentence}", err=True)
    if lost:
        return 1
    # A row that was cut off is missed if its case was not run again; a line of somebody else's is none of ours.
    unread = any(rows.attrs["unread"].get(fault) for fault in ("unreadable", "future"))
    return 3 if missing or unread or rows.attrs["missing"] else 0


def _results_folder(file: Path) -> Path:
    """Where the certificates of a run's file lie: beside its `runs` folder."""
    return next((parent.parent for parent in file.resolve().parents if parent.name == "runs"), file.parent)
