"""The code and the interpreter of a side: a folder, or a worktree of a revision with its environment."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from filelock import FileLock

from benchmarks.comparing.repository import Incomparable, add_worktree, commit_of, resolve
from benchmarks.comparing.sides import SideSpec
from benchmarks.datasets.cache import cache_folder, writable
from harness import PROTOCOL
from harness.entry import VERSIONS
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.environment import HERE, Place
from harness.process.launch import STARTED, Event

NEEDED = Path("harness") / "entry.py"


class Unbuildable(Declined):
    """The environment of a revision cannot be made; the message ends with the last line of pip."""


class Installation(NamedTuple):
    """A checkout with its interpreter; `revision` is its commit, with `+` if files differ, and empty outside git."""

    place: Place
    revision: str
    packages: dict[str, str]


def require_sources(specs: Sequence[SideSpec]) -> None:
    """Raise `Refused` for a folder that is not a checkout of this project, and for an unknown revision."""
    for spec in specs:
        if spec.revision is not None:
            resolve(spec.revision)
        elif spec.folder is not None and _protocol(spec.folder) is None:
            raise Refused(f"side {spec.name}: {spec.folder} is not a checkout of this project; name its top folder")


def find_installation(
    spec: SideSpec, distributions: tuple[str, ...], on_event: Callable[[Event], None]
) -> Installation:
    """Return the installation of a side; make it if necessary. `distributions` has its backend's packages.

    The framework is the first of them. Raises `Refused` for a revision, folder or interpreter that cannot be used,
    `Incomparable`, or `Unbuildable`.
    """
    require_sources([spec])
    root = _root(spec)
    if not (root / NEEDED).is_file():
        raise Incomparable(f"side {spec.name}: {spec.text} has no {NEEDED}: it is too old to compare")
    if (protocol := _protocol(root)) != PROTOCOL:
        raise Incomparable(f"side {spec.name}: {spec.text} uses protocol {protocol}, not {PROTOCOL} (V52)")
    python = spec.python or (sys.executable if spec.revision is None else _interpreter(root, spec, on_event))
    place = HERE._replace(python=python) if root == HERE.root else Place(python, root, prefix="")
    packages = _packages(spec, place, distributions)
    if distributions and distributions[0] not in packages:
        raise Refused(f"side {spec.name}: {place.python} has no {distributions[0]}; install it there")
    return Installation(place, commit_of(place.root), packages)


def _root(spec: SideSpec) -> Path:
    """Return the checkout of a side; for a revision it is a worktree in the cache."""
    if spec.folder is not None:
        return spec.folder.resolve()
    if spec.revision is None:
        return HERE.root
    commit = resolve(spec.revision)
    root = cache_folder() / "revisions" / commit
    with writable(root.parent), FileLock(f"{root}.lock"):
        if not (root / "harness").is_dir():
            add_worktree(root, commit)
    return root


def _interpreter(root: Path, spec: SideSpec, on_event: Callable[[Event], None]) -> str:
    """Return an interpreter with the requirements of the checkout: this one if they are the same as here."""
    wanted = _requirements(root)
    if wanted == _requirements(HERE.root):
        return sys.executable
    home = cache_folder() / "environments" / wanted
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return str(python)
    on_event({"preparing": f"the environment of {spec.text}"})
    with writable(home.parent), FileLock(f"{home}.lock"):
        _install(root, home, spec)
    return str(python)


def _install(root: Path, home: Path, spec: SideSpec) -> None:
    constraints = ["-c", str(root / "constraints.txt")] if (root / "constraints.txt").exists() else []
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *constraints, f"{root}[all]"],
    ):
        STARTED.info("%s", shlex.join(command))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or "nothing").splitlines()[-1]
            raise Unbuildable(f"side {spec.name}: the environment of {spec.text} cannot be made: {words}")
    (home / "complete").touch()


def _requirements(root: Path) -> str:
    """Return sixteen hex digits of the requirements of a checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = root / "constraints.txt"
    wanted = [project.get("dependencies"), project.get("optional-dependencies"), project.get("requires-python")]
    content = [wanted, pins.read_text(encoding="utf-8") if pins.exists() else ""]
    text = msgspec.json.encode(content, order="deterministic")
    return hashlib.sha256(text + sys.version.encode()).hexdigest()[:16]


def _protocol(root: Path) -> int | None:
    file = root / "harness" / "__init__.py"
    if not file.is_file():
        return None
    found = re.search(r"^PROTOCOL = (\d+)$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(found[1]) if found else None


def _packages(spec: SideSpec, place: Place, distributions: tuple[str, ...]) -> dict[str, str]:
    try:
        return ask(VERSIONS, {"distributions": distributions}, dict[str, str], timeout_s=120, place=place)
    except (Declined, Refused) as error:
        raise Refused(f"side {spec.name}: {place.python} cannot run the harness: {error}") from error
