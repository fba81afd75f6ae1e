"""What was proved about two backends that have one model: the certificate, its level, and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from harness import PROTOCOL
from harness.certifying.answers import StandInCost
from harness.spec import SETTINGS, Case, Scenario
from harness.whole_files import write_whole
from results.storage.folder import make_folder

SCHEMA = 3
FOLDER = "certificates"
Level = Literal[-1, 0, 1, 2, 3, 4]
RATIO_LEVEL = 3
"""The level from which on a ratio between two backends may be printed."""
SHIPPED = Path(__file__).parent / "shipped"
"""Certificates that come with the project."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question, its worst answer and where that was. `scenario` is None for what concerns the networks alone."""

    level: int
    rule: str
    what: str
    worst: float
    limit: float
    passed: bool
    where: str = ""
    scenario: str | None = None
    note: str = ""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One side: which backend, what was installed, how it computed, what stands in for the framework's own parts."""

    backend: str
    packages: str
    device: str
    settings: dict[str, str | int | float | bool]
    digests: dict[str, str]
    stand_ins: dict[str, str] = {}
    stand_ins_in_float64: dict[str, str] = {}
    """What was replaced besides where float64 was compared, which is never timed."""
    cost: StandInCost | None = None


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was compared, and how it came out. `scenarios` maps a name to what of its recipe was proved.

    `checks` are in the order of their levels; stochastic rates were 0 in all of them but P4's. `sha256` is of all other
    fields.
    """

    schema: int = SCHEMA
    protocol: int = PROTOCOL
    model: str
    precision: str
    layout: str
    head: str
    compile: bool
    idiom: bool
    checkpoint: str | None
    checkpoint_sha256: str | None
    dataset_sha256: str
    image_sizes: tuple[int, ...]
    arms: tuple[Arm, Arm]
    scenarios: dict[str, str]
    batch_sizes: dict[str, tuple[int, ...]] = {}
    """Batch size of each stage of a scenario, as it was rehearsed; 8 where it is missing."""
    settings: dict[str, str | int | float | bool | None] | msgspec.UnsetType = msgspec.UNSET
    """Settings of a case that have no field here; one that is missing has its default."""
    checks: tuple[Check, ...]
    made: str
    seconds: float
    sha256: str = ""

    def level(self, scenario: str | None = None) -> Level:
        """Highest level up to which every check passed: for one scenario, or for all of them; -1 if not even P0."""
        reached: Level = -1
        level: Level
        for level in (0, 1, 2, 3, 4):
            asked = [
                c for c in self.checks if c.level == level and (scenario is None or c.scenario in (None, scenario))
            ]
            if not asked or not all(check.passed for check in asked):
                return reached
            reached = level
        return reached

    def setting(self, name: str) -> object:
        """The value of one of `PROVED` that the proof was made with."""
        if name in self.__struct_fields__:
            return getattr(self, name)
        return (self.settings or {}).get(name, SETTINGS[name].default)

    def failures(self) -> list[Check]:
        """The checks that did not pass, lowest level first."""
        return [check for check in self.checks if not check.passed]

    def shortfall(self, scenario: str) -> str:
        """The level reached, in a few words; `(rounding)` where the proof in float64 ends because rounding grows."""
        level = self.level(scenario)
        said = f"P{level} only" if level >= 0 else "not even P0"
        return f"{said} (rounding)" if any(self._rounding(check, scenario) for check in self.failures()) else said

    @staticmethod
    def _rounding(check: Check, scenario: str) -> bool:
        # Only `proof` explains a check in float64, whose limits are far below 1, and only for this.
        return check.scenario == scenario and check.rule == "V05" and check.limit < 1 and bool(check.note)


class _Versioned(msgspec.Struct):
    """What every schema has, so that one which is not known is named as such."""

    schema: int


class Certificates(NamedTuple):
    """Valid certificates, those made here first, and a sentence for each file that is not valid.

    `shipped` are the digests of those that came with the project: they were made on another machine.
    """

    all: tuple[Certificate, ...] = ()
    problems: tuple[str, ...] = ()
    shipped: frozenset[str] = frozenset()


NO_CERTIFICATES = Certificates()


PROVED = tuple(
    name
    for name, setting in SETTINGS.items()
    if setting.role == "setting" and not setting.unproved and name not in ("image_size", "device")
)
"""Settings of a case that a proof was made with one value of; it may have several image sizes, and a device per arm."""


def proved_settings(case: Case) -> dict[str, Any]:
    """The fields of a certificate that say which settings a case has."""
    own = {name: getattr(case, name) for name in PROVED}
    fields = {name: own.pop(name) for name in PROVED if name in Certificate.__struct_fields__}
    return {**fields, "settings": own or msgspec.UNSET}


def essence(scenario: Scenario) -> str:
    """Sixteen hex digits of what a proof for a scenario covers: all of its recipe but epochs and batch size."""
    stages = [replace(stage, epochs=1, batch_size=1) for stage in scenario.stages]
    fields = [scenario.start, scenario.head_init, stages]
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()[:16]


def packages(versions: Mapping[str, str]) -> str:
    """Installed packages as one comparable line.

    >>> packages({"torch": "2.9.0", "numpy": "2.3.0"})
    'numpy 2.3.0, torch 2.9.0'
    """
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def seal(certificate: Certificate) -> Certificate:
    """The certificate with the digest of its own content."""
    return replace(certificate, sha256=_digest(certificate))


def write_certificate(results_dir: Path, certificate: Certificate, key: str) -> Path:
    """Write a sealed certificate under a folder of results; returns its file."""
    path = place(results_dir, certificate.model, key)
    make_folder(results_dir, path.parent)
    write_whole(path, msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n")
    return path


def place(results_dir: Path, model: str, key: str) -> Path:
    """Where the certificate of a model with this key lies."""
    return results_dir / FOLDER / f"{model}-{key}.json"


def read_certificate(path: Path) -> Certificate:
    """Raises ValueError with a sentence for a file that is none, of another schema, or changed since it was written."""
    content = path.read_bytes()
    try:
        schema = msgspec.json.decode(content, type=_Versioned).schema
        if schema != SCHEMA:
            raise ValueError(f"{path} has schema {schema}, not {SCHEMA}; make it again with `certify --no-cache`")
        certificate = msgspec.json.decode(content, type=Certificate)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no certificate ({error}); make it again with `certify --no-cache`") from error
    if certificate.sha256 != _digest(certificate):
        raise ValueError(f"{path} was changed after it was written and does not count; make it again with `certify`")
    return certificate


def read_certificates(results_dir: Path) -> Certificates:
    """Certificates of a results folder, newest first, then those that come with the project."""
    own, problems = _read_folder(results_dir / FOLDER)
    shipped, more = _read_folder(SHIPPED)
    return Certificates((*own, *shipped), (*problems, *more), frozenset(one.sha256 for one in shipped))


def _read_folder(folder: Path) -> tuple[list[Certificate], list[str]]:
    found, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_certificate(path))
        except ValueError as error:
            problems.append(str(error))
    return sorted(found, key=lambda one: one.made, reverse=True), problems


def _digest(certificate: Certificate) -> str:
    fields = {
        name: msgspec.Raw(msgspec.json.encode(getattr(certificate, name), order="deterministic"))
        for name in Certificate.__struct_fields__
        # A certificate from before there were these fields has a digest without them.
        if name not in ("batch_sizes", "settings") or getattr(certificate, name)
    }
    fields["sha256"] = msgspec.Raw(b'""')
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()
