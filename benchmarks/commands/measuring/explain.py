"""`explain`: find out which settings make one side faster than the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import as_json, json_option, print_json
from benchmarks.choosing.options import (
    FILE,
    MEASURE,
    OUTPUT,
    POSITIVE,
    GroupedCommand,
    given,
    option,
    selection_options,
    shared,
)
from benchmarks.comparing.budget import comparison_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.sides import read_sides
from benchmarks.explaining.explain import Limit, explain
from benchmarks.explaining.factors import FactorSet
from benchmarks.running.terminal import aligned
from harness.whole_files import write_whole
from results.explanations import wording
from results.explanations.explanation import Explanation, write_explanation


@click.command(cls=GroupedCommand)
@click.argument("model", help="see `list models`")
@selection_options("model", "seeds")
@comparison_options("python", "set", "inject-delay", "turn", "timeout")
@option("--stage", type=click.IntRange(min=1), group=MEASURE, help="stage whose steps are timed; default: the last")
@option("--minutes", type=POSITIVE, default=10.0, group=MEASURE, help="time limit; four orders may exceed it")
@option("--orders", type=click.IntRange(min=4), group=MEASURE, help="number of orders instead of a time limit")
@option("--order-seed", type=int, group=MEASURE, help="seed of the orders and turns; default: a random one")
@shared("plugin")
@json_option(lambda: Explanation)
@option("--json-file", type=FILE, group=OUTPUT, help="file for the same JSON document, beside the text")
@shared("quiet", "results")
def command(model: str, minutes: float, orders: int | None, json_: bool, results: Path, **options: Any) -> None:
    """Explain which settings make one side faster than the other.

    \b
      explain resnet18 --backend pytorch --set A.layout=channels-first --set B.fused=true
      explain resnet18 --set A.backend=pytorch --set B.backend=keras3
      explain resnet18 --python B=new/bin/python --set B.threads=2

    Each setting that differs between A and B is a factor, and so is the environment. The factors are switched one at a
    time from A to B, in several orders, by pairs of processes that take turns as in `compare`. The share of a factor is
    its mean over the orders. The default scenario is `full`.
    """
    catalogue = read_catalogue(options["plugin"])
    specs = read_sides((), options["python"], options["set"], options["inject_delay"], catalogue)
    factors = FactorSet(specs, {**given(options), "model": (model,)}, catalogue)
    facts = {"order_seed": options["order_seed"], "quiet": options["quiet"]}
    with open_comparison_run(results, read_limits(options), catalogue, **facts) as run:
        limit = Limit(minutes * 60, orders, run.order_seed)
        found = explain(factors, run, catalogue, results, options["stage"], limit)
        write_explanation(results, found)
    if options["json_file"]:
        write_whole(options["json_file"], as_json(found))
    if json_:
        print_json(found)
    else:
        click.echo("\n".join(lines(found)))


def lines(explanation: Explanation) -> Iterator[str]:
    """Yield the answer, the table of the factors, and the remarks."""
    yield from wording.answer(explanation)
    yield from ("", aligned([wording.TITLES, *wording.rows(explanation)], right=wording.FIGURES), "")
    yield from wording.remarks(explanation)
