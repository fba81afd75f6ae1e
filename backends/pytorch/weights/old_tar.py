"""PyTorch's first file format, a tar archive, used until 2017. No code from a file is run."""

from __future__ import annotations

import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch

from harness.errors import Refused

_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in (
        ("Double", torch.float64),
        ("Float", torch.float32),
        ("Half", torch.float16),
        ("Long", torch.int64),
        ("Int", torch.int32),
        ("Short", torch.int16),
        ("Char", torch.int8),
        ("Byte", torch.uint8),
    )
}


def load_tar(path: Path) -> object:
    """Load the saved object. Raise `Refused` if it is damaged or holds more than tensors in plain containers."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = {name: archive.extractfile(name) for name in ("storages", "tensors", "pickle")}
            storages = _storages(_file(members["storages"]))
            return _Plain(_file(members["pickle"]), _tensors(_file(members["tensors"]), storages)).load()
    except _Unknown as error:
        raise Refused(
            f"{path} holds {error}, a Python object that could run code when loaded; save the network's state_dict() "
            "instead, in the program that made the file"
        ) from error
    except (pickle.UnpicklingError, *DAMAGE) as error:
        raise Refused(f"{path} is a damaged PyTorch file from before 2017; fetch it again") from error


DAMAGE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
    *(struct.error, tarfile.TarError),
)
"""Exceptions for damaged files, besides UnpicklingError."""


class _Unknown(Exception):
    """A class or function that is not on the list."""


class _Plain(pickle.Unpickler):
    """An unpickler that finds only containers, tensors and the names of types."""

    def __init__(self, file: IO[bytes], tensors: dict[int, torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def find_class(self, module: str, name: str) -> Any:
        """Return a container, or the name of a tensor type."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch.nn.parameter", "Parameter"):
            return torch.nn.Parameter
        if module in ("torch", "torch.cuda") and name.endswith(("Storage", "Tensor")):
            return name
        raise _Unknown(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Return a tensor by its number."""
        if isinstance(pid, tuple):
            raise _Unknown(f"a whole network ({pid[0]})")
        return self._tensors[int(pid)]


def _file(member: IO[bytes] | None) -> IO[bytes]:
    if member is None:
        raise ValueError("a folder instead of a file")
    return member


def _storages(file: IO[bytes]) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for _ in range(_Plain(file, {}).load()):
        key, _, kind = _Plain(file, {}).load()
        dtype = _DTYPES[kind]
        content = file.read(dtype.itemsize * struct.unpack("<q", file.read(8))[0])
        found[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    for key, root, offset, count in _Plain(file, {}).load():
        found[key] = found[root][offset : offset + count]
    return found


def _tensors(file: IO[bytes], storages: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for _ in range(_Plain(file, {}).load()):
        key, storage, _ = _Plain(file, {}).load()
        (axes,) = struct.unpack("<i4x", file.read(8))
        shape = struct.unpack(f"<{axes}q", file.read(8 * axes))
        strides = struct.unpack(f"<{axes}q", file.read(8 * axes))
        (offset,) = struct.unpack("<q", file.read(8))
        # as_strided raises for a view beyond the end of its storage.
        found[key] = torch.as_strided(storages[storage], shape, strides, storages[storage].storage_offset() + offset)
    return found
