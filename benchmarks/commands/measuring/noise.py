"""`noise`: measure the smallest change that this machine can detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, given, selection_options, shared
from benchmarks.choosing.sharding import take
from benchmarks.comparing.budget import SHORTER, comparison_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import comparison_items, total
from benchmarks.comparing.sides import expand_sides, read_sides
from benchmarks.running.forecast import say_if_long
from harness.errors import Declined
from results.storage.comparison import LOOKS, Comparison
from results.verdicts.comparison_text import as_text
from results.verdicts.noise import Resolution, resolution, sentences


class NoiseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Each case compared with itself, and the resolution of each case with enough pairs."""

    comparisons: tuple[Comparison, ...]
    resolutions: tuple[Resolution, ...]


@click.command(cls=GroupedCommand)
@selection_options("seeds")
@comparison_options("turn", "budget", "timeout")
@json_option(lambda: NoiseDocument)
@shared("shard", "quiet", "plugin", "results")
def command(json_: bool, results: Path, **options: Any) -> None:
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
    resolutions, problems = [], [*found.failed]
    for one in found.comparisons:
        if one.findings[0].replicates < LOOKS[0]:
            problems.append(f"{one.label}: only {one.findings[0].replicates} pairs; use a larger --budget")
        else:
            resolutions.append(resolution(one))
    if json_:
        print_json(NoiseDocument(comparisons=tuple(found.comparisons), resolutions=tuple(resolutions)))
    else:
        click.echo(as_text(found.comparisons), nl=False)
        for one_resolution in resolutions:
            click.echo("\n".join(sentences(one_resolution)))
    if problems:
        raise Declined("; ".join(problems))
