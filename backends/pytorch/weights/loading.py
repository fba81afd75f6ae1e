"""What is in a file of PyTorch's or in safetensors, loaded without running any code that is in it."""

from __future__ import annotations

import pickle
import re
import struct
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from backends.pytorch.weights.old_tar import load_tar
from harness.data.weight_files import ENDINGS, kind_of
from harness.errors import Refused

MARK = "finetune_bench"
"""Key under which a file that this project wrote names its model, where the format has room for it."""


class Loaded(NamedTuple):
    """A file's content, and the model that it was written for if this project wrote it."""

    content: object
    made_for: str


def load(path: Path) -> Loaded:
    """Load a file, whatever its name. Raises `Refused` for one that is missing, damaged, foreign, or holds code."""
    if not path.exists():
        raise Refused(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise Refused(f"{path} is empty; fetch or save it again")
    kind = kind_of(path)
    if kind == "safetensors" or (kind is None and path.suffix.lower() == ".safetensors"):
        return _load_safetensors(path)
    if kind not in ("torch", None):
        raise Refused(f"{path} is no PyTorch file: its content is that of a {ENDINGS[kind]} file")
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
        raise Refused(f"{path} is no readable safetensors file ({error}); fetch it again") from error


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(262)[257:] == b"ustar"


def _load_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            # Said of pickles that torch did not write; what becomes of them is said below.
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
                f"{path} is a pickle that the safe loader of PyTorch does not read, since pickles could run code when "
                "loaded; save the network's state_dict() with torch.save, in the program that made the file"
            ) from error
        raise Refused(f"{path} is no PyTorch state dict, or damaged; fetch or save it again") from error
    except _DAMAGE as error:
        raise Refused(f"{path} is no PyTorch state dict, or damaged; fetch or save it again") from error


_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    tarfile.TarError,
)
"""What torch.load raises for bytes that are no state dict, beside UnpicklingError."""


def _unsafe(message: str) -> str:
    """The type or function that the safe loader did not take, or nothing."""
    named = r"GLOBAL (\S+)|(?:but got|function) <(?:class|function) '?([\w.]+)|must be imported to load (\S+)"
    found = re.search(named, message)
    return next((name for name in found.groups() if name), "") if found else ""


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


class _Inert:
    """Stands for an object beside the weights that nothing here reads: it keeps nothing and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Take whatever an object's state is, and forget it."""


def _empty_dict(*_: object) -> dict[Any, Any]:
    return {}


def _empty_list(*_: object) -> list[Any]:
    return []


def _stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Well-known types that people keep beside weights, by the names that pickles have for them."""
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
"""NumPy's types of numbers and texts."""
_HARMLESS = _stand_ins()
