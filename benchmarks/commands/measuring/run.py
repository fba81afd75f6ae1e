"""`run`: prepare and measure cases, store the records, and print the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace
from rich.console import Console

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.configuration import command_line
from benchmarks.choosing.documents import case_rows, json_option, print_json
from benchmarks.choosing.options import MEASURE, OUTPUT, RUN, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import SelectedCase, Selection, expand, in_turns
from benchmarks.choosing.sharding import Share, case_items, take, twins
from benchmarks.choosing.suites import SUITES, find_suite
from benchmarks.cluster.extra import needs_ray
from benchmarks.preparing.missing_certificates import lacking, make
from benchmarks.preparing.plan import PlannedCase, Preparation
from benchmarks.running.execute import execute, exit_code
from benchmarks.running.forecast import expected_s, forecast, nominal_s, say_if_long
from benchmarks.running.own_process import start_program
from benchmarks.running.progress import RunProgress
from harness.errors import Refused, each_once
from harness.process.machine import describe_machine, environment
from harness.running.evaluate import TRAIN_SAMPLE
from harness.running.record import Record
from harness.spec import SETTINGS, key
from results.certificates.certificate import read_certificates
from results.storage.rows import Shard
from results.storage.run_files import open_run, run_files, unfinished
from results.storage.shards import is_complete

if TYPE_CHECKING:
    from benchmarks.cluster.ray_pool import RayPool

CHOOSING = ("backend", "engine", "model", "scenario", "data")
"""Options that choose cases; without one of them and without --suite, the default suite runs."""
NAMED_BY_HAND = [str(setting.option) for setting in SETTINGS.values() if setting.must_run]
"""Options after which a skipped case is a failure: the user named it."""
CERTIFY = ("auto", "never", "require")


class LabelType(click.ParamType[tuple[str, str]]):
    """An option with a value such as `gpu=h100`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return key and value. Any other text is a usage error, exit code 2."""
        key, equals, wanted = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value} must be KEY=VALUE", param, ctx)
        return key, wanted


LABEL = LabelType()
REPORTED = 40_000_000
"""The largest size of all stored runs, in bytes, that the report of a run includes: about 10 000 processes."""


@click.command(cls=GroupedCommand)
@option("--suite", group=RUN, help=f"{', '.join(SUITES)}, or a TOML file; `default` unless other options name cases")
@selection_options()
@option("--strict", is_flag=True, group=RUN, help="fail a case whose checkpoint does not fit completely")
@option("--resume", is_flag=True, group=RUN, help="continue the last unfinished run; a shard also begins")
@shared("shard", "plugin")
@option("--cluster", group=RUN, metavar="ADDRESS", help="run on a Ray cluster: ray, HOST:PORT or ray://HOST:PORT")
@option("--node-label", group=RUN, multiple=True, type=LABEL, help="use only nodes with this label, such as gpu=h100")
@option("--timeout", type=click.FloatRange(0, min_open=True), default=1800.0, group=MEASURE, help="seconds per case")
@option(
    "--certify",
    type=click.Choice(CERTIFY),
    default="auto",
    group=MEASURE,
    help="missing certificates: make them (auto), do not (never), or exit with 3 if one cannot be made (require)",
)
@option(
    "--train-sample",
    type=click.IntRange(min=0),
    group=MEASURE,
    help=f"training images evaluated after each epoch, 0 for none; default: {TRAIN_SAMPLE}",
)
@option("--dry-run", is_flag=True, group=OUTPUT, help="only print the cases, the expected time and the disk space")
@option("--save-model", type=click.Path(file_okay=False), group=OUTPUT, help="folder for the fine-tuned networks")
@option("--report/--no-report", default=True, group=OUTPUT, help="write report.html into the folder of results")
@json_option(case_rows, "print the table as JSON, as `table --json` does")
@shared("target-accuracy", "wide", "explain", "quiet", "results")
def command(suite: str | None, results: Path, **options: Any) -> None:
    """Run fine-tuning scenarios and print a table of the results.

    Each case runs in a fresh process. Without options it runs the default suite on the embedded task, which needs no
    network. Options with several values are combined as a product.
    """
    if options["node_label"] and not options["cluster"]:
        raise Refused("--node-label chooses nodes of a cluster; add --cluster")
    if options["json_"] and options["dry_run"]:
        raise Refused("--dry-run prints text; leave out --json")
    selections, catalogue = _selections(suite, options)
    cases = in_turns([selected for selection in selections for selected in expand(selection, catalogue)])
    cases, shard = _part(cases, selections, catalogue, options["shard"])
    if options["dry_run"]:
        kept = options["save_model"] is not None
        click.echo(forecast([selected.case for selected in cases], results, catalogue, kept=kept))
        return
    if shard is not None and options["resume"] and is_complete(run_files(results), shard):
        click.echo(f"shard {shard.name} is complete in {results}; there is nothing to run", err=True)
        _print_empty(options)
        return
    file, records = _run(cases, catalogue, results, options, shard)
    if shard is not None and not cases:  # more parts than cases; the empty file says that nothing is missing
        _print_empty(options)
        return
    with _report(results, file) if options["report"] else nullcontext():
        unproved = _print_table(file, results, options)
    sys.exit(exit_code(records, any(options[name] for name in NAMED_BY_HAND)) or unproved)


def _print_empty(options: dict[str, Any]) -> None:
    if options["json_"]:
        print_json([])


def _part(
    cases: list[SelectedCase], selections: Sequence[Selection], catalogue: Catalogue, share: Share | None
) -> tuple[list[SelectedCase], Shard | None]:
    if share is None:  # a whole run may hold a case twice
        return cases, None
    seconds = ((selected, nominal_s(selected.case, catalogue)) for selected in cases)
    items = case_items(seconds, threads=any(selection.threads for selection in selections))
    return take(share, items, "cases")


def _selections(suite: str | None, options: dict[str, Any]) -> tuple[list[Selection], Catalogue]:
    wanted = given(options)
    if suite is None and any(name in wanted for name in CHOOSING):
        return [Selection(**wanted)], read_catalogue(options["plugin"])
    name = suite or "default"
    selections, catalogue = find_suite(name, options["plugin"])
    return [replace(one, **wanted) for one in selections], catalogue


def _run(
    cases: list[SelectedCase], catalogue: Catalogue, results: Path, options: dict[str, Any], shard: Shard | None
) -> tuple[Path, list[Record]]:
    machine = describe_machine()
    earlier = unfinished(results, machine, shard) if options["resume"] else None
    if options["resume"] and earlier is None and shard is None:
        raise Refused(f"--resume: {results} has no unfinished run of this machine; run it without --resume")
    with ExitStack() as stack:
        progress = stack.enter_context(RunProgress(Console(stderr=True), quiet=options["quiet"]))
        pool = stack.enter_context(_connect(cases, options)) if options["cluster"] else None
        preparation = Preparation(catalogue, progress.on_event)
        prepared = _prepare(cases, preparation, options)
        progress.say(preparation.dataset_notes())
        done = earlier.done if earlier else frozenset()
        todo = [(selected, planned) for selected, planned in prepared if key(planned.case) not in done]
        plan = [planned for _, planned in todo]
        if not options["quiet"]:
            measured = [selected.case for selected, planned in todo if planned.job is not None]
            seconds = sum(expected_s(measured, results, catalogue)) / (len(pool.nodes) if pool else 1)
            say_if_long(seconds, seconds, "--dry-run prints the time per case, --model and --scenario choose fewer")
        if options["certify"] != "never":
            requests = lacking(todo, catalogue, read_certificates(results), machine)
            for problem in make(requests, catalogue, results, progress.on_event):
                click.echo(f"! {problem}", err=True)
        keys = [key(planned.case) for planned in plan]
        with open_run(
            results,
            command=command_line(),
            planned=keys,
            machine=machine,
            environment=environment(),
            resume=earlier,
            shard=shard,
            nodes=[node.machine for node in pool.nodes] if pool else (),
        ) as writer:
            progress.expect(len(plan))
            try:
                if pool is None:
                    records = execute(plan, writer, machine, options["timeout"], progress.on_event)
                else:
                    from benchmarks.cluster.suite import execute_on

                    together = [twins(selected) for selected, _ in todo]
                    measuring = {"timeout_s": options["timeout"], "on_event": progress.on_event}
                    records = execute_on(pool, plan, together, writer, machine, **measuring)
            except KeyboardInterrupt:
                writer.finish("interrupted")
                click.echo(f"finished cases are stored in {writer.path}; --resume continues the run", err=True)
                raise
            writer.finish()
    return writer.path, records


def _connect(cases: Sequence[SelectedCase], options: dict[str, Any]) -> RayPool:
    """Connect to the cluster and check its nodes. Raises `Refused`, or `Declined` without Ray."""
    if options["save_model"]:
        raise Refused("--save-model: the networks would stay on the nodes; run these cases without --cluster")
    if any(selected.case.devices > 1 for selected in cases):
        raise Refused("--devices: a slot of a cluster is one device; run these cases without --cluster")
    labels = each_once("--node-label", options["node_label"])
    with needs_ray("--cluster"):
        from benchmarks.cluster.ray_pool import RayPool
    threads = max((selected.case.threads for selected in cases), default=1)
    note = partial(click.echo, err=True)
    return RayPool(options["cluster"], labels, threads, lambda line: note(f"! {line}"))


def _prepare(
    cases: list[SelectedCase], preparation: Preparation, options: dict[str, Any]
) -> list[tuple[SelectedCase, PlannedCase]]:
    facts = {"strict": options["strict"], "train_sample": options["train_sample"]}
    facts["save_model"] = str(Path(options["save_model"]).resolve()) if options["save_model"] else None
    return [(selected, preparation.plan(selected, **facts)) for selected in cases]


def _print_table(file: Path, results: Path, options: dict[str, Any]) -> int:
    # pandas is imported only now, to keep the parent small while workers measure.
    from benchmarks.commands.reading.table import print_table
    from results.tables.sheet import Style

    facts = {
        "style": Style(options["wide"], options["explain"]),
        "require_certificate": options["certify"] == "require",
        "format_": "json" if options["json_"] else "text",
    }
    return print_table(file, results, options["target_accuracy"], **facts)


@contextmanager
def _report(results: Path, file: Path) -> Iterator[None]:
    """Make the report while the block runs, and print its path afterwards; a failure does not change the exit code."""
    small = sum(one.stat().st_size for one in run_files(results)) <= REPORTED
    what, note = (results, "") if small else (file, f" of this run only, because {results} is too large for one page")
    with start_program("report", "--results", str(what), "--out", str(results / "report.html")) as process:
        yield
        stdout, stderr = process.communicate()
    if not stdout.strip():
        why = (stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
        click.echo(f"no report was written: {why.removeprefix('error: ').removeprefix('Error: ')}", err=True)
    else:
        click.echo(f"report{note}: {stdout.strip()}", err=True)
