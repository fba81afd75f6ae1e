"""`explain`: find out which settings make one side faster than the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from benchmarks.comparing.sides import read_side, read_sides
from benchmarks.explaining.explain import Limit, explain
from benchmarks.explaining.factors import FactorSet
from benchmarks.running.terminal import aligned
from harness.errors import Refused, each_once
from harness.whole_files import write_whole
from results.explanations import wording
from results.explanations.explanation import Explanation, write_explanation
from results.storage.rows import SideName


@click.command(cls=GroupedCommand)
@click.argument("model", help="see `list models`")
@selection_options("model", "seeds")
@comparison_options("python", "set", "inject-delay", "turn", "timeout")
@option("--whole-runs", is_flag=True, group=MEASURE, help="time whole runs, imports and evaluation included, not steps")
@option(
    "--train-sample",
    multiple=True,
    metavar="SIDE=N",
    group=MEASURE,
    help="training images that a whole run evaluates after each epoch, such as A=512",
)
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
    its mean over the orders. The default scenario is `full`. With --whole-runs, evaluation and kept features are
    factors too.
    """
    catalogue = read_catalogue(options["plugin"])
    specs = read_sides((), options["python"], options["set"], options["inject_delay"], catalogue)
    if options["whole_runs"] and options["stage"]:
        raise Refused("--stage: whole runs have all stages; leave it out with --whole-runs")
    samples = read_samples(options["train_sample"], whole=options["whole_runs"])
    common = {**given(options), "model": (model,)}
    factors = FactorSet(specs, common, catalogue, whole=options["whole_runs"], samples=samples)
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


def read_samples(texts: Sequence[str], *, whole: bool) -> dict[SideName, int]:
    """Return the number of evaluated training images of each side that has one. Raises `Refused`."""
    if texts and not whole:
        raise Refused("--train-sample: turns of steps have no evaluation; use it with --whole-runs")
    return each_once("--train-sample", map(_sample, texts))


def _sample(text: str) -> tuple[SideName, int]:
    side, images = read_side(text, "--train-sample")
    if not images.isdecimal():
        raise Refused(f"--train-sample {text}: {images} is not a number of images; write A=512")
    return side, int(images)


def lines(explanation: Explanation) -> Iterator[str]:
    """Yield the answer, the table of the factors, and the remarks."""
    yield from wording.answer(explanation)
    yield from ("", aligned([wording.TITLES, *wording.rows(explanation)], right=wording.FIGURES), "")
    yield from wording.remarks(explanation)
