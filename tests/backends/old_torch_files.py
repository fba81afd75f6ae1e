"""Writers of PyTorch's formats from before its zip files, as their authors' programs wrote them."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
INFO = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Global:
    """A name that a pickle looks up, whether or not this Python has it."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Reduced:
    """A call that a pickle makes, and the state that it sets afterwards."""

    def __init__(self, function: Global, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state


class Pickler2(pickle._Pickler):
    """Protocol 2 with Python 2's byte strings, and persistent numbers for storages or tensors."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def __init__(self, file: Any, persistent: Any = None) -> None:
        super().__init__(file, protocol=2)
        self.persistent = persistent

    def persistent_id(self, obj: Any) -> Any:
        return self.persistent(obj) if self.persistent else None

    def save_str(self, text: str) -> None:
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    def save_global_name(self, found: Global) -> None:
        self.write(pickle.GLOBAL + f"{found.module}\n{found.name}\n".encode())
        self.memoize(found)

    def save_reduced(self, call: Reduced) -> None:
        self.save(call.function)
        self.save(call.arguments)
        self.write(pickle.REDUCE)
        self.memoize(call)
        if call.state is not None:
            self.save(call.state)
            self.write(pickle.BUILD)

    dispatch[str] = save_str
    dispatch[Global] = save_global_name
    dispatch[Reduced] = save_reduced


def dump(thing: Any, file: Any, persistent: Any = None) -> None:
    Pickler2(file, persistent).dump(thing)


class Storage:
    """Elements of one tensor, to be written once."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.contiguous()

    @property
    def kind(self) -> Global:
        return Global("torch", {torch.float32: "FloatStorage", torch.int64: "LongStorage"}[self.tensor.dtype])

    def write(self, file: Any) -> None:
        file.write(struct.pack("<q", self.tensor.numel()) + self.tensor.numpy().tobytes())


def strides(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.contiguous().stride())


def write_python_2(state: Mapping[str, torch.Tensor], path: Path, **beside: Any) -> None:
    """torch 0.1.12 to 0.3 under Python 2: a pickle after a magic number; parameters hold tensors, without counters."""
    storages: dict[str, Storage] = {}

    def persistent(obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        key = next((k for k, s in storages.items() if s is obj), str(len(storages)))
        storages[key] = obj
        return ("storage", obj.kind, key, "cuda:0", obj.tensor.numel(), None)

    def variable(tensor: torch.Tensor) -> Reduced:
        rebuild = Global("torch._utils", "_rebuild_tensor")
        plain = Reduced(rebuild, Storage(tensor), 0, tuple(tensor.shape), strides(tensor))
        if not tensor.is_floating_point():
            return plain
        return Reduced(Global("torch.nn.parameter", "Parameter"), plain, state=(True, False, OrderedDict()))

    wanted: Any = OrderedDict((name, variable(tensor)) for name, tensor in state.items())
    with path.open("wb") as file:
        for thing in (MAGIC, PROTOCOL, INFO):
            dump(thing, file)
        dump({**beside, "state_dict": wanted} if beside else wanted, file, persistent)
        dump(sorted(storages), file)
        for key in sorted(storages):
            storages[key].write(file)


def write_tar(state: Mapping[str, torch.Tensor], path: Path, first: Any = None) -> None:
    """torch before 0.1.10: a tar archive of storages, tensors, and a pickle that numbers them."""
    tensors = list(state.values())
    storages, described, content = io.BytesIO(), io.BytesIO(), io.BytesIO()
    dump(len(tensors), storages)
    dump(len(tensors), described)
    for number, tensor in enumerate(tensors):
        storage = Storage(tensor)
        dump((1000 + number, "cpu", storage.kind), storages)
        storage.write(storages)
        kind = storage.kind.name.replace("Storage", "Tensor")
        dump((number, 1000 + number, Global("torch", kind)), described)
        shape, steps = tuple(tensor.shape), strides(tensor)
        described.write(struct.pack(f"<i4x{len(shape)}q{len(shape)}qq", len(shape), *shape, *steps, 0))
    dump([], storages)
    wanted: Any = OrderedDict(state)
    if first is not None:
        wanted = {"first": first, "state_dict": wanted}
    numbers = {id(tensor): str(number) for number, tensor in enumerate(tensors)}
    dump(wanted, content, lambda obj: numbers.get(id(obj)))
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, file in (("storages", storages), ("tensors", described), ("pickle", content)):
            info = tarfile.TarInfo(name)
            info.size = len(file.getvalue())
            archive.addfile(info, io.BytesIO(file.getvalue()))
