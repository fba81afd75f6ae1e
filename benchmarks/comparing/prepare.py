"""Prepare the two sides of a comparison: jobs, installations, and the differences between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.comparing.installations import Installation, find_installation
from benchmarks.comparing.pairs import Side
from benchmarks.comparing.sides import SideCases, SideSpec
from benchmarks.preparing.plan import Preparation
from harness import PROGRAM
from harness.errors import Declined, Refused
from harness.process.launch import Event
from harness.process.machine import describe_machine
from harness.spec import Case, version
from results.certificates.certificate import Certificates, packages
from results.certificates.scope import coverage_of, subject_of_case
from results.storage.comparison import Difference, SideFacts

DATA_FIELDS = ("dataset", "dataset_sha256")
"""Fields of a case that must be equal on both sides."""


class PreparedComparison(NamedTuple):
    """One case that is ready to measure: how each side runs, what is stored about it, and every difference."""

    label: str
    sides: tuple[Side, Side]
    facts: tuple[SideFacts, SideFacts]
    differs: tuple[Difference, ...]


class ComparisonPreparation:
    """Prepares comparisons; prepares each dataset, checkpoint and installation once."""

    def __init__(self, catalogue: Catalogue, certificates: Certificates, on_event: Callable[[Event], None]) -> None:
        self._catalogue, self._certificates, self._on_event = catalogue, certificates, on_event
        self._preparation = Preparation(catalogue, on_event)
        self._installations: dict[object, Installation] = {}

    def prepare(self, specs: tuple[SideSpec, SideSpec], cases: SideCases, stage: int | None) -> PreparedComparison:
        """Prepare both sides of a case. `stage` counts from 1; None is the last.

        Raises `Refused` for sides that must not be compared, with the field, and `Declined` for sides that cannot run.
        """
        prepared = self.prepare_speeds(specs, cases, stage)
        a, b = (side.job.case for side in prepared.sides)
        if a.native != b.native:
            raise Refused("only one side has native defaults; matched runs and native defaults cannot be compared")
        if a.backend_name != b.backend_name:
            _refuse_uncertified((a, b), self._installed(specs, cases), self._certificates)
        return prepared

    def prepare_speeds(
        self, specs: tuple[SideSpec, SideSpec], cases: SideCases, stage: int | None
    ) -> PreparedComparison:
        """Do the same for sides that may do different work, so that only their speeds are compared."""
        found = self._installed(specs, cases)
        sides, longest = [], max(spec.delay for spec in specs)
        for spec, selected, installation in zip(specs, cases, found, strict=True):
            planned = self._preparation.plan(selected)
            if planned.job is None:
                raise Declined(f"side {spec.name}: {planned.skip_reason}")
            waits = {"delay": spec.delay, "rest": longest - spec.delay}
            sides.append(Side(planned.job, installation.place, _stage(planned.case, stage), **waits))
        a, b = (side.job.case for side in sides)
        _refuse_other_data(a, b, specs)
        facts = [
            SideFacts(
                name=spec.name,
                text=spec.text,
                case_version=version(side.job.case),
                revision=installation.revision,
                python=installation.place.python,
                packages=packages(installation.packages),
                injected=spec.delay,
            )
            for spec, side, installation in zip(specs, sides, found, strict=True)
        ]
        differs = (*_between_cases(a, b), *_between_sides(facts, found))
        return PreparedComparison(label_of(a, b), (sides[0], sides[1]), (facts[0], facts[1]), differs)

    def _installed(self, specs: Sequence[SideSpec], cases: SideCases) -> list[Installation]:
        return [self._installation(spec, one.case.backend) for spec, one in zip(specs, cases, strict=True)]

    def _installation(self, spec: SideSpec, backend: str) -> Installation:
        key = (spec.revision, spec.folder, spec.python, backend)
        if key not in self._installations:
            needed = self._catalogue.backends[backend].packages
            self._installations[key] = find_installation(spec, needed, self._on_event)
        return self._installations[key]


def label_of(a: Case, b: Case) -> str:
    """Return the name of a comparison, from the cases of its two sides."""
    backends = "|".join(dict.fromkeys((a.backend_name, b.backend_name)))
    return f"{backends}/{a.model}/{a.scenario.name}"


def _stage(case: Case, stage: int | None) -> int:
    count = len(case.scenario.stages)
    if stage is not None and not 1 <= stage <= count:
        raise Refused(f"--stage {stage}: {case.scenario.name} has {count} stage{'s' if count > 1 else ''}")
    return (stage or count) - 1


def _refuse_other_data(a: Case, b: Case, specs: Sequence[SideSpec]) -> None:
    named = {field for spec in specs for field in spec.settings}
    for field in DATA_FIELDS:
        if getattr(a, field) != getattr(b, field):
            values = f"{getattr(a, field)}, {getattr(b, field)}"
            raise Refused(f"the two sides differ in {field} ({values}); use the same data and image size")
    if a.checkpoint_sha256 != b.checkpoint_sha256 and "checkpoint" not in named:
        raise Refused(
            f"the two sides differ in checkpoint_sha256 ({a.checkpoint}, {b.checkpoint}); "
            "give both sides one file with --checkpoint, or make the difference explicit with --set B.checkpoint=FILE"
        )


def _refuse_uncertified(cases: tuple[Case, Case], found: Sequence[Installation], certificates: Certificates) -> None:
    """Raise `Refused` unless a certificate covers the two backends."""
    machine = describe_machine()
    one, other = (
        subject_of_case(case, packages(own.packages), machine.device_kind(case.device))
        for case, own in zip(cases, found, strict=True)
    )
    if cases[0].native:
        raise Refused(
            "backends with their own defaults do different work; leave out --native-defaults and --optimizer-rule own"
        )
    coverage = coverage_of(one, other, certificates.all)
    if coverage.certificate is None:
        model, names = one.scope.model, f"{one.backend} {other.backend}"
        raise Refused(
            f"{model} {one.scope.scenario}: {one.backend} and {other.backend} cannot be compared: "
            f"{coverage.reason}; make a certificate with: {PROGRAM} certify {model} --backends {names}"
        )


def _between_cases(a: Case, b: Case) -> Iterator[Difference]:
    ours, theirs = msgspec.to_builtins(a), msgspec.to_builtins(b)
    for field in ours:
        if ours[field] != theirs[field]:
            if field == "scenario":
                yield from _between_scenarios(ours[field], theirs[field])
            else:
                yield Difference(field=field, a=str(ours[field]), b=str(theirs[field]))


def _between_scenarios(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Difference]:
    for number, (one, other) in enumerate(zip(a["stages"], b["stages"], strict=False), 1):
        for field in one:
            if one[field] != other[field]:
                yield Difference(field=f"stage {number} {field}", a=str(one[field]), b=str(other[field]))


def _between_sides(sides: Sequence[SideFacts], found: Sequence[Installation]) -> Iterator[Difference]:
    one, other = sides
    for field, a, b in (("revision", one.revision, other.revision), ("interpreter", one.python, other.python)):
        if a != b:
            yield Difference(field=field, a=a, b=b)
    if found[0].place.root != found[1].place.root and one.revision == other.revision:
        yield Difference(field="checkout", a=str(found[0].place.root), b=str(found[1].place.root))
    for name in sorted({*found[0].packages, *found[1].packages}):
        versions = [own.packages.get(name, "none") for own in found]
        if versions[0] != versions[1]:
            yield Difference(field=name, a=versions[0], b=versions[1])
    if one.injected != other.injected:
        yield Difference(field="injected delay", a=f"{one.injected:.1%}", b=f"{other.injected:.1%}")
