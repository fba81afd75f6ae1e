"""The certificate that two backends, or two settings of one, do the same work with a model: its level and its file."""

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
"""The lowest level that allows a ratio between two backends."""
SHIPPED = Path(__file__).parent / "shipped"
"""Certificates that come with the project."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison with its worst value and the place of it. `scenario` is None for checks of the networks alone."""

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
    """One side: backend, packages, settings, and the stand-ins for parts of the framework."""

    backend: str
    packages: str
    device: str
    settings: dict[str, str | int | float | bool]
    digests: dict[str, str]
    stand_ins: dict[str, str] = {}
    stand_ins_in_float64: dict[str, str] = {}
    """Further stand-ins of the comparison in float64, which is never timed."""
    cost: StandInCost | None = None


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """All comparisons of two backends with their results. `scenarios` maps a name to the digest of its recipe.

    `checks` are in the order of their levels; below P4 all random layers are off. `sha256` is of all other fields.
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
    """Batch size of each stage of a scenario in the proof; 8 where it is missing."""
    settings: dict[str, str | int | float | bool | None] | msgspec.UnsetType = msgspec.UNSET
    """Settings of a case without a field here; missing ones have their defaults."""
    accelerated: dict[str, str | int | float | bool | None] = {}
    """Settings that only the second arm has, in a certificate of a backend against itself."""
    checks: tuple[Check, ...]
    made: str
    seconds: float
    sha256: str = ""

    def level(self, scenario: str | None = None) -> Level:
        """Return the highest level up to which every check passed, for one scenario or all; -1 below P0."""
        reached: Level = -1
        level: Level
        for level in (0, 1, 2, 3, 4):
            checks = [one for one in self.checks if one.level == level]
            passed = [one.passed for one in checks if scenario is None or one.scenario in (None, scenario)]
            if not passed or not all(passed):
                return reached
            reached = level
        return reached

    def setting(self, name: str) -> object:
        """Return the value that both arms of the proof had for the setting `name`, one of `PROVED`."""
        if name in self.__struct_fields__:
            return getattr(self, name)
        return (self.settings or {}).get(name, SETTINGS[name].default)

    def failures(self) -> list[Check]:
        """Return the failed checks, lowest level first."""
        return [check for check in self.checks if not check.passed]

    def shortfall(self, scenario: str) -> str:
        """Describe the level; `(rounding)` means that growing rounding errors ended the proof in float64."""
        level = self.level(scenario)
        text = f"P{level} only" if level >= 0 else "below P0"
        failed = [check for check in self.failures() if check.scenario == scenario and check.rule == "V05"]
        # `proof` adds a note to a failed check in float64, with a limit far below 1, only for growing rounding errors.
        return f"{text} (rounding)" if any(check.limit < 1 and check.note for check in failed) else text


class _Versioned(msgspec.Struct):
    """The field of every schema, to name an unknown one."""

    schema: int


class Certificates(NamedTuple):
    """Valid certificates, local ones first, and a message for each invalid file.

    `shipped` are the digests of the certificates of the project, which were made on another machine.
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
"""Settings of a case with one value in a proof. A proof may have several image sizes, and a device per arm."""


def proved_settings(case: Case) -> dict[str, Any]:
    """Return the fields of a certificate that hold the settings of a case."""
    others = {name: getattr(case, name) for name in PROVED}
    fields = {name: others.pop(name) for name in PROVED if name in Certificate.__struct_fields__}
    return {**fields, "settings": others or msgspec.UNSET}


def essence(scenario: Scenario) -> str:
    """Return the digest of what a proof covers: a scenario without its epochs and batch sizes. It has 16 hex digits."""
    stages = [replace(stage, epochs=1, batch_size=1) for stage in scenario.stages]
    fields = [scenario.start, scenario.head_init, stages]
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()[:16]


def packages(versions: Mapping[str, str]) -> str:
    """List installed packages on one comparable line.

    >>> packages({"torch": "2.9.0", "numpy": "2.3.0"})
    'numpy 2.3.0, torch 2.9.0'
    """
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def seal(certificate: Certificate) -> Certificate:
    """Return the certificate with the digest of its content."""
    return replace(certificate, sha256=_digest(certificate))


def write_certificate(results_dir: Path, certificate: Certificate, key: str) -> Path:
    """Write a sealed certificate to a results folder and return its path."""
    path = place(results_dir, certificate.model, key)
    make_folder(results_dir, path.parent)
    write_whole(path, msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n")
    return path


def place(results_dir: Path, model: str, key: str) -> Path:
    """Return the path of the certificate of a model with this key."""
    return results_dir / FOLDER / f"{model}-{key}.json"


def read_certificate(path: Path) -> Certificate:
    """Read a certificate. Raises ValueError for another file, another schema, or a changed file."""
    content = path.read_bytes()
    try:
        schema = msgspec.json.decode(content, type=_Versioned).schema
        if schema != SCHEMA:
            raise ValueError(f"{path} has schema {schema}, not {SCHEMA}; make it again with `certify --no-cache`")
        certificate = msgspec.json.decode(content, type=Certificate)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a certificate ({error}); make it again with `certify --no-cache`") from error
    if certificate.sha256 != _digest(certificate):
        raise ValueError(f"{path} was changed after it was written, so it is not used; make it again with `certify`")
    return certificate


def read_certificates(results_dir: Path) -> Certificates:
    """Read the certificates of a results folder, newest first, then those of the project."""
    local, problems = _read_folder(results_dir / FOLDER)
    shipped, more = _read_folder(SHIPPED)
    return Certificates((*local, *shipped), (*problems, *more), frozenset(one.sha256 for one in shipped))


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
        # Older certificates have a digest without these fields.
        if name not in ("batch_sizes", "settings", "accelerated") or getattr(certificate, name)
    }
    fields["sha256"] = msgspec.Raw(b'""')
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()
