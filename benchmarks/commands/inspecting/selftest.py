"""`selftest`: check that the harness detects wrong benchmarks."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.console import Console

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, option, shared
from benchmarks.running.progress import RunProgress
from benchmarks.selftest.real import Probed, described, faults, probe_all
from benchmarks.selftest.report import lines, merged, score
from benchmarks.selftest.running import SelftestOutcome, in_parts
from benchmarks.selftest.several_devices import trials as several_devices
from benchmarks.selftest.several_devices.trials import SeveralDevices
from benchmarks.selftest.sins import SINS


class SelftestDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of mistakes detected and planted, every trial, and the real backends with --backends."""

    passed: bool
    detected: int
    planted: int
    outcome: SelftestOutcome
    backends: tuple[Probed, ...]
    several_devices: tuple[SeveralDevices, ...]


@click.command(cls=GroupedCommand)
@option("--seed", default=0, help="seed of the places where mistakes are planted")
@option("--backends", is_flag=True, help="also check the real backends: precision, cores, several devices")
@json_option(lambda: SelftestDocument)
@shared("quiet")
def command(seed: int, backends: bool, json_: bool, quiet: bool) -> None:
    """Check that the harness detects known benchmarking mistakes.

    It plants each mistake in two sizes on the reference backend. It checks that the rule for a mistake reports it, that
    no rule reports a correct run, and that a mistake passes while its rule is off. This takes under a minute. With
    --backends it also plants mistakes of data parallelism in the real backends, on two devices of the CPU, and checks
    that a certificate finds them; this takes minutes. The last line is the number of mistakes detected.
    """
    with RunProgress(Console(stderr=True), quiet=quiet) as progress:
        outcome = merged(in_parts(seed, progress.on_event), [sin.name for sin in SINS])
        probed = probe_all(progress.on_event) if backends else []
        devices = several_devices.try_all(seed, progress.on_event) if backends else []
    scores = score(outcome), several_devices.score(devices)
    caught, planted = (sum(counts) for counts in zip(*scores, strict=True))
    passed = caught == planted and all(one.holds for one in outcome.shown) and not any(map(faults, probed))
    if json_:
        document = SelftestDocument(
            passed=passed,
            detected=caught,
            planted=planted,
            outcome=outcome,
            backends=tuple(probed),
            several_devices=tuple(devices),
        )
        print_json(document)
    else:
        further = ("", *described(probed), "", *several_devices.described(devices)) if backends else ()
        for line in (*lines(outcome), *further):
            click.echo(line)
        click.echo(f"{caught}/{planted}")
    sys.exit(0 if passed else 1)
