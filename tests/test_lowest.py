"""`constraints-lowest.txt`, which `tox -e lowest` installs, has the lower bounds of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("torch", "tensorflow", "jax", "badge", "pytest-benchmark", "ray")
"""The extras of `tox -e lowest`. Those of exports are in `tox -e exports`; docs and dev are not for users."""
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def bounds() -> dict[str, str]:
    """The lower bounds of the dependencies by their normalised name."""
    wanted = [*PROJECT["dependencies"], *(one for name in EXTRAS for one in PROJECT["optional-dependencies"][name])]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)(?:;.*)?", one) for one in wanted]
    assert all(found), "every dependency has a lower bound and nothing else"
    return {one[1].lower().replace("_", "-"): one[2] for one in found if one}


def parts(version: str) -> tuple[int, ...]:
    """The numbers of a version without zeros at its end: 6, 6.0 and 6.0.0 are one version."""
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


@pytest.mark.parametrize("name", bounds())
def test_the_lowest_version_is_the_bound(name: str) -> None:
    assert parts(PINNED[name]) == parts(bounds()[name])
