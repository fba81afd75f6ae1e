"""Find the certificates that a plan needs, and make them before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase
from benchmarks.preparing.certify import Request, certify, prepare
from benchmarks.preparing.plan import PlannedCase
from harness.errors import Declined, Refused
from harness.process.launch import Event
from harness.process.machine import Machine
from harness.spec import Case
from results.certificates.certificate import Certificates, packages, write_certificate
from results.certificates.scope import Scope, Subject, coverage_of, subject_of_case


class Twins(NamedTuple):
    """One case in two backends, without a certificate."""

    one: SelectedCase
    other: SelectedCase
    scope: Scope


def subject_here(case: Case, catalogue: Catalogue, machine: Machine) -> Subject:
    """Return the side of a ratio that a case would be with the packages that are installed here."""
    installed = packages(catalogue.backends[case.backend].versions(case.engine))
    return subject_of_case(case, installed, machine.device_kind(case.device))


def lacking(
    plan: Iterable[tuple[SelectedCase, PlannedCase]], catalogue: Catalogue, certificates: Certificates, machine: Machine
) -> list[Request]:
    """Return the missing certificates that a table of these cases needs to print ratios, as few as possible.

    A certificate below its level is not made again.
    """
    beside: dict[Scope, dict[str, SelectedCase]] = {}
    installed = {}
    for selected, planned in plan:
        case = planned.case
        if planned.job is not None and not case.native:
            subject = subject_here(case, catalogue, machine)
            installed[subject.backend] = subject.packages
            beside.setdefault(subject.scope, {}).setdefault(subject.backend, selected)
    found = []
    for scope, cases in beside.items():
        (first, one), *others = cases.items()
        for name, other in others:
            ours, theirs = (Subject(backend, installed[backend], scope) for backend in (first, name))
            known = coverage_of(ours, theirs, certificates.all)
            if known.certificate is None and not known.fell_short:
                found.append(Twins(one, other, scope))
    return _requests(found)


def make(
    requests: Sequence[Request], catalogue: Catalogue, results: Path, on_event: Callable[[Event], None]
) -> list[str]:
    """Make and store certificates; return a sentence for each that cannot be made."""
    problems = []
    for request in requests:
        on_event({"certifying": request.label, "scenarios": [scenario.name for scenario in request.scenarios]})
        try:
            make_one(request, catalogue, results, on_event)
        except (Declined, Refused) as reason:
            problems.append(f"no certificate for {request.label}: {reason}")
    return problems


def make_one(request: Request, catalogue: Catalogue, results: Path, on_event: Callable[[Event], None]) -> None:
    """Make and store a certificate. Raise `Declined` or `Refused` if it cannot be made."""
    prepared = prepare(request, catalogue, on_event)
    write_certificate(results, certify(request, prepared, catalogue, on_event), prepared.key)


def _requests(twins: Iterable[Twins]) -> list[Request]:
    """Group the twins that one certificate can cover: those that differ only in scenario and image size."""
    requests: dict[tuple[object, ...], Request] = {}
    for one, other, scope in twins:
        apart = scope._replace(scenario="", recipe="", start="", batch_size="", image_size=0, checkpoint_sha256=None)
        backends = (one.case.backend_name, other.case.backend_name)
        for number in range(len(requests) + 1):  # a certificate has one recipe per scenario
            key = (apart, backends, one.checkpoint, one.input_scaling, number)
            request = requests.get(key, Request(([], []), (), with_checkpoint=False, priced=False))
            known = {selected.case.scenario.name: selected.case.scenario for selected in request.arms[0]}
            if known.get(scope.scenario, one.case.scenario) == one.case.scenario:
                break
        if scope.scenario not in known:
            for cases, selected in zip(request.arms, (one, other), strict=True):
                cases.append(selected)
        requests[key] = request._replace(
            sizes=tuple(dict.fromkeys((*request.sizes, scope.image_size))),
            with_checkpoint=request.with_checkpoint or scope.start == "checkpoint",
        )
    return list(requests.values())
