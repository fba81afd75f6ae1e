"""What the two sides of a comparison are, from what was typed: backends, revisions, interpreters, settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import Draft, Selection, expand
from harness.errors import Refused, unknown
from results.storage.rows import SideName

NAMES: tuple[SideName, SideName] = ("A", "B")
HERE = "here"
REVISION, FOLDER = "rev:", "dir:"
FIXED = ("data", "seeds", "validation_split", "splits", "recipe")
"""Settings that no arm may have of its own: with other data or another recipe nothing would be comparable."""


class ArmSpec(NamedTuple):
    """One side as it was asked for. `settings` are fields of `Selection`; `delay` is a share of each step."""

    name: SideName
    said: str
    settings: dict[str, Any]
    revision: str | None = None
    folder: Path | None = None
    python: str | None = None
    delay: float = 0.0


def read_arms(
    texts: Sequence[str],
    pythons: Sequence[str],
    settings: Sequence[str],
    delays: Sequence[str],
    catalogue: Catalogue,
) -> tuple[ArmSpec, ArmSpec]:
    """Both arms. `texts` are none or two of: a backend, `rev:REVISION`, `dir:CHECKOUT`, `here`.

    The others begin with the arm's name: `B=/usr/bin/python3.12`, `B.precision=bf16`, `B=5%`. Raises `Refused`.
    """
    if len(texts) not in (0, 2):
        raise Refused(f"{len(texts)} arms; name two, such as pytorch keras3, or rev:main here, or none with --set")
    specs = dict(
        zip(
            NAMES,
            (_read(name, text, catalogue) for name, text in zip(NAMES, texts or (HERE, HERE), strict=True)),
            strict=True,
        )
    )
    for text in pythons:
        name, python = _split(text, "--python", "=")
        specs[name] = specs[name]._replace(python=python)
    for text in settings:
        name, rest = _split(text, "--set", ".")
        field, equals, value = rest.partition("=")
        if not equals:
            raise Refused(f"--set {text}: no value; write {name}.precision=bf16")
        own = {**specs[name].settings, **setting(field.replace("-", "_"), value)}
        specs[name] = specs[name]._replace(settings=own)
    for text in delays:
        name, share = _split(text, "--inject-delay", "=")
        specs[name] = specs[name]._replace(delay=read_share(share, f"--inject-delay {text}"))
    return specs["A"], specs["B"]


def drafts(specs: Sequence[ArmSpec], common: Mapping[str, Any], catalogue: Catalogue) -> list[tuple[Draft, Draft]]:
    """The cases to compare, each as a draft of both arms; of the scenarios `full` alone if none is named.

    Raises `Refused` if the arms do not have the same cases.
    """
    wanted = {"scenario": ("full",), **common}
    found = [expand(Selection(**{**wanted, **spec.settings, "seeds": 1}), catalogue) for spec in specs]
    pairs = list(zip(*found, strict=False))
    if len(found[0]) != len(found[1]) or any(_row(a) != _row(b) for a, b in pairs):
        sides = "; ".join(f"{spec.name} has {_listed(drafts)}" for spec, drafts in zip(specs, found, strict=True))
        raise Refused(f"the two sides have different cases: {sides}; name --model and --scenario that both have")
    return [(a, b) for a, b in pairs]


def _listed(drafts: Sequence[Draft]) -> str:
    return ", ".join(dict.fromkeys(f"{draft.case.model}/{draft.case.scenario.name}" for draft in drafts))


def differing(specs: Sequence[ArmSpec], cases: Sequence[tuple[Draft, Draft]]) -> bool:
    """Whether anything makes the two arms differ: where they come from, their interpreters, delays or cases."""
    a, b = ((spec.revision, spec.folder, spec.python or sys.executable, spec.delay) for spec in specs)
    return a != b or any(one != other for one, other in cases)


def read_share(text: str, where: str) -> float:
    """A share written as `5%` or `0.05`. Raises `Refused`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise Refused(f"{where}: {text} is not a percentage; write 5% or 0.05") from error
    if not 0 <= share < 10:
        raise Refused(f"{where}: {text} must lie between 0 and 1000 %")
    return share


def setting(field: str, value: str) -> dict[str, Any]:
    """A field of `Selection` with its value read from text. Raises `Refused`."""
    hints = get_type_hints(Selection)
    if field in FIXED:
        raise Refused(f"--set {field}: it must be the same in both arms; give it as --{field.replace('_', '-')}")
    if field not in hints:
        raise Refused(unknown("setting", field, hints))
    several = get_origin(hints[field]) is tuple
    kind = get_args(hints[field])[0] if several else hints[field]
    try:
        read = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(f"--set {field}={value}: {error}") from error
    return {field: (read,) if several else read}


def _row(draft: Draft) -> tuple[str, str]:
    return draft.case.model, draft.case.scenario.name


def _read(name: SideName, text: str, catalogue: Catalogue) -> ArmSpec:
    if text.startswith(REVISION):
        return ArmSpec(name, text, {}, revision=text.removeprefix(REVISION))
    if text.startswith(FOLDER):
        return ArmSpec(name, text, {}, folder=Path(text.removeprefix(FOLDER)))
    if text == HERE:
        return ArmSpec(name, text, {})
    backend, _, engine = (text, "", "") if text in catalogue.backends else text.partition("-")
    if backend not in catalogue.backends:
        known = [*catalogue.backends, "rev:REVISION", "dir:CHECKOUT", HERE]
        raise Refused(unknown("arm", text, known))
    return ArmSpec(name, text, {"backend": (backend,), **({"engine": (engine,)} if engine else {})})


def _split(text: str, option: str, sign: str) -> tuple[SideName, str]:
    name, found, rest = text.partition(sign)
    if not found or name not in NAMES:
        raise Refused(f"{option} {text}: begin with the arm, {NAMES[0]}{sign} or {NAMES[1]}{sign}")
    return ("A" if name == "A" else "B"), rest
