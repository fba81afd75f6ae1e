"""`gate`: check in CI that a change made nothing worse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from benchmarks.choosing.documents import as_json, json_option
from benchmarks.choosing.options import FILE, MEASURE, OUTPUT, RUN, GroupedCommand, option, shared
from benchmarks.choosing.suites import case_label, expand_suite, find_suite
from benchmarks.comparing.base_runs import BaseRuns
from benchmarks.comparing.budget import SIDES, comparison_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import total
from benchmarks.comparing.gate import NO_BASE, GateResult, base_cases, base_results, exit_code, gate, read_gate_sides
from benchmarks.comparing.installations import Unbuildable, find_installation, require_sources
from benchmarks.comparing.repository import Incomparable
from benchmarks.running.forecast import say_if_long
from results.exports.benchmark_json import turns_json
from results.exports.comparison_formats import as_junit, formatted, save
from results.storage.comparison import Comparison
from results.verdicts.accepted import read_accepted

FAILURES = ("regression", "inconclusive")
Failing = Literal["regression", "inconclusive"]
SHORTER_GATE = "--budget MINUTES ends it earlier, --suite FILE chooses other cases"


class GateDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The comparisons; labels of cases that only the base has, and that only this checkout has; sentences on failures.

    A regression that has been accepted has the reasons in `accepted`.
    """

    exit_code: int
    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    failed: tuple[str, ...]


@click.command(cls=GroupedCommand)
@option("--base", group=SIDES, help="side A: a checkout, or the merge base with this revision")
@comparison_options("python", "inject-delay")
@option("--suite", default="gate", group=RUN, help="name of a suite, or a TOML file in the checkout")
@shared("plugin")
@comparison_options("margin", "seeds", "pairs", "turn", "budget", "timeout")
@option("--no-cache", is_flag=True, group=MEASURE, help="measure the accuracy of the base again")
@option("--fail-on", type=click.Choice(FAILURES), default=FAILURES[0], group=OUTPUT, help="verdict that fails the gate")
@option("--markdown", type=FILE, group=OUTPUT, help="file to append a summary to, such as $GITHUB_STEP_SUMMARY")
@option("--junit", type=FILE, group=OUTPUT, help="file for JUnit XML")
@json_option(lambda: GateDocument)
@option("--json-file", type=FILE, group=OUTPUT, help="file for the same JSON document, beside the text")
@option("--pytest-benchmark", type=FILE, group=OUTPUT, help="file for pytest-benchmark's JSON")
@shared("quiet", "results")
def command(base: str | None, suite: str, fail_on: Failing, json_: bool, results: Path, **options: Any) -> None:
    """Check in CI whether a change made something worse.

    \b
      gate --base main                                                     this checkout, with its merge base
      gate --python A=old/bin/python --python B=new/bin/python             two environments
      gate --python A=old/bin/python --plugin model.py --suite mine.toml   with your own model and data

    Side A is the base. The gate compares every case of a suite, and measures a regression a second time. --base needs a
    git checkout of this project. Complete runs of the base, for accuracy, are kept in the cache.

    Exits with 0 if nothing got worse, 1 for a confirmed regression, 2 for wrong usage, 3 if a case failed or is missing
    or nothing was measured, 4 without a comparable base, 5 for an inconclusive case with --fail-on inconclusive.
    """
    limits = read_limits(options)
    try:
        selections, catalogue = find_suite(suite, options["plugin"])
        sides = read_gate_sides(base, options["python"], options["inject_delay"], catalogue)
        require_sources(sides)
        cases = expand_suite(selections, catalogue)
        read_accepted(results)  # refuse a damaged line before measuring
        with open_comparison_run(results, limits, catalogue, order_seed=None, quiet=options["quiet"]) as run:
            place = find_installation(sides[0], (), lambda event: None).place
            # Two environments have the cases and the acceptances of this folder.
            known = base_cases(place, suite, options["plugin"]) if base else [case_label(one.case) for one in cases]
            acceptances = read_accepted(results, base_results(results, place.root) if base else None)
            if not options["quiet"]:
                both = [(selected, selected) for selected in cases if case_label(selected.case) in known]
                say_if_long(*total(both, limits, results, catalogue), SHORTER_GATE)
            base_runs = None if options["no_cache"] or not limits.seeds else BaseRuns(place)
            found = gate(run, sides, cases, known, acceptances, base_runs)
    except (Incomparable, Unbuildable) as error:
        click.echo(f"no comparable base: {error}", err=True)
        sys.exit(NO_BASE)
    code = exit_code(found, fail_on)
    document = as_json(_document(found, code))
    click.echo(document if json_ else "\n".join(_lines(found)), nl=not json_)
    if options["json_file"]:
        save(options["json_file"], document)
    _write(found, results, options)
    sys.exit(code)


def _document(found: GateResult, code: int) -> GateDocument:
    lists = {name: tuple(values) for name, values in found._asdict().items()}
    return GateDocument(exit_code=code, **lists)


def _lines(found: GateResult) -> list[str]:
    text = formatted(found.comparisons, "text").decode().rstrip("\n") if found.comparisons else "nothing was compared"
    missing = [f"{label}: missing – only the base has this case; restore it, or remove it from the base's suite first"
               for label in found.missing]  # fmt: skip
    new = [f"{label}: new – the base does not have this case" for label in found.new]
    return [text, *missing, *new, *(f"failed – {sentence}" for sentence in found.failed)]


def _write(found: GateResult, results: Path, options: dict[str, Any]) -> None:
    if options["markdown"]:
        table = formatted(found.comparisons, "markdown") if found.comparisons else b"nothing was compared\n"
        items = "".join(f"\n- {line}" for line in _lines(found)[1:])
        save(options["markdown"], table + items.encode() + b"\n", append=True)
    if options["junit"]:
        save(options["junit"], as_junit(found.comparisons, found.missing, found.failed))
    if options["pytest_benchmark"]:
        save(options["pytest_benchmark"], turns_json(results, found.comparisons))
