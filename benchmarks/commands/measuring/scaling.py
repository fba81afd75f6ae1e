"""`scaling`: measure what further devices bring."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import Selection, expand
from benchmarks.comparing.budget import SHORTER, comparison_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import total
from benchmarks.comparing.sides import read_sides
from benchmarks.running.forecast import say_if_long
from benchmarks.running.terminal import aligned
from benchmarks.scaling.scaling import ScalingRow, remarks, sections, steps_of, table
from harness.errors import Declined, Refused
from results.certificates.certificate import read_certificates
from results.verdicts.stored_comparisons import read_comparisons

DEVICES = "1,2"
RUNS = 2
"""Number of complete runs of each side; accuracy needs at least two."""


class CaseScaling(msgspec.Struct, frozen=True, kw_only=True):
    """The strong and weak scaling of one case."""

    backend: str
    model: str
    scenario: str
    rows: tuple[ScalingRow, ...]


@click.command(cls=GroupedCommand)
@click.argument("model", help="model to measure; see `list models`")
@selection_options("seeds", "devices", "model", "limit")
@option(
    "--devices", default=DEVICES, metavar="N,N", group=MEASURE, help="numbers of devices; the first is the baseline"
)
@option(
    "--seeds",
    "runs",
    type=click.IntRange(min=0),
    default=RUNS,
    group=MEASURE,
    help="complete runs per side, for accuracy and for when a device pays; 0 leaves them out",
)
@comparison_options("pairs", "turn", "budget", "timeout")
@json_option(lambda: list[CaseScaling])
@shared("plugin", "quiet", "results")
def command(model: str, devices: str, runs: int, json_: bool, results: Path, **options: Any) -> None:
    """Measure strong and weak scaling over several devices.

    Two live processes take turns, as in `compare`: one with the first number of devices, one with a further number.
    Each pair gives one ratio. Strong scaling divides one batch; in weak scaling each device has its batch. A row of
    strong scaling names the certificate that its training is that of the baseline; without one it has no speed-up.
    Complete runs of both sides, with --seeds, give the accuracy, and from how many images a further device pays. The
    default scenario is `full`.
    """
    catalogue = read_catalogue(options["plugin"])
    numbers = read_numbers(devices)
    chosen = {"scenario": ("full",), **given(options)}
    scope = chosen.pop("norm_scope", "global")
    cases = expand(Selection(**{**chosen, "model": (model,), "devices": numbers}), catalogue)
    limits = read_limits(options, seeds=runs, confirm=False)
    baselines = [one for one in cases if one.case.devices == numbers[0]]
    if numbers[0] > 1:
        baselines = [one._replace(case=replace(one.case, norm_scope=scope)) for one in baselines]
    steps = [step for baseline in baselines for step in steps_of(baseline, numbers, scope)]
    specs = read_sides((), (), (), (), catalogue)
    with open_comparison_run(results, limits, catalogue, order_seed=None, quiet=options["quiet"]) as run:
        prepared = [
            run.preparation.prepare_speeds(specs, step.sides, None)._replace(label=step.label) for step in steps
        ]
        if not options["quiet"]:
            say_if_long(*total([step.sides for step in steps], limits, results, catalogue), SHORTER)
        found = run.measure(prepared, "scaling")
        path = run.path
    certificates = read_certificates(results)
    stored = {one.comparison.label: one for one in read_comparisons(path) if one.comparison is not None}
    tables = []
    for baseline in baselines:
        own = [step for step in steps if step.sides[0] is baseline]
        rows = tuple(table(own, stored, certificates))
        backend, scenario = baseline.case.backend_name, baseline.case.scenario.name
        tables.append(CaseScaling(backend=backend, model=model, scenario=scenario, rows=rows))
    if json_:
        print_json(tables)
    else:
        click.echo("\n".join(itertools.chain.from_iterable(map(_lines, tables))))
    if found.failed:
        raise Declined("; ".join(found.failed))


def _lines(scaling: CaseScaling) -> Iterator[str]:
    yield f"{scaling.backend}, {scaling.model}, {scaling.scenario}"
    for heading, cells in sections(scaling.rows):
        yield from ("", heading, aligned(cells, right={0, 1, 2}))
    if lines := list(remarks(scaling.rows)):
        yield from ("", *lines)


def read_numbers(text: str) -> tuple[int, ...]:
    """Read `--devices`. Raises `Refused` for other text than rising numbers, multiples of the first one."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise Refused(f"--devices {text}: write numbers of devices, such as {DEVICES}") from error
    if len(found) < 2 or found[0] < 1 or list(found) != sorted(set(found)) or any(one % found[0] for one in found):
        raise Refused(f"--devices {text}: write the baseline first and larger multiples of it, such as {DEVICES}")
    return found
