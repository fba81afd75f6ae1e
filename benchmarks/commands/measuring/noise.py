"""`noise`: measure the smallest change that this machine can detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.options import GroupedCommand, given, selection_options, shared
from benchmarks.choosing.sharding import take
from benchmarks.comparing.budget import SHORTER, comparison_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import comparison_items, total
from benchmarks.comparing.sides import expand_sides, read_sides
from benchmarks.running.forecast import say_if_long
from harness.errors import Declined
from results.storage.comparison import LOOKS
from results.verdicts.comparison_text import as_text
from results.verdicts.noise import resolution, sentences


@click.command(cls=GroupedCommand)
@selection_options("seeds")
@comparison_options("turn", "budget", "timeout")
@shared("shard", "quiet", "plugin", "results")
def command(results: Path, **options: Any) -> None:
    """Measure the smallest change that this machine can detect.

    It compares each case with itself in 20 pairs, stores the comparison with the purpose `noise`, and prints the
    smallest change that each number of pairs detects.
    """
    catalogue = read_catalogue(options["plugin"])
    specs = read_sides((), (), (), (), catalogue)
    cases = expand_sides(specs, given(options), catalogue)
    limits = read_limits(options, seeds=0, every_pair=True, confirm=False)
    cases, shard = take(options["shard"], comparison_items(specs, cases, limits, catalogue), "comparisons")
    facts = {"order_seed": None, "quiet": options["quiet"], "shard": shard}
    with open_comparison_run(results, limits, catalogue, **facts) as run:
        prepared = run.prepare(specs, cases, None)
        if not options["quiet"]:
            say_if_long(*total(cases, limits, results, catalogue), SHORTER)
        found = run.measure(prepared, "noise")
    click.echo(as_text(found.comparisons), nl=False)
    problems = [*found.failed]
    for one in found.comparisons:
        if one.findings[0].replicates < LOOKS[0]:
            problems.append(f"{one.label}: only {one.findings[0].replicates} pairs; use a larger --budget")
        else:
            click.echo("\n".join(sentences(resolution(one))))
    if problems:
        raise Declined("; ".join(problems))
