"""`table`: print the results as a table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.documents import case_rows, json_option
from benchmarks.choosing.options import FOLDER, OUTPUT, GroupedCommand, option, results_or_run_option, shared
from results.certificates.certificate import read_certificates
from results.exports.comparison_formats import save
from results.storage.folder import results_folder
from results.tables.render import FORMATS, Format, render
from results.tables.sheet import DEFAULT, Style
from results.tables.side_by_side import unproved

NARROW, WIDE = 100, 200
"""The width of the text if no terminal gives one."""


@click.command(cls=GroupedCommand)
@option("--certificates", type=FOLDER, group="What to read", help="folder of results to read certificates from")
@option("--require-certificate", is_flag=True, group=OUTPUT, help="exit with 3 if two backends have no certificate")
@shared("target-accuracy", "wide", "explain")
@option("--format", "format_", type=click.Choice(FORMATS), default="text", group=OUTPUT, help="output format")
@json_option(case_rows, "the same as --format json")
@shared("out")
@results_or_run_option
def command(results: Path, certificates: Path | None, wide: bool, explain: bool, json_: bool, **options: Any) -> None:
    """Print the results as a table.

    --results also takes the file of one run.
    """
    options |= {"format_": "json"} if json_ else {}
    sys.exit(print_table(results, certificates or results_folder(results), style=Style(wide, explain), **options))


def print_table(
    path: Path,
    certificates: Path,
    target_accuracy: float | None,
    format_: Format = "text",
    out: Path | None = None,
    style: Style = DEFAULT,
    *,
    require_certificate: bool = False,
) -> int:
    """Write the answer and the table of the records under `path`; ratios need certificates. Return the exit code.

    The code is 1 if a figure does not follow from the records; 3 if planned cases are missing, if rows cannot be read
    (V50), or with `require_certificate` if two backends have no certificate.
    """
    from results import load, table
    from results.ceilings.stored import read_ceilings
    from results.ceilings.utilisation import shortfalls
    from results.rules.table_rules import unfollowed
    from results.tables.load import ONLY_COMPARISONS, NothingMeasured
    from results.tables.time_to_accuracy import sentences

    terminal = sys.stdout.isatty() and out is None
    unbounded = WIDE if style.wide else NARROW
    width = shutil.get_terminal_size((unbounded, 24)).columns if terminal else unbounded
    frame, proofs = load(path), read_certificates(certificates)
    rows = table(frame, target_accuracy)
    if rows.empty:
        raise NothingMeasured(f"{path} has {ONLY_COMPARISONS}")
    rows.attrs["leads"] = list(sentences(frame))
    rows.attrs["shortfalls"] = list(shortfalls(frame, read_ceilings(results_folder(path))))
    lost = unfollowed(rows, frame)
    rows.attrs["warnings"] = [*rows.attrs["warnings"], *lost]
    content = render(rows, format_, certificates=proofs, style=style, width=width, colour=terminal)
    if out is not None:
        save(out, content)
    elif format_ in ("text", "markdown"):
        click.echo(content.decode(), nl=False)  # in the terminal's encoding
    else:
        click.echo(content, nl=False)
    missing = unproved(rows, proofs.all) if require_certificate else []
    for sentence in missing:
        click.echo(f"--require-certificate: {sentence}", err=True)
    if lost:
        return 1
    # The attribute "missing" covers rows that were cut off. Rows of another program do not matter.
    unread = any(rows.attrs["unread"].get(fault) for fault in ("unreadable", "future"))
    return 3 if missing or unread or rows.attrs["missing"] else 0
