"""`compare`: is B slower, larger or less accurate than A."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.options import given, results_option, selection_options
from benchmarks.comparing.budget import SHORTER, limit_options, read_limits
from benchmarks.comparing.comparison_run import ComparisonResults, open_comparison_run
from benchmarks.comparing.cost import cost, total
from benchmarks.comparing.installations import require_sources
from benchmarks.comparing.sides import expand_sides, read_sides, sides_differ
from benchmarks.running.forecast import say_if_long
from harness.errors import Refused
from results.exports.comparison_formats import FORMATS, write
from results.tables.wording import plain

NO_SIDES = (
    "nothing differs between A and B; name two sides, such as `compare pytorch keras3`, `compare rev:main here`, "
    "--set B.precision=bf16 or --python B=venv/bin/python; `noise` compares a case with itself"
)


@click.command
@click.argument("sides", nargs=-1, metavar="[A B]")
@selection_options("seeds")
@click.option("--python", multiple=True, metavar="SIDE=PATH", help="interpreter of a side, such as B=venv/bin/python")
@click.option("--set", "settings", multiple=True, metavar="SIDE.FIELD=VALUE", help="such as B.precision=bf16")
@click.option(
    "--inject-delay", multiple=True, metavar="SIDE=SHARE", help="make each step of a side longer, such as B=5%"
)
@click.option("--stage", type=click.IntRange(min=1), help="stage whose steps are timed; default: the last")
@limit_options("margin", "seeds", "pairs", "alternate", "turn", "budget", "timeout", "quiet")
@click.option("--order-seed", type=int, help="seed of the random order of turns; default: drawn")
@click.option("--plugin", multiple=True, type=click.Path(), help="Python file with models, scenarios or datasets")
@click.option("--dry-run", is_flag=True, help="say what is compared and what it costs, and stop")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="file to write instead of the terminal")
@results_option
def command(sides: tuple[str, ...], format_: str, out: Path | None, results: Path, **options: Any) -> None:
    """Compare two sides: A and B are backends (pytorch keras3-jax), revisions of this project (rev:main rev:HEAD),
    checkouts of it (dir:PATH), or `here`, with interpreters and settings of their own.

    Two environments are two interpreters: --python A=old/bin/python --python B=new/bin/python. Revisions need a git
    checkout of this project; code of your own takes part by --plugin.

    Two live workers take turns on the same cores; pairs of fresh processes give one ratio each. Of each model `full` is
    compared if no --scenario is named. Ends with 1 for a confirmed regression, 3 if a case could not be measured.
    """
    limits = read_limits(options)
    catalogue = read_catalogue(options["plugin"])
    specs = read_sides(sides, options["python"], options["settings"], options["inject_delay"], catalogue)
    cases = expand_sides(specs, given(options), catalogue)
    if not sides and not sides_differ(specs, cases):
        raise Refused(NO_SIDES)
    require_sources(specs)
    if options["dry_run"]:
        click.echo(cost(cases, limits, results, catalogue))
        return
    opened = open_comparison_run(results, limits, catalogue, order_seed=options["order_seed"], quiet=options["quiet"])
    with opened as run:
        prepared = run.prepare(specs, cases, options["stage"])
        if not options["quiet"]:
            say_if_long(*total(cases, limits, results, catalogue), SHORTER)
        found = run.measure(prepared, "compare")
    write(found.comparisons, format_, out)
    for sentence in found.failed:
        click.echo(f"error: {plain(sentence)}", err=True)
    sys.exit(exit_code(found))


def exit_code(found: ComparisonResults) -> int:
    """1 if anything is a regression, otherwise 3 if a case could not be measured."""
    if any(one.verdict == "regression" for one in found.comparisons):
        return 1
    return 3 if found.failed else 0
