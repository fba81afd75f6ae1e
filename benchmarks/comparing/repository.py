"""The git repository of this project: its revisions, and where two of them part. Every call of git is made here."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

from harness.errors import Declined, Refused
from harness.process.environment import HERE

SETTINGS = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
"""Variables of git that say where a user's settings are. The others may lead to another repository, as in a hook."""
UNSHALLOW = (
    "this clone is shallow: run `git fetch --unshallow`, or give actions/checkout `fetch-depth: 0`, to have the history"
)


class Incomparable(Declined):
    """There is no base to compare with: another protocol, or a revision from before comparisons."""


def resolve(revision: str) -> str:
    """The commit that a revision names. Raises `Refused`, also where the running code is no checkout of its own."""
    _require_checkout()
    found = _git("rev-parse", "--verify", f"{revision}^{{commit}}", root=HERE.root)
    if found.returncode:
        remedy = UNSHALLOW if _is_shallow() else "name a branch, a tag or a commit"
        raise Refused(f"no revision {revision} in {HERE.root} (git says: {_words(found)}); {remedy}")
    return found.stdout.strip()


def merge_base(revision: str) -> str:
    """The commit at which the checkout's HEAD and a revision part. Raises `Refused`, or `Incomparable` for none."""
    commit = resolve(revision)
    resolve("HEAD")
    found = _git("merge-base", commit, "HEAD", root=HERE.root)
    if found.returncode:
        remedy = UNSHALLOW if _is_shallow() else "their histories are unrelated; name another base"
        raise Incomparable(f"{revision} and HEAD have no commit in common; {remedy}")
    return found.stdout.strip()


def revisions_between(good: str, bad: str) -> list[str]:
    """Commits from the good one to the bad one, both included, along first parents. Raises `Refused`."""
    first, last = resolve(good), resolve(bad)
    follows = first != last and not _git("merge-base", "--is-ancestor", first, last, root=HERE.root).returncode
    if not follows:
        raise Refused(f"{bad} does not come after {good}" + (f"; {UNSHALLOW}" if _is_shallow() else ""))
    return [first, *_done("rev-list", "--first-parent", "--reverse", f"{first}..{last}").split()]


def add_worktree(folder: Path, commit: str) -> None:
    """Check a commit of this project out into a folder of its own. Raises `Refused`."""
    _require_checkout()
    _done("worktree", "prune")  # of one that was cleared from the cache
    _done("worktree", "add", "--detach", "--force", str(folder), commit)


def commit_of(root: Path) -> str:
    """The commit that a checkout is at, with `+` if files differ from it; empty without git or outside a repository.

    A folder inside another project's repository has no commit of its own, and gives an empty one, too.
    """
    if shutil.which("git") is None or _top(root) != root.resolve():
        return ""
    head = _git("rev-parse", "HEAD", root=root)
    if head.returncode:
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no", root=root).stdout.strip()
    return head.stdout.strip() + ("+" if changed else "")


def here_commit() -> str:
    """`commit_of` the running code."""
    return commit_of(HERE.root)


def _require_checkout() -> None:
    """Raise `Refused` unless the running code is a git checkout of this project, and the current folder is in no other
    repository, whose revisions somebody might mean."""
    root = HERE.root
    found = _git("rev-parse", "--show-toplevel", root=root)
    if found.returncode:
        _refuse_unreadable(root, found)
    if (top := Path(found.stdout.rstrip("\n")).resolve()) != root:
        _refuse_foreign(f"this one runs from {root}, inside the repository {top}")
    if _git("ls-files", "--error-unmatch", "harness/__init__.py", root=root).returncode:
        _refuse_foreign(f"this one runs from {root}, whose repository does not hold it")
    current = _top(Path.cwd())
    if current not in (None, root):
        _refuse_foreign(f"this one runs from {root}, and the current folder is in the repository {current}")


def _refuse_unreadable(root: Path, found: subprocess.CompletedProcess[str]) -> NoReturn:
    said = _words(found)
    if "not a git repository" in said:
        _refuse_foreign(f"this one runs from {root}, which is in no git repository")
    if "dubious ownership" in said or "unsafe repository" in said:
        lines = (line.strip() for line in found.stderr.splitlines())
        command = f"git config --global --add safe.directory {shlex.quote(str(root))}"
        trust = next((line for line in lines if line.startswith("git config --global --add safe.directory")), command)
        raise Refused(f"git does not trust {root}: {said}; if you do, run `{trust}`")
    raise Refused(f"git cannot read {root}: {said}")


def _refuse_foreign(where: str) -> NoReturn:
    raise Refused(
        "gate, bisect and compare rev:… measure revisions of finetune-bench itself and need to run in a git checkout "
        f"of it; {where}; for two environments use `compare --python A=… --python B=…`, for code of your own --plugin"
    )


def _top(folder: Path) -> Path | None:
    found = _git("rev-parse", "--show-toplevel", root=folder)
    return None if found.returncode else Path(found.stdout.rstrip("\n")).resolve()


def _is_shallow() -> bool:
    return _git("rev-parse", "--is-shallow-repository", root=HERE.root).stdout.strip() == "true"


def _done(*arguments: str) -> str:
    done = _git(*arguments, root=HERE.root)
    if done.returncode:
        raise Refused(f"git {arguments[0]} failed in {HERE.root}: {_words(done)}")
    return done.stdout


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """The line in which git says why; hints follow it."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    faults = [line.partition(": ")[2] for line in lines if line.startswith(("fatal: ", "error: "))]
    return next(iter([*faults, *lines]), f"exit code {done.returncode}")


def _git(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in SETTINGS}
    try:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            env={**kept, "LC_ALL": "C"},  # its words are read
        )
    except (FileNotFoundError, PermissionError) as error:
        raise Refused("git is not installed; install it, or compare folders with dir:CHECKOUT") from error
