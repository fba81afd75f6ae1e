"""Whether a certificate covers two rows or two planned cases, and the reason if none does."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from harness import PROTOCOL
from harness.spec import SETTINGS, Case, Scenario
from results.certificates.certificate import PROVED, RATIO_LEVEL, Certificate, essence

NONE_MADE = "no certificate"
"""The reason without a certificate for the two backends, the model and the scenario."""
REHEARSED_BATCH = 8
"""Batch size of a certificate without one."""


class Scope(NamedTuple):
    """Everything in a case that a proof depends on, except the backend. Names are those of the table's columns.

    `recipe` is `essence`, `batch_size` is that of each stage, `device` is `cpu` or `cuda`; `settings` follow `PROVED`.
    """

    protocol: int
    model: str
    scenario: str
    recipe: str
    start: str
    batch_size: str
    image_size: int
    checkpoint_sha256: str | None
    device: str
    settings: tuple[object, ...]

    def differing(self, other: Scope) -> Iterator[str]:
        """Yield the labels of the differences."""
        for name, ours, theirs in zip(self._fields, self, other, strict=True):
            if name == "settings":
                pairs = zip(PROVED, self.settings, other.settings, strict=True)
                yield from (SETTINGS[setting].label for setting, mine, its in pairs if mine != its)
            elif ours != theirs:
                yield name.replace("_", " ")


class Subject(NamedTuple):
    """One side of a ratio: the backend with its engine, the installed packages, and the scope."""

    backend: str
    packages: str
    scope: Scope


def subject_of_row(row: Mapping[Hashable, Any]) -> Subject:
    """Return the subject of a row of `results.table`."""
    fields = {name: row[name] for name in Scope._fields if name != "settings"}
    known = isinstance(fields["checkpoint_sha256"], str) and fields["start"] == "checkpoint"
    fields["checkpoint_sha256"] = fields["checkpoint_sha256"] if known else None
    return Subject(row["backend_name"], row["packages"], Scope(**fields, settings=tuple(row[name] for name in PROVED)))


def subject_of_case(case: Case, installed: str, device: str) -> Subject:
    """Return the subject of a case on this kind of device."""
    scenario = case.scenario
    scope = Scope(
        protocol=PROTOCOL,
        model=case.model,
        scenario=scenario.name,
        recipe=essence(scenario),
        start=scenario.start,
        batch_size=batch_sizes(scenario),
        image_size=case.image_size,
        checkpoint_sha256=case.checkpoint_sha256 if scenario.start == "checkpoint" else None,
        device=device,
        settings=tuple(getattr(case, name) for name in PROVED),
    )
    return Subject(case.backend_name, installed, scope)


def batch_sizes(scenario: Scenario) -> str:
    """Return the batch size of each stage, as a column shows it: `64, 16`."""
    return _listed(stage.batch_size for stage in scenario.stages)


class Coverage(NamedTuple):
    """The certificate that covers two rows, or a short reason why none does.

    `fell_short` means that a certificate covers these rows, but its level is too low for a ratio.
    """

    certificate: Certificate | None
    reason: str = ""
    fell_short: bool = False


def coverage_of(one: Subject, other: Subject, certificates: Iterable[Certificate]) -> Coverage:
    """Return the first certificate that covers both subjects, or why the nearest one does not."""
    nearest = Coverage(None, NONE_MADE)
    for certificate in certificates:
        if {arm.backend for arm in certificate.arms} != {one.backend, other.backend}:
            continue
        if certificate.model != one.scope.model or one.scope.scenario not in certificate.scenarios:
            continue
        reason = _out_of_scope(certificate, one, other)
        if not reason and certificate.level(one.scope.scenario) >= RATIO_LEVEL:
            return Coverage(certificate)
        if not nearest.fell_short:
            shortfall = certificate.shortfall(one.scope.scenario)
            nearest = Coverage(None, reason or shortfall, fell_short=not reason)
    return nearest


def _out_of_scope(certificate: Certificate, one: Subject, other: Subject) -> str:
    scope, other_scope = one.scope, other.scope
    if certificate.accelerated:
        fast = [subject.scope for subject in (one, other) if _accelerated(subject.scope, certificate)]
        if len(fast) != 1:
            return "certificate for other settings"
        scope = other_scope if fast[0] is scope else scope
        other_scope = _plain(fast[0], certificate)
    if differing := next(scope.differing(other_scope), None):
        return f"different {differing}"
    if uncovered := next(_uncovered(certificate, scope), None):
        return f"certificate for another {uncovered}"
    installed = {subject.backend: _versions(subject.packages) for subject in (one, other)}
    if any(not _versions(arm.packages).items() <= installed[arm.backend].items() for arm in certificate.arms):
        return "certificate for other versions"
    return ""


def _accelerated(scope: Scope, certificate: Certificate) -> bool:
    """Return whether a scope has the settings of the accelerated arm."""
    settings = dict(zip(PROVED, scope.settings, strict=True))
    return all(settings[name] == value for name, value in certificate.accelerated.items())


def _plain(scope: Scope, certificate: Certificate) -> Scope:
    """Return the scope with the plain arm's value of every accelerated setting."""
    pairs = zip(PROVED, scope.settings, strict=True)
    values = (certificate.setting(name) if name in certificate.accelerated else value for name, value in pairs)
    return scope._replace(settings=tuple(values))


def _uncovered(certificate: Certificate, scope: Scope) -> Iterator[str]:
    """Yield the parts of a scope that the certificate does not cover."""
    stages = scope.batch_size.count(",") + 1
    proved = scope._replace(
        protocol=certificate.protocol,
        recipe=certificate.scenarios[scope.scenario],
        batch_size=_listed(certificate.batch_sizes.get(scope.scenario, (REHEARSED_BATCH,) * stages)),
        checkpoint_sha256=certificate.checkpoint_sha256 if scope.start == "checkpoint" else None,
        image_size=scope.image_size if scope.image_size in certificate.image_sizes else 0,
        settings=tuple(map(certificate.setting, PROVED)),
    )
    yield from (name.removesuffix(" sha256") for name in proved.differing(scope))
    if {arm.device for arm in certificate.arms} != {scope.device}:
        yield "device"


def _versions(text: str) -> dict[str, str]:
    return dict(part.rsplit(" ", 1) for part in text.split(", ") if part)


def _listed(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))
