"""`bisect`: the first bad of many revisions, interpreters or settings, found under noise."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.options import given, results_option, selection_options
from benchmarks.comparing.bisecting import Candidate, CandidateRatios, interpreters, revisions, settings
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import pair_seconds
from benchmarks.comparing.sides import expand_sides, read_share
from benchmarks.running.forecast import say_if_long
from harness.errors import Refused
from results.verdicts.search import MOST, SURE, SearchResult, search, simulate


@click.command
@click.argument("ends", nargs=-1, metavar="[GOOD BAD]")
@selection_options("seeds")
@click.option("--python", multiple=True, metavar="PATH", help="interpreters in order, the first good, the last bad")
@click.option("--set", "values", metavar="FIELD=A,B,…", help="values of one setting in order")
@click.option("--margin", default="3%", show_default=True, help="the smallest step that is looked for")
@click.option(
    "--sure", type=click.FloatRange(0.5, 0.999), default=SURE, show_default=True, help="probability to stop at"
)
@click.option("--measurements", type=click.IntRange(min=2), default=MOST, show_default=True, help="pairs at most")
@click.option(
    "--turn", type=click.FloatRange(min=0, min_open=True), default=0.5, show_default=True, help="seconds of a turn"
)
@click.option(
    "--inject-delay", multiple=True, metavar="N=SHARE", help="make candidate N (from 0) and all later ones slower"
)
@click.option(
    "--simulate", "trials", type=click.IntRange(min=1), help="search 64 made-up revisions that often, and stop"
)
@click.option("--quiet", is_flag=True, help="no progress, only the answer")
@results_option
def command(ends: tuple[str, ...], results: Path, trials: int | None, **options: Any) -> None:
    """Find the first bad one: of the revisions of this project after GOOD up to BAD, of interpreters, or of a
    setting's values.

    Revisions need a git checkout of this project; elsewhere give several --python.

    Each measurement is a pair of the first candidate and another; stored, so that a search that was cut short goes on.
    Ends with 0 for a place found, 1 if the last is no worse than the first, 3 if nothing is sure.
    """
    if trials:
        found = simulate(trials)
        click.echo(
            f"64 revisions, a step of 5 %, 2 % between measurements: {100 * found.right:.1f} % right in {found.trials} "
            f"trials, {found.mean_measurements:.1f} measurements on average, {found.most_measurements} at most"
        )
        return
    candidates = _candidates(ends, options)
    catalogue = read_catalogue()
    margin = math.log1p(read_share(options["margin"], "--margin"))
    limits = Limits(turn_s=options["turn"])
    if not options["quiet"]:
        ends_of_it = candidates[0].spec._replace(name="A"), candidates[-1].spec
        pair_s = max(pair_seconds(sides, limits) for sides in expand_sides(ends_of_it, given(options), catalogue))
        say_if_long(0.0, options["measurements"] * pair_s, "--measurements N ends it earlier")
    with open_comparison_run(results, limits, catalogue, order_seed=0, quiet=options["quiet"]) as run:
        say = (lambda line: None) if options["quiet"] else (lambda line: click.echo(line, err=True))
        delays = _delays(options["inject_delay"], len(candidates))
        taken = CandidateRatios(candidates, given(options), catalogue, run, results, say, delays)
        answer = search(len(candidates), taken.measure, margin, options["sure"], options["measurements"])
    click.echo(_said(answer, candidates, taken.measured))
    sys.exit(3 if answer.probability < options["sure"] else 0 if answer.first_bad else 1)


def _candidates(ends: tuple[str, ...], options: dict[str, Any]) -> list[Candidate]:
    ways = [bool(ends), bool(options["python"]), bool(options["values"])]
    if sum(ways) != 1:
        raise Refused("name GOOD and BAD, or --python several times, or --set FIELD=A,B,C; one of the three")
    if ends:
        if len(ends) != 2:
            raise Refused(f"{len(ends)} revisions; name the last good one and a bad one")
        found = revisions(*ends)
    else:
        found = interpreters(options["python"]) if options["python"] else settings(options["values"])
    if len(found) < 2:
        raise Refused("there is only one candidate; a search needs a good and a bad one")
    return found


def _delays(texts: tuple[str, ...], count: int) -> dict[int, float]:
    found: dict[int, float] = {}
    for text in texts:
        place, _, share = text.partition("=")
        if not place.isdigit() or int(place) >= count:
            raise Refused(f"--inject-delay {text}: begin with a candidate's number, 0 to {count - 1}, such as 3=20%")
        found |= dict.fromkeys(range(int(place), count), read_share(share, f"--inject-delay {text}"))
    return found


def _said(answer: SearchResult, candidates: list[Candidate], measured: int) -> str:
    counted = f"{answer.measurements} measurements, {measured} of them new"
    left_out = f"; {len(answer.unbuildable)} could not be built" if answer.unbuildable else ""
    if answer.first_bad is None:
        return f"none is worse than {candidates[0].name}: {answer.probability:.1%} sure after {counted}{left_out}"
    first, before = candidates[answer.first_bad], candidates[answer.first_bad - 1]
    return (
        f"first bad: {first.name} (after {before.name}), {100 * math.expm1(answer.step):+.1f} % of cost, "
        f"{answer.probability:.1%} sure after {counted}{left_out}"
    )
