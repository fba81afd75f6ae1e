"""Read the two sides of a comparison from the command line: backends, revisions, interpreters, settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from harness.errors import Refused, each_once, unknown
from results.storage.rows import SideName

NAMES: tuple[SideName, SideName] = ("A", "B")
HERE = "here"
REVISION, FOLDER = "rev:", "dir:"
FIXED = ("data", "seeds", "validation_split", "validation_seed", "test_split", "splits", "recipe")
"""Settings that must be the same on both sides, because other data or another recipe changes the task."""
EXAMPLES = {
    "--set": "B.precision=bf16",
    "--python": "B=venv/bin/python",
    "--inject-delay": "B=5%",
    "--train-sample": "A=512",
}
"""An example value for each option of a side."""
SideCases = tuple[SelectedCase, SelectedCase]
"""One case, as side A and as side B run it."""


class SideSpec(NamedTuple):
    """One side, as the user gave it. `settings` are fields of `Selection`; `delay` is a share of each step."""

    name: SideName
    text: str
    settings: dict[str, Any]
    revision: str | None = None
    folder: Path | None = None
    python: str | None = None
    delay: float = 0.0


def read_sides(
    texts: Sequence[str], pythons: Sequence[str], settings: Sequence[str], delays: Sequence[str], catalogue: Catalogue
) -> tuple[SideSpec, SideSpec]:
    """Read both sides. `texts` has zero or two of: a backend, `rev:REVISION`, `dir:CHECKOUT`, `here`.

    The other texts start with a side, as in `EXAMPLES`. Raises `Refused`.
    """
    if len(texts) not in (0, 2):
        raise Refused(f"{' '.join(texts)}: give two sides, such as `pytorch keras3`, or none with --set")
    specs = {name: _read(name, text, catalogue) for name, text in zip(NAMES, texts or (HERE, HERE), strict=True)}
    for name, python in each_once("--python", (read_side(text, "--python") for text in pythons)).items():
        specs[name] = specs[name]._replace(python=python)
    written = ((text.partition("=")[0].replace("_", "-"), read_setting(text)) for text in settings)
    for name, values in each_once("--set", written).values():
        specs[name] = specs[name]._replace(settings={**specs[name].settings, **values})
    for name, delay in read_delays(delays).items():
        specs[name] = specs[name]._replace(delay=delay)
    return specs["A"], specs["B"]


def expand_sides(specs: Sequence[SideSpec], common: Mapping[str, Any], catalogue: Catalogue) -> list[SideCases]:
    """Return the cases to compare, for both sides; the default scenario is `full`.

    Raises `Refused` if the two sides have different cases.
    """
    wanted = {"scenario": ("full",), **common}
    found = [expand(Selection(**{**wanted, **spec.settings, "seeds": 1}), catalogue) for spec in specs]
    pairs = list(zip(*found, strict=False))
    if len(found[0]) != len(found[1]) or any(_row(a) != _row(b) for a, b in pairs):
        names = [", ".join(dict.fromkeys("/".join(_row(one)) for one in cases)) for cases in found]
        sides = "; ".join(f"{spec.name} has {text}" for spec, text in zip(specs, names, strict=True))
        raise Refused(f"the two sides have different cases: {sides}; choose cases of both with --model and --scenario")
    return [(a, b) for a, b in pairs]


def sides_differ(specs: Sequence[SideSpec], cases: Sequence[SideCases]) -> bool:
    """Return whether the two sides differ in source, interpreter, delay or cases."""
    a, b = ((spec.revision, spec.folder, spec.python or sys.executable, spec.delay) for spec in specs)
    return a != b or any(one != other for one, other in cases)


def read_share(text: str, where: str) -> float:
    """Read a share such as `5%` or `0.05`. Raises `Refused`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise Refused(f"{where}: {text} is not a percentage; write 5% or 0.05") from error
    if not 0 <= share < 10:
        raise Refused(f"{where}: {text} must be between 0 and 1000 %")
    return share


def read_delays(texts: Sequence[str]) -> dict[SideName, float]:
    """Return the injected delay of each side that has one. Raises `Refused`."""
    split = ((text, *read_side(text, "--inject-delay")) for text in texts)
    return each_once(
        "--inject-delay", ((side, read_share(share, f"--inject-delay {text}")) for text, side, share in split)
    )


def read_side(text: str, option: str) -> tuple[SideName, str]:
    """Read the side and the value of `SIDE=VALUE`. Raises `Refused`."""
    side, _, value = text.partition("=")
    return _side(side, text, option, value), value


def read_setting(text: str) -> tuple[SideName, dict[str, Any]]:
    """Read the side and the field of `Selection` that `SIDE.SETTING=VALUE` sets. Raises `Refused`."""
    path, _, value = text.partition("=")
    name, _, written = path.partition(".")
    return _side(name, text, "--set", value), read_value(text, written, value)


def read_value(text: str, written: str, value: str) -> dict[str, Any]:
    """Return the field of `Selection` for a setting, with its value; `text` is for messages. Raises `Refused`."""
    field, hints = written.replace("-", "_"), get_type_hints(Selection)
    if field in FIXED:
        option = f"--{field.replace('_', '-')}"
        raise Refused(f"--set {text}: {written} must be the same on both sides; write {option} {value}")
    if field not in hints:
        raise Refused(f"--set {text}: {unknown('setting', written, hints)}")
    several = get_origin(hints[field]) is tuple
    kind = get_args(hints[field])[0] if several else hints[field]
    try:
        read = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        choices = f"; write one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
        raise Refused(f"--set {text}: {value} is not a value of {written} ({error}){choices}") from error
    return {field: (read,) if several else read}


def _side(name: str, text: str, option: str, value: str) -> SideName:
    if name not in NAMES:
        raise Refused(f"{option} {text}: {name} is not a side (A or B); write {EXAMPLES[option]}")
    if not value:
        raise Refused(f"{option} {text}: no value; write {EXAMPLES[option]}")
    return "A" if name == "A" else "B"


def _row(selected: SelectedCase) -> tuple[str, str]:
    return selected.case.model, selected.case.scenario.name


def _read(name: SideName, text: str, catalogue: Catalogue) -> SideSpec:
    if text.startswith(REVISION):
        return SideSpec(name, text, {}, revision=text.removeprefix(REVISION))
    if text.startswith(FOLDER):
        return SideSpec(name, text, {}, folder=Path(text.removeprefix(FOLDER)))
    if text == HERE:
        return SideSpec(name, text, {})
    backend, _, engine = (text, "", "") if text in catalogue.backends else text.partition("-")
    if backend not in catalogue.backends:
        known = [*catalogue.backends, "rev:REVISION", "dir:CHECKOUT", HERE]
        raise Refused(unknown("side", text, known))
    return SideSpec(name, text, {"backend": (backend,), **({"engine": (engine,)} if engine else {})})
