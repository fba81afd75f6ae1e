"""The files that this process has imported, apart from Python and installed packages: a plug-in and its modules."""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
from functools import cache
from pathlib import Path

from harness import OURS
from harness.process.environment import HERE


def imported_files() -> dict[str, str]:
    """Return the SHA-256 of each imported file by path, without those of Python, installed packages and this project.

    A package in development mode (`pip install --editable`) is not in the folder of installed packages, so its files
    are included.
    """
    # Thousands of modules may be imported, so their paths are compared as texts.
    files = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    own = sorted(file for file in files if not file.startswith(_known()))
    return {file: digest_of(Path(file)) for file in own if Path(file).is_absolute() and Path(file).is_file()}


@cache
def _known() -> tuple[str, ...]:
    """Return the folders of Python, of installed packages and of this project, as they are and without links."""
    paths = sysconfig.get_paths()
    folders = [*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages()]
    folders += [site.getusersitepackages(), *(str(HERE.root / name) for name in OURS)]
    both = {*folders, *map(os.path.realpath, folders)}
    return tuple(f"{folder}{os.sep}" for folder in both)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file; empty if it does not exist."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
