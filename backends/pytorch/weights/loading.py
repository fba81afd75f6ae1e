"""The content of a PyTorch or safetensors file, loaded without running code from it."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from backends.pytorch.weights.old_tar import DAMAGE, load_tar
from harness.data.weight_files import ENDINGS, kind_of
from harness.errors import Refused

MARK = "finetune_bench"
"""Metadata key for the model's name in files that this project writes."""


class Loaded(NamedTuple):
    """The content of a file, and the name of its model if this project wrote it."""

    content: object
    made_for: str


def load(path: Path) -> Loaded:
    """Load a file with any name. Raise `Refused` if it is missing, damaged, of another format, or holds code."""
    if not path.exists():
        raise Refused(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise Refused(f"{path} is empty; fetch or save it again")
    kind = kind_of(path)
    if kind == "safetensors" or (kind is None and path.suffix.lower() == ".safetensors"):
        return _load_safetensors(path)
    if kind not in ("torch", None):
        raise Refused(f"{path} is not a PyTorch file: its content is that of a {ENDINGS[kind]} file")
    content = load_tar(path) if _is_tar(path) else _load_torch(path)
    facts = getattr(content, "_metadata", None)
    facts = facts.get("") if isinstance(facts, dict) else None
    return Loaded(content, str(facts.get(MARK, "")) if isinstance(facts, dict) else "")


def _load_safetensors(path: Path) -> Loaded:
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
        return Loaded(load_file(path), facts.get(MARK, ""))
    except (SafetensorError, OSError) as error:
        raise Refused(f"{path} is not a readable safetensors file ({error}); fetch it again") from error


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(262)[257:] == b"ustar"


def _load_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            # torch warns about pickles that it did not write; the code below handles them.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if name := _unsafe(str(error)):
            raise Refused(
                f"{path} holds {name}, a Python object that could run code when loaded; save the network's "
                "state_dict() instead, in the program that made the file"
            ) from error
        if _is_pickle(path):
            raise Refused(
                f"{path} is a pickle that PyTorch's safe loader does not read, because it could run code; save the "
                "network's state_dict() with torch.save, in the program that made the file"
            ) from error
        raise Refused(f"{path} is damaged or not a PyTorch state dict; fetch or save it again") from error
    except (*DAMAGE, AssertionError) as error:
        raise Refused(f"{path} is damaged or not a PyTorch state dict; fetch or save it again") from error


def _unsafe(message: str) -> str:
    # The type or function that the safe loader rejected; empty if the message has no name.
    named = r"GLOBAL (\S+)|(?:but got|function) <(?:class|function) '?([\w.]+)|must be imported to load (\S+)"
    found = re.search(named, message)
    return next((name for name in found.groups() if name), "") if found else ""


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


class _Inert:
    """A placeholder for an object beside the weights; it stores nothing and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore the state of the object."""


def _empty_dict(*_: object) -> dict[Any, Any]:
    return {}


def _empty_list(*_: object) -> list[Any]:
    return []


def _stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    # Well-known types that training programs save beside weights, by their names in pickles.
    inert = ["argparse.Namespace", "types.SimpleNamespace", "torch.torch_version.TorchVersion", "builtins.slice"]
    inert += ["builtins.range", "builtins.frozenset", "fractions.Fraction", "decimal.Decimal", "uuid.UUID"]
    inert += [f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")]
    modules = ("pathlib", "pathlib._local")
    systems = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
    inert += [f"{module}.{name}" for module in modules for name in systems]
    scalar: Any = np.float64(0).__reduce__()[0]
    array: Any = np.zeros(0).__reduce__()[0]
    pairs: list[tuple[Callable[..., Any], str]] = [(_Inert, name) for name in inert]
    pairs += [(kind, f"builtins.{kind.__name__}") for kind in _BUILT_IN]
    pairs += [(_empty_dict, "collections.defaultdict"), (_empty_list, "collections.deque")]
    for core in ("core", "_core"):
        pairs += [(scalar, f"numpy.{core}.multiarray.scalar"), (array, f"numpy.{core}.multiarray._reconstruct")]
    return [*pairs, (np.ndarray, "numpy.ndarray"), (np.dtype, "numpy.dtype"), *{type(np.dtype(c)) for c in _NUMBERS}]


_BUILT_IN: tuple[type, ...] = (list, dict, int, float, str, bool, tuple)
_NUMBERS = "?bhilqBHILQefdFDSU"
"""NumPy's type codes for numbers and text."""
_HARMLESS = _stand_ins()
