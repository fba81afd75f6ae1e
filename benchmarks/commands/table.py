"""`table`: what was measured, side by side."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from harness.errors import Refused
from results.render import FORMATS, Format, render


@click.command
@click.argument("path", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--target", type=click.FloatRange(0, 1), help="validation accuracy for the time to accuracy")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="file to write instead of the terminal")
def command(path: Path, format_: Format, target: float | None, out: Path | None) -> None:
    """Tabulate the records of PATH: a results folder, or the file of one run."""
    print_table(path, target, format_, out)


def print_table(path: Path, target: float | None, format_: Format = "text", out: Path | None = None) -> None:
    """Print or write the table of the records under `path`."""
    from results import load, table  # pandas takes a second and 100 MB: only when there is a table to make

    terminal = sys.stdout.isatty() and out is None
    width = shutil.get_terminal_size((100, 24)).columns if terminal else 100
    content = render(table(load(path), target), format_, width=width, colour=terminal)
    if out is not None:
        try:
            out.write_bytes(content)
        except OSError as error:
            raise Refused(f"--out {out} cannot be written ({error.strerror})") from error
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
