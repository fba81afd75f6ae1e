"""Measure the ceilings of this machine for the networks of a selection, and describe them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase
from harness.ceiling.ceiling import Ceiling
from harness.ceiling.measure import measure_ceiling
from harness.errors import Declined
from harness.process.ask import ask
from harness.process.machine import describe_machine
from harness.spec import Case
from results.ceilings.stored import write_ceiling

Measured = tuple[Case, Ceiling | str]
"""A case, and its ceiling or the reason why it has none."""


def measure_ceilings(selected: Iterable[SelectedCase], catalogue: Catalogue, results: Path) -> Iterator[Measured]:
    """Measure and store a ceiling for each network and batch size of the cases, each in a worker of its own."""
    machine = describe_machine().key
    for case, batch_size in _networks(selected):
        arguments = {"case": case, "batch_size": batch_size, "machine_key": machine, "plugins": catalogue.plugins}
        try:
            ceiling = ask(measure_ceiling, arguments, Ceiling, cores=case.cores, engine=case.engine)
        except Declined as reason:
            yield case, str(reason)
        else:
            write_ceiling(results, ceiling)
            yield case, ceiling


def described(case: Case, found: Ceiling | str) -> tuple[str, str]:
    """Return what was measured and the finding, as text."""
    name = f"{case.model}, {case.backend_name}"
    if isinstance(found, str):
        return name, f"no ceiling: {found}"
    peak, layer = found.peak
    what = f"{name}, {found.image_size} px, {found.precision}, batch {found.batch_size}, threads {found.threads}"
    rate = f"{found.flops_per_second / 1e9:.1f} GFLOP/s; fastest layer {peak / 1e9:.1f} GFLOP/s ({layer})"
    if found.disturbed:
        share = found.cpu_over_wall / found.threads
        rate += f"; too low, because threads ran only {share:.0%} of the time; measure again on an idle machine"
    return what, rate


def _networks(selected: Iterable[SelectedCase]) -> Iterator[tuple[Case, int]]:
    known = set[tuple[object, ...]]()
    for case in (one.case for one in selected):
        for stage in case.scenario.stages:
            network = case.backend_name, case.model, case.image_size, case.head, case.device, case.precision
            key = (*network, case.threads, case.idiom, stage.batch_size)
            if key not in known:
                known.add(key)
                yield case, stage.batch_size
