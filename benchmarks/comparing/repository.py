"""The git repository of this project. All calls of git are in this module."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from harness import PREFIX
from harness.errors import Declined, Refused
from harness.process.environment import HERE
from harness.process.launch import STARTED

SETTINGS = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
"""The git variables that are kept: paths of the user's settings. A hook sets others to its own repository."""
UNSHALLOW = "this clone is shallow; run `git fetch --unshallow`, or set `fetch-depth: 0` for actions/checkout"


class Incomparable(Declined):
    """The base cannot be compared: it has another protocol, or it is too old."""


def resolve(revision: str) -> str:
    """Return the commit of a revision. Raises `Refused`, also if the running code is not a checkout of this project."""
    _require_checkout()
    found = _git("rev-parse", "--verify", f"{revision}^{{commit}}", root=HERE.root)
    if found.returncode:
        remedy = UNSHALLOW if _is_shallow() else "give a branch, a tag or a commit"
        raise Refused(f"no revision {revision} in {HERE.root} (git says: {_reason(found)}); {remedy}")
    return found.stdout.strip()


def merge_base(revision: str) -> str:
    """Return the merge base of HEAD and a revision. Raises `Refused`, or `Incomparable` if there is none."""
    commit = resolve(revision)
    resolve("HEAD")
    found = _git("merge-base", commit, "HEAD", root=HERE.root)
    if found.returncode:
        remedy = UNSHALLOW if _is_shallow() else "their histories are unrelated; give another base"
        raise Incomparable(f"{revision} and HEAD have no commit in common; {remedy}")
    return found.stdout.strip()


def revisions_between(good: str, bad: str) -> list[str]:
    """Return the commits from the good one to the bad one, both included, along first parents. Raises `Refused`."""
    first, last = resolve(good), resolve(bad)
    follows = first != last and not _git("merge-base", "--is-ancestor", first, last, root=HERE.root).returncode
    if not follows:
        raise Refused(f"{bad} does not come after {good}" + (f"; {UNSHALLOW}" if _is_shallow() else ""))
    return [first, *_output("rev-list", "--first-parent", "--reverse", f"{first}..{last}").split()]


def add_worktree(folder: Path, commit: str) -> None:
    """Check out a commit of this project into a folder. Raises `Refused`."""
    _require_checkout()
    _output("worktree", "prune")  # remove the entries of folders that were cleared from the cache
    _output("worktree", "add", "--detach", "--force", str(folder), commit)


def commit_of(root: Path) -> str:
    """Return the commit of a checkout, with `+` if files differ from it; empty if it is not the top of a repository.

    It is also empty if git is not installed.
    """
    if shutil.which("git") is None or _top(root) != root.resolve():
        return ""
    head = _git("rev-parse", "HEAD", root=root)
    if head.returncode:
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no", root=root).stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")


def refuse_in_wheel() -> None:
    """Raise `Refused` if this program was installed from a wheel, which has no revisions."""
    if PREFIX:
        _refuse_foreign("is an installed package")


def _require_checkout() -> None:
    """Raise `Refused` unless the code is a git checkout and the current folder is not in another repository."""
    refuse_in_wheel()
    root = HERE.root
    found = _git("rev-parse", "--show-toplevel", root=root)
    if found.returncode:
        _refuse_unreadable(root, found)
    if (top := Path(found.stdout.rstrip("\n")).resolve()) != root:
        _refuse_foreign(f"is inside the repository {top}")
    if _git("ls-files", "--error-unmatch", "harness/__init__.py", root=root).returncode:
        _refuse_foreign("is not tracked by its repository")
    current = _top(Path.cwd())
    if current not in (None, root):
        _refuse_foreign(f"is not in the repository of the current folder, {current}")


def _refuse_unreadable(root: Path, found: subprocess.CompletedProcess[str]) -> NoReturn:
    reason = _reason(found)
    if "not a git repository" in reason:
        _refuse_foreign("is not in a git repository")
    if "dubious ownership" in reason or "unsafe repository" in reason:
        lines = (line.strip() for line in found.stderr.splitlines())
        command = f"git config --global --add safe.directory {shlex.quote(str(root))}"
        trust = next((line for line in lines if line.startswith("git config --global --add safe.directory")), command)
        raise Refused(f"git does not trust {root}: {reason}; if you do, run `{trust}`")
    raise Refused(f"git cannot read {root}: {reason}")


def _refuse_foreign(problem: str) -> NoReturn:
    raise Refused(
        "gate --base, bisect and compare rev:… compare revisions of finetune-bench and must run in a git checkout of "
        f"it; the running code in {HERE.root} {problem}; to compare environments, give --python A=… --python B=… to "
        "gate or compare; to load your own code, use --plugin"
    )


def _top(folder: Path) -> Path | None:
    found = _git("rev-parse", "--show-toplevel", root=folder)
    return None if found.returncode else Path(found.stdout.rstrip("\n")).resolve()


def _is_shallow() -> bool:
    return _git("rev-parse", "--is-shallow-repository", root=HERE.root).stdout.strip() == "true"


def _output(*arguments: str) -> str:
    done = _git(*arguments, root=HERE.root)
    if done.returncode:
        raise Refused(f"git {arguments[0]} failed in {HERE.root}: {_reason(done)}")
    return done.stdout


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line with git's error, without the hints that follow it."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    faults = [line.partition(": ")[2] for line in lines if line.startswith(("fatal: ", "error: "))]
    return next(iter([*faults, *lines]), f"exit code {done.returncode}")


def _git(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    STARTED.info("git -C %s %s", root, shlex.join(arguments))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in SETTINGS}
    try:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            env={**kept, "LC_ALL": "C"},  # the messages must be in English
        )
    except (FileNotFoundError, PermissionError) as error:
        raise Refused("git is not installed; install it, or compare folders with dir:CHECKOUT") from error
