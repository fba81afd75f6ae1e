"""`bisect`: the first slower of many revisions, interpreters or settings, found under noise."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.options import MEASURE, GroupedCommand, given, option, selection_options, shared
from benchmarks.comparing.bisecting import Candidate, CandidateRatios, interpreters, revisions, settings
from benchmarks.comparing.budget import SIDES, Limits, comparison_options
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import pair_seconds
from benchmarks.comparing.sides import expand_sides, read_share
from benchmarks.running.forecast import say_if_long
from harness.errors import Refused
from results.verdicts.search import CONFIDENCE, MOST, SearchResult, search, simulate

PROBABILITY = click.FloatRange(0.5, 0.999)


@click.command(cls=GroupedCommand)
@click.argument("ends", nargs=-1, metavar="[GOOD BAD]", help="revisions of this project")
@selection_options("seeds")
@comparison_options("python", "set", "turn")
@option("--inject-delay", multiple=True, metavar="N=SHARE", group=SIDES, help="delay from candidate N (0, 1, …) on")
@option("--margin", default="3%", group=MEASURE, help="smallest change to search for")
@option("--confidence", type=PROBABILITY, default=CONFIDENCE, group=MEASURE, help="probability that ends the search")
@option("--measurements", type=click.IntRange(min=2), default=MOST, group=MEASURE, help="largest number of pairs")
@option("--simulate", "trials", type=click.IntRange(min=1), metavar="N", group=MEASURE, help="only simulate N searches")
@shared("quiet", "results")
def command(ends: tuple[str, ...], results: Path, trials: int | None, **options: Any) -> None:
    """Find the first slower revision, interpreter or setting.

    Side A is the good candidate. The candidates B are the revisions of this project after GOOD up to BAD, which need a
    git checkout, or several --python B=PATH or --set B.SETTING=VALUE, in order:

    \b
      bisect v1.0 HEAD
      bisect --python A=v1/bin/python --python B=v2/bin/python --python B=v3/bin/python
      bisect --set A.threads=1 --set B.threads=2 --set B.threads=4

    Each measurement is a pair of processes of A and a candidate. It is stored, so that an interrupted search continues.
    Exits with 0 if it found the candidate, 1 if the last candidate is no slower than A, 3 if it is not confident.
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
        answer = search(len(candidates), taken.measure, margin, options["confidence"], options["measurements"])
    click.echo(_said(answer, candidates, taken.measured))
    sys.exit(3 if answer.probability < options["confidence"] else 0 if answer.first_bad else 1)


def _candidates(ends: tuple[str, ...], options: dict[str, Any]) -> list[Candidate]:
    ways = [bool(ends), bool(options["python"]), bool(options["set"])]
    if sum(ways) != 1:
        raise Refused("name GOOD and BAD, or several --python, or several --set; one of the three, see bisect --help")
    if ends:
        if len(ends) != 2:
            raise Refused(f"{len(ends)} revisions; name two, a good one and a bad one, such as v1.0 HEAD")
        found = revisions(*ends)
    else:
        found = interpreters(options["python"]) if options["python"] else settings(options["set"])
    if len(found) < 2:
        raise Refused("only one candidate; a search needs a good and a bad one")
    return found


def _delays(texts: tuple[str, ...], count: int) -> dict[int, float]:
    found: dict[int, float] = {}
    for text in texts:
        place, _, share = text.partition("=")
        if not place.isdigit() or int(place) >= count:
            raise Refused(f"--inject-delay {text}: {place} is not a candidate (0 to {count - 1}); write 1=20%")
        found |= dict.fromkeys(range(int(place), count), read_share(share, f"--inject-delay {text}"))
    return found


def _said(answer: SearchResult, candidates: list[Candidate], measured: int) -> str:
    counted = f"{answer.measurements} measurements, {measured} of them new"
    left_out = f"; {len(answer.unbuildable)} could not be built" if answer.unbuildable else ""
    if answer.first_bad is None:
        return f"none is worse than {candidates[0].name}: confidence {answer.probability:.1%} after {counted}{left_out}"
    first, before = candidates[answer.first_bad], candidates[answer.first_bad - 1]
    return (
        f"first bad: {first.name} (after {before.name}), {100 * math.expm1(answer.step):+.1f} % of cost, "
        f"confidence {answer.probability:.1%} after {counted}{left_out}"
    )
