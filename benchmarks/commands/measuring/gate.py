"""`gate`: what CI runs to learn whether a change made anything worse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from benchmarks.choosing.options import results_option
from benchmarks.choosing.suites import case_label, expand_suite, find_suite
from benchmarks.comparing.budget import limit_options, read_limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.cost import total
from benchmarks.comparing.gate import NO_BASE, GateResult, base_cases, base_results, base_spec, exit_code, gate
from benchmarks.comparing.installations import Unbuildable, find_installation, require_sources
from benchmarks.comparing.repository import Incomparable
from benchmarks.comparing.sides import read_share
from benchmarks.running.forecast import say_if_long
from results.exports.benchmark_json import turns_json
from results.exports.comparison_formats import as_junit, formatted, save
from results.verdicts.accepted import read_accepted

SHORTER_GATE = "--budget MINUTES ends it earlier, --suite FILE chooses other cases"


@click.command
@click.option(
    "--base", required=True, help="revision of this project, compared with where HEAD left it; or a checkout's folder"
)
@click.option("--suite", default="gate", show_default=True, help="a suite's name, or a TOML file in the checkout")
@limit_options("margin", "seeds", "pairs", "turn", "budget", "timeout", "quiet")
@click.option("--fail-on", type=click.Choice(("regression", "inconclusive")), default="regression", show_default=True)
@click.option("--inject-delay", default="0%", help="make each step here longer, such as 10%, to see the gate close")
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="append a summary, as to $GITHUB_STEP_SUMMARY"
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="write JUnit XML")
@click.option("--json", "json_", type=click.Path(dir_okay=False, path_type=Path), help="write the comparisons as JSON")
@click.option(
    "--pytest-benchmark", type=click.Path(dir_okay=False, path_type=Path), help="write pytest-benchmark's JSON"
)
@results_option
def command(
    base: str, suite: str, fail_on: Literal["regression", "inconclusive"], results: Path, **options: Any
) -> None:
    """Compare this checkout of finetune-bench with a base, case by case, and confirm what looks worse.

    It measures revisions of this project and runs in a git checkout of it. For two environments use `compare --python
    A=… --python B=…`; code of your own takes part in `compare` by --plugin.

    Ends with 0 if nothing got worse, 1 for a confirmed regression, 2 for wrong usage, 3 if a case failed, is missing or
    nothing was measured, 4 if there is no comparable base, 5 for an inconclusive case with --fail-on inconclusive.
    """
    limits = read_limits(options)
    delay = read_share(options["inject_delay"], "--inject-delay")
    try:
        spec = base_spec(base)
        require_sources([spec])
        selections, catalogue = find_suite(suite)
        cases = expand_suite(selections, catalogue)
        read_accepted(results)  # a damaged line is refused before anything is measured
        with open_comparison_run(results, limits, catalogue, order_seed=None, quiet=options["quiet"]) as run:
            installation = find_installation(spec, (), lambda event: None)
            known = base_cases(installation, suite)
            acceptances = read_accepted(results, base_results(results, installation.place.root))
            if not options["quiet"]:
                both = [(selected, selected) for selected in cases if case_label(selected.case) in known]
                say_if_long(*total(both, limits, results, catalogue), SHORTER_GATE)
            found = gate(run, spec, cases, known, acceptances, delay)
    except (Incomparable, Unbuildable) as error:
        click.echo(f"no comparable base: {error}", err=True)
        sys.exit(NO_BASE)
    click.echo("\n".join(_lines(found)))
    _write(found, results, options)
    sys.exit(exit_code(found, fail_on))


def _lines(found: GateResult) -> list[str]:
    text = formatted(found.comparisons, "text").decode().rstrip("\n") if found.comparisons else "nothing was compared"
    return [
        text,
        *(
            f"{label}: missing – the base has this case; bring it back, or change the base's suite first"
            for label in found.missing
        ),
        *(f"{label}: new – there is nothing to compare it with" for label in found.new),
        *(f"failed – {sentence}" for sentence in found.failed),
    ]


def _write(found: GateResult, results: Path, options: dict[str, Any]) -> None:
    if options["markdown"]:
        said = "".join(f"\n- {line}" for line in _lines(found)[1:])
        table = formatted(found.comparisons, "markdown") if found.comparisons else b"nothing was compared\n"
        save(options["markdown"], table + said.encode() + b"\n", append=True)
    if options["junit"]:
        save(options["junit"], as_junit(found.comparisons, found.missing, found.failed))
    if options["json_"]:
        save(options["json_"], formatted(found.comparisons, "json"))
    if options["pytest_benchmark"]:
        save(options["pytest_benchmark"], turns_json(results, found.comparisons))
