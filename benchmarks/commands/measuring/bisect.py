"""`bisect`: find the first slower of many revisions, interpreters or settings from noisy measurements."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, GroupedCommand, given, option, selection_options, shared
from benchmarks.comparing.bisecting import Candidate, CandidateRatios, interpreters, revisions, settings
from benchmarks.comparing.budget import SIDES, Limits, comparison_options
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import pair_seconds
from benchmarks.comparing.sides import expand_sides, read_share
from benchmarks.running.forecast import say_if_long
from harness.errors import Refused, each_once
from results.verdicts.search import CONFIDENCE, MOST, SearchResult, Trials, search, simulate

PROBABILITY = click.FloatRange(0.5, 0.999)


class BisectDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The first slower candidate and the one before it, or null if none is slower than the first.

    `change` is the relative change of the cost, 0.05 for +5 %. `posterior` has the probability of each candidate to be
    the first slower one; that of the first candidate is for none. `new` measurements were made by this call.
    """

    first_slower: str | None
    before: str | None
    change: float | None
    probability: float
    measurements: int
    new: int
    candidates: tuple[str, ...]
    posterior: tuple[float, ...]
    unbuildable: tuple[str, ...]


@click.command(cls=GroupedCommand)
@click.argument("ends", nargs=-1, metavar="[GOOD BAD]", help="revisions of this project")
@selection_options("seeds")
@comparison_options("python", "set", "turn")
@option("--inject-delay", multiple=True, metavar="N=SHARE", group=SIDES, help="delay for candidates N, N+1, …")
@option("--margin", default="3%", group=MEASURE, help="smallest change to search for")
@option("--confidence", type=PROBABILITY, default=CONFIDENCE, group=MEASURE, help="probability that ends the search")
@option("--measurements", type=click.IntRange(min=2), default=MOST, group=MEASURE, help="largest number of pairs")
@option("--simulate", "trials", type=click.IntRange(min=1), metavar="N", group=MEASURE, help="only simulate N searches")
@json_option(lambda: (BisectDocument, Trials))
@shared("quiet", "results")
def command(ends: tuple[str, ...], results: Path, trials: int | None, json_: bool, **options: Any) -> None:
    """Find the first slower revision, interpreter or setting.

    Side A is the good candidate. The candidates B are, in order, the revisions after GOOD up to BAD in a git checkout
    of this project, or several --python B=PATH or --set B.SETTING=VALUE:

    \b
      bisect v1.0 HEAD
      bisect --python A=v1/bin/python --python B=v2/bin/python --python B=v3/bin/python
      bisect --set A.threads=1 --set B.threads=2 --set B.threads=4

    Each measurement is a pair of processes of A and a candidate. It is stored: an interrupted search continues there.
    Exits with 0 if it found the candidate, 1 if the last candidate is not slower than A, 3 if it is not confident.
    """
    if trials:
        found = simulate(trials)
        if json_:
            print_json(found)
            return
        click.echo(
            f"64 revisions, a slow-down of 5 %, noise of 2 %: {100 * found.right:.1f} % of {found.trials} searches are "
            f"right, with {found.mean_measurements:.1f} measurements on average, {found.most_measurements} at most"
        )
        return
    candidates = _candidates(ends, options)
    catalogue = read_catalogue()
    margin = math.log1p(read_share(options["margin"], "--margin"))
    limits = Limits(turn_s=options["turn"])
    if not options["quiet"]:
        specs = candidates[0].spec._replace(name="A"), candidates[-1].spec
        pair_s = max(pair_seconds(sides, limits) for sides in expand_sides(specs, given(options), catalogue))
        say_if_long(0.0, options["measurements"] * pair_s, "--measurements N ends it earlier")
    with open_comparison_run(results, limits, catalogue, order_seed=0, quiet=options["quiet"]) as run:
        report = (lambda line: None) if options["quiet"] else (lambda line: click.echo(line, err=True))
        delays = _delays(options["inject_delay"], len(candidates))
        ratios = CandidateRatios(candidates, given(options), catalogue, run, results, report, delays)
        answer = search(len(candidates), ratios.measure, margin, options["confidence"], options["measurements"])
    if json_:
        print_json(_document(answer, candidates, ratios.measured))
    else:
        click.echo(_sentence(answer, candidates, ratios.measured))
    sys.exit(3 if answer.probability < options["confidence"] else 0 if answer.first_bad else 1)


def _candidates(ends: tuple[str, ...], options: dict[str, Any]) -> list[Candidate]:
    if sum(map(bool, (ends, options["python"], options["set"]))) != 1:
        raise Refused("give either GOOD and BAD, or several --python, or several --set; see bisect --help")
    if ends:
        if len(ends) != 2:
            raise Refused(f"{len(ends)} revisions; give two, a good one and a bad one, such as v1.0 HEAD")
        found = revisions(*ends)
    else:
        found = interpreters(options["python"]) if options["python"] else settings(options["set"])
    if len(found) < 2:
        raise Refused("only one candidate; give a good and a bad one")
    return found


def _delays(texts: tuple[str, ...], count: int) -> dict[int, float]:
    def read(text: str) -> tuple[int, float]:
        place, _, share = text.partition("=")
        if not place.isdigit() or int(place) >= count:
            raise Refused(f"--inject-delay {text}: no candidate {place} (0 to {count - 1}); write for example 1=20%")
        return int(place), read_share(share, f"--inject-delay {text}")

    found: dict[int, float] = {}
    for first, share in each_once("--inject-delay", map(read, texts)).items():
        found |= dict.fromkeys(range(first, count), share)
    return found


def _document(answer: SearchResult, candidates: list[Candidate], measured: int) -> BisectDocument:
    names, first = tuple(one.name for one in candidates), answer.first_bad
    return BisectDocument(
        first_slower=None if first is None else names[first],
        before=None if first is None else names[first - 1],
        change=None if first is None else math.expm1(answer.step),
        probability=answer.probability,
        measurements=answer.measurements,
        new=measured,
        candidates=names,
        posterior=answer.posterior,
        unbuildable=tuple(names[place] for place in answer.unbuildable),
    )


def _sentence(answer: SearchResult, candidates: list[Candidate], measured: int) -> str:
    left_out = f"; {len(answer.unbuildable)} could not be built" if answer.unbuildable else ""
    basis = f"confidence {answer.probability:.1%} after {answer.measurements} measurements, {measured} new{left_out}"
    if answer.first_bad is None:
        return f"none is slower than {candidates[0].name}: {basis}"
    first, before = candidates[answer.first_bad], candidates[answer.first_bad - 1]
    return f"first slower: {first.name} (after {before.name}), {100 * math.expm1(answer.step):+.1f} % of cost, {basis}"
