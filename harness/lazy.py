"""Imports: names of a package whose modules are imported on first access, and quick imports of large packages."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562); `homes` has the module of each name.

    >>> lazy_names("here", {"sqrt": "math"})("sqrt")(9.0)
    3.0
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find


def import_quickly(name: str, without: Collection[str] = ()) -> ModuleType:
    """Import a module with garbage collection switched off, and leave what exists then out of later collections.

    Imports leave hardly any garbage, but every collection visits all objects: a fifth of the time to import TensorFlow,
    and a quarter of the time to build a network with it. Packages in `without` seem not to be installed meanwhile,
    unless they are imported already.
    """
    hidden = [package for package in without if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import fails
    enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        for package in hidden:
            del sys.modules[package]
        gc.freeze()
        if enabled:
            gc.enable()
