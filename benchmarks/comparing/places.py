"""Where an arm's code comes from: a revision in a worktree and an environment of its own, a folder, an interpreter."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from filelock import FileLock

from benchmarks.comparing.arms import ArmSpec
from benchmarks.datasets.cache import cache_folder, writable
from harness import PROTOCOL
from harness.errors import Declined, Refused
from harness.launch import Event, launch
from harness.surroundings import HERE, Place

NEEDED = Path("harness") / "turns.py"


class Incomparable(Declined):
    """There is no base to compare with: another protocol, or a revision from before comparisons."""


class Unbuildable(Declined):
    """A revision whose environment cannot be made; the message ends with what pip said last."""


class Found(NamedTuple):
    """A place, the commit it is at (with `+` if files differ from it; empty outside git), and what is installed."""

    place: Place
    revision: str
    packages: dict[str, str]


def find_place(spec: ArmSpec, distributions: tuple[str, ...], on_event: Callable[[Event], None]) -> Found:
    """Make the place of an arm ready. `distributions` are those that its backend needs, the framework first.

    Raises `Refused` for a revision, folder or interpreter that is none, `Incomparable`, or `Unbuildable`.
    """
    root = _root(spec)
    if not (root / NEEDED).is_file():
        raise Incomparable(f"arm {spec.name}: {spec.said} has no {NEEDED}; it is from before comparisons")
    if (protocol := _protocol(root)) != PROTOCOL:
        raise Incomparable(f"arm {spec.name}: {spec.said} measures by protocol {protocol}, not by {PROTOCOL} (V52)")
    own = spec.python or (sys.executable if spec.revision is None else _interpreter(root, spec, on_event))
    place = Place(own, root)
    packages = _packages(spec, place, distributions)
    if distributions and distributions[0] not in packages:
        raise Refused(f"arm {spec.name}: {place.python} has no {distributions[0]}; install it there")
    return Found(place, _commit(place.root), packages)


def _root(spec: ArmSpec) -> Path:
    """The checkout of an arm; that of a revision is a worktree in the cache."""
    if spec.folder is not None:
        if not (spec.folder / "harness").is_dir():
            raise Refused(f"arm {spec.name}: {spec.folder} is no checkout of this project; name its top folder")
        return spec.folder.resolve()
    if spec.revision is None:
        return HERE.root
    commit = resolve(spec.revision)
    root = cache_folder() / "revisions" / commit
    with writable(root.parent), FileLock(f"{root}.lock"):
        if not (root / "harness").is_dir():
            _git("worktree", "prune")  # of one that was cleared from the cache
            _git("worktree", "add", "--detach", "--force", str(root), commit)
    return root


def resolve(revision: str) -> str:
    """The commit that a revision names. Raises `Refused`."""
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
    if found.returncode:
        raise Refused(f"no revision {revision} in {HERE.root}; name a branch, a tag or a commit")
    return found.stdout.strip()


def merge_base(revision: str) -> str:
    """The commit at which the checkout's HEAD and a revision part. Raises `Refused`, or `Incomparable` for none."""
    resolve(revision)
    found = _git("merge-base", revision, "HEAD", check=False)
    if found.returncode:
        raise Incomparable(f"{revision} and HEAD have no commit in common; fetch the whole history")
    return found.stdout.strip()


def revisions_between(good: str, bad: str) -> list[str]:
    """Commits from the good one to the bad one, both included, along first parents. Raises `Refused`."""
    first, last = resolve(good), resolve(bad)
    listed = _git("rev-list", "--first-parent", "--reverse", f"{first}..{last}").stdout.split()
    if not listed:
        raise Refused(f"{bad} does not come after {good}")
    return [first, *listed]


def _interpreter(root: Path, spec: ArmSpec, on_event: Callable[[Event], None]) -> str:
    """An interpreter with what the checkout asks for: this one where it asks for the same."""
    wanted = _requirements(root)
    if wanted == _requirements(HERE.root):
        return sys.executable
    home = cache_folder() / "environments" / wanted
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return str(python)
    on_event({"preparing": f"the environment of {spec.said}"})
    with writable(home.parent), FileLock(f"{home}.lock"):
        _install(root, home, spec)
    return str(python)


def _install(root: Path, home: Path, spec: ArmSpec) -> None:
    constraints = ["-c", str(root / "constraints.txt")] if (root / "constraints.txt").exists() else []
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *constraints, f"{root}[all]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or "nothing").splitlines()[-1]
            raise Unbuildable(f"arm {spec.name}: the environment of {spec.said} cannot be made: {words}")
    (home / "complete").touch()


def _requirements(root: Path) -> str:
    """Sixteen hex digits of what a checkout wants installed."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = root / "constraints.txt"
    wanted = [project.get("dependencies"), project.get("optional-dependencies"), project.get("requires-python")]
    text = msgspec.json.encode([wanted, pins.read_text() if pins.exists() else ""], order="deterministic")
    return hashlib.sha256(text + sys.version.encode()).hexdigest()[:16]


def _protocol(root: Path) -> int | None:
    found = re.search(r"^PROTOCOL = (\d+)$", (root / "harness" / "__init__.py").read_text(), re.MULTILINE)
    return int(found[1]) if found else None


def _packages(spec: ArmSpec, place: Place, distributions: tuple[str, ...]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"distributions": distributions}
        outcome = launch("harness.machine:versions", arguments, folder=Path(folder), timeout_s=120, place=place)
    if outcome.ending != "ok":
        raise Refused(f"arm {spec.name}: {place.python} cannot run the harness: {outcome.reason}")
    return msgspec.json.decode(outcome.value, type=dict[str, str])


def here_commit() -> str:
    """The commit of the running checkout, with `+` if files differ from it; empty outside git."""
    return _commit(HERE.root)


def _commit(root: Path) -> str:
    head = _git("rev-parse", "HEAD", root=root, check=False)
    if head.returncode:
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no", root=root, check=False).stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")


def _git(*arguments: str, root: Path = HERE.root, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Refused("git is not installed; compare folders with dir:CHECKOUT instead of revisions") from error
    if check and done.returncode:
        words = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise Refused(f"git {arguments[0]} failed: {words}")
    return done
