"""`compare`: measure whether side B is slower, larger or less accurate than side A."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import json_option
from benchmarks.choosing.options import MEASURE, OUTPUT, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.sharding import take
from benchmarks.comparing.budget import SHORTER, comparison_options, read_limits
from benchmarks.comparing.comparison_run import ComparisonResults, open_comparison_run
from benchmarks.comparing.cost import comparison_items, cost, total
from benchmarks.comparing.installations import require_sources
from benchmarks.comparing.sides import expand_sides, read_sides, sides_differ
from benchmarks.running.forecast import say_if_long
from harness.errors import Refused
from results.exports.comparison_formats import FORMATS, write
from results.storage.comparison import Comparison
from results.tables.wording import plain

NO_SIDES = (
    "A and B are the same; give two sides, such as `compare pytorch keras3`, `compare rev:main here`, "
    "--set B.precision=bf16 or --python B=venv/bin/python; to compare a case with itself, use `noise`"
)


@click.command(cls=GroupedCommand)
@click.argument("sides", nargs=-1, metavar="[A B]", help="backends, rev:REVISION, dir:CHECKOUT, or here")
@selection_options("seeds")
@comparison_options(
    "python", "set", "inject-delay", "margin", "seeds", "pairs", "alternate", "turn", "budget", "timeout"
)
@option("--stage", type=click.IntRange(min=1), group=MEASURE, help="stage whose steps are timed; default: the last")
@option("--order-seed", type=int, group=MEASURE, help="seed of the order of turns; default: a random one")
@shared("shard", "plugin")
@option("--dry-run", is_flag=True, group=OUTPUT, help="only print the cases and the expected time")
@option("--format", "format_", type=click.Choice(FORMATS), default="text", group=OUTPUT, help="output format")
@json_option(lambda: list[Comparison], "the same as --format json")
@shared("out", "quiet", "results")
def command(sides: tuple[str, ...], format_: str, json_: bool, out: Path | None, results: Path, **options: Any) -> None:
    """Compare two backends, revisions, environments or settings.

    \b
      compare pytorch keras3-jax                                   two backends
      compare rev:main here                                        two revisions of this project
      compare --python A=v1/bin/python --python B=v2/bin/python    two environments
      compare --set B.precision=bf16                               two settings

    Revisions need a git checkout of this project; load your own code with --plugin. The two processes of a pair take
    turns on the same cores, and each pair gives one ratio. The default scenario is `full`. Exits with 1 for a confirmed
    regression, with 3 if a case was not measured.
    """
    if json_ and options["dry_run"]:
        raise Refused("--dry-run prints text; leave out --json")
    limits = read_limits(options)
    catalogue = read_catalogue(options["plugin"])
    specs = read_sides(sides, options["python"], options["set"], options["inject_delay"], catalogue)
    cases = expand_sides(specs, given(options), catalogue)
    if not sides and not sides_differ(specs, cases):
        raise Refused(NO_SIDES)
    require_sources(specs)
    cases, shard = take(options["shard"], comparison_items(specs, cases, limits, catalogue), "comparisons")
    if options["dry_run"]:
        click.echo(cost(cases, limits, results, catalogue))
        return
    facts = {"order_seed": options["order_seed"], "quiet": options["quiet"], "shard": shard}
    with open_comparison_run(results, limits, catalogue, **facts) as run:
        prepared = run.prepare(specs, cases, options["stage"])
        if not options["quiet"]:
            say_if_long(*total(cases, limits, results, catalogue), SHORTER)
        found = run.measure(prepared, "compare")
    write(found.comparisons, "json" if json_ else format_, out)
    for sentence in found.failed:
        click.echo(f"error: {plain(sentence)}", err=True)
    sys.exit(exit_code(found))


def exit_code(found: ComparisonResults) -> int:
    """Return 1 if there is a regression, else 3 if a case could not be measured, else 0."""
    if any(one.verdict == "regression" for one in found.comparisons):
        return 1
    return 3 if found.failed else 0
