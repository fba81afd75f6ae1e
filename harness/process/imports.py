"""The files that this process has imported, apart from Python and installed packages: a plug-in and its modules."""

from __future__ import annotations

import hashlib
import site
import sys
import sysconfig
from pathlib import Path

from harness import OURS
from harness.process.environment import HERE


def imported_files() -> dict[str, str]:
    """Return the SHA-256 of each imported file by path, without those of Python, installed packages and this project.

    A package in development mode (`pip install --editable`) is not in the folder of installed packages, so its files
    are included.
    """
    paths = sysconfig.get_paths()
    known = [*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages()]
    own = [str(HERE.root / name) for name in OURS]
    without = [Path(folder).resolve() for folder in (*known, site.getusersitepackages(), *own)]
    found = {}
    for module in list(sys.modules.values()):
        name: str | None = getattr(module, "__file__", None)
        file = Path(name or "")
        if file.is_absolute() and file.is_file() and not any(file.resolve().is_relative_to(one) for one in without):
            found[str(file)] = digest_of(file)
    return found


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file; empty if it does not exist."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
