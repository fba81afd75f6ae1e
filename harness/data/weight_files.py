"""What a file of weights is, by its content first and its name second; foreign formats with how to convert them.

An import refuses a file that holds only a part of the weights, and notes each choice that it makes.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, NoReturn

from harness.errors import Refused

Kind = Literal["torch", "safetensors", "hdf5", "keras", "npz"]
ENDINGS: Mapping[Kind, str] = {
    "torch": ".pth",
    "safetensors": ".safetensors",
    "hdf5": ".h5",
    "keras": ".keras",
    "npz": ".npz",
}
"""The file name ending by which a backend says that it reads files of a kind."""

_TORCHSCRIPT = (
    "is a TorchScript program, which is code; save its weights with "
    "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
)
_EXPORTED = (
    "is a program of torch.export; save its weights with "
    "torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth')"
)
_SAVED_MODEL = (
    "is a TensorFlow SavedModel; load it with tf_keras.models.load_model and save it with model.save('weights.h5')"
)
_TF_CHECKPOINT = (
    "is part of a TensorFlow checkpoint; load it into its Keras model with model.load_weights and save that with "
    "model.save_weights('weights.weights.h5')"
)
_ONNX = "is an ONNX graph; save the weights of the network it was exported from, as a state_dict or a Keras file"
_DEPLOYED = "converted for inference; give the weights it was converted from, as a state_dict or a Keras file"
_GGUF = f"is a GGUF file, {_DEPLOYED}"
_TF_LITE = f"is a TensorFlow Lite file, {_DEPLOYED}"
_FLAX = (
    "is a msgpack file as Flax writes it; save its arrays under torchvision's names with "
    "safetensors.numpy.save_file(arrays, 'weights.safetensors')"
)
_COMPRESSED = "is compressed; unpack it and give the file inside"
_WEB_PAGE = "is a web page and not a file of weights; download the file itself"
_LFS = "is a pointer of Git LFS and not the file itself; fetch the file with git lfs pull"
_ONE_ARRAY = "holds one NumPy array without a name; save all arrays under their names with numpy.savez"
_SHARDED = "is the index of a network in several files; save the network again as one file"
_SHARDS = "is a folder of a network in several files (torch.distributed.checkpoint); write one file with " + (
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth"
)
_DEEPSPEED = "is a folder of DeepSpeed; write one file with its own program zero_to_fp32.py"
_ORBAX = "is a folder of Orbax; restore it with JAX and save its arrays under torchvision's names as safetensors"
_UNPACKED = "is an unpacked PyTorch file; pack the folder again with zip -0 -r weights.pth FOLDER"

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", _GGUF),
    (b"\x08\x01\x12", _SAVED_MODEL),
    (b"\x1f\x8b", _COMPRESSED),
    (b"BZh", _COMPRESSED),
    (b"\xfd7zXZ", _COMPRESSED),
    (b"\x28\xb5\x2f\xfd", _COMPRESSED),
    (b"7z\xbc\xaf", _COMPRESSED),
    (b"Rar!", _COMPRESSED),
    (b"version https://git-lfs", _LFS),
    (b"\x93NUMPY", _ONE_ARRAY),
)
_NAMES: tuple[tuple[str, str], ...] = (
    (r"\.onnx$", _ONNX),
    (r"\.tflite$", _TF_LITE),
    (r"\.gguf$", _GGUF),
    (r"\.(mlmodel|mlpackage)$", f"is a Core ML file, {_DEPLOYED}"),
    (r"\.(engine|plan|trt)$", f"is a TensorRT file, {_DEPLOYED}"),
    (r"\.pb$", _SAVED_MODEL),
    (r"\.(index|meta|data-\d+-of-\d+)$", _TF_CHECKPOINT),
    (r"\.msgpack$", _FLAX),
)
_IN_FOLDERS: tuple[tuple[str, str], ...] = (
    ("saved_model.pb", _SAVED_MODEL),
    (".metadata", _SHARDS),
    ("zero_to_fp32.py", _DEEPSPEED),
    ("_CHECKPOINT_METADATA", _ORBAX),
    ("_METADATA", _ORBAX),
    ("data.pkl", _UNPACKED),
)
_ONNX_SECOND_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
_TF_INDEX_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def kind_of(path: str | Path) -> Kind | None:
    """The kind of a file, or None where neither content nor name says it.

    Raises `Refused` for a folder and for a format that no backend reads, with what it is and how to convert it.
    """
    path = Path(path)
    if path.is_dir():
        raise Refused(f"{path} {_of_folder(path)}")
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 8))
        tail = file.read(8)
    kind = _of_content(path, head)
    if kind:
        return kind
    if foreign := _foreign(path.name, head, tail):
        raise Refused(f"{path} {foreign}")
    return None


def ending_of(path: Path, known: Sequence[str]) -> str | None:
    """The known ending whose owner reads a file: by name if it is a plugin's own, else by content, else by name.

    Raises `Refused` as `kind_of` does.
    """
    endings = sorted(known, key=len, reverse=True)
    named = next((ending for ending in endings if path.name.lower().endswith(ending.lower())), None)
    if named and named not in (*ENDINGS.values(), ".pt", ".bin", ".weights.h5"):
        return named
    kind = kind_of(path)
    return ENDINGS[kind] if kind and ENDINGS[kind] in known else named


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its content, or by its name where its content says nothing."""
    if path.suffix.lower() == ".safetensors":
        return kind_of(path) in ("safetensors", None)
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return _is_safetensors(file.read(9))


def _of_folder(folder: Path) -> str:
    for name, said in _IN_FOLDERS:
        if (folder / name).exists():
            return said
    if any(folder.glob("*.index")):
        return _TF_CHECKPOINT.replace("is part of", "is the folder of", 1)
    files = sorted(p.name for p in folder.iterdir() if re.search(r"\.(safetensors|bin|pth|pt|h5|keras)$", p.name))
    return f"is a folder; give a file in it{f', such as {files[0]}' if files else ''}"


def _of_content(path: Path, head: bytes) -> Kind | None:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path, head)
    if head[257:262] == b"ustar":
        return _of_tar(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch"  # a pickle: written by torch.save before its zip files, or by pickle itself
    return "safetensors" if _is_safetensors(head) else None


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _of_zip(path: Path, head: bytes) -> Kind | None:
    is_cut = False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        # Cut short: the list of names at its end is lost, the first name is not.
        is_cut = True
        names = [head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")]
    within = {name.partition("/")[2] for name in names}
    if "constants.pkl" in within:
        raise Refused(f"{path} {_TORCHSCRIPT}")
    if {"archive_format", "serialized_exported_program.json"} & {*within, *names}:
        raise Refused(f"{path} {_EXPORTED}")
    if "data.pkl" in {*within, *names}:
        return "torch"
    if "config.json" in names or any(name.startswith("model.weights") for name in names):
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if is_cut:
        return None
    raise Refused(f"{path} is a zip archive of other files ({_some(names)}); unpack it and give the file of weights")


def _of_tar(path: Path) -> Kind | None:
    try:
        with tarfile.open(path, "r:") as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError, EOFError):
        return None
    if {"pickle", "storages", "tensors"} <= set(names):
        return "torch"
    raise Refused(f"{path} is a tar archive of other files ({_some(names)}); unpack it and give the file of weights")


def _foreign(name: str, head: bytes, tail: bytes) -> str | None:
    text = head.lstrip().lower()
    is_onnx = head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in _ONNX_SECOND_FIELDS and len(head) > 3
    signs = (
        *((head.startswith(beginning), said) for beginning, said in _BEGINNINGS),
        (head[4:8] == b"TFL3", _TF_LITE),
        (is_onnx, _ONNX),
        (tail == _TF_INDEX_END, _TF_CHECKPOINT),
        (text.startswith((b"<!doctype html", b"<html")), _WEB_PAGE),
        (text.startswith(b"{") and b'"weight_map"' in text, _SHARDED),
        *((re.search(pattern, name.lower()), said) for pattern, said in _NAMES),
    )
    return next((said for is_one, said in signs if is_one), None)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else "it is empty"


IMPORT = 2
"""Raised when an import comes to other tensors or notes than before, so that no older one is taken from the cache."""

_noted: ContextVar[list[str]] = ContextVar("_noted")


def note(sentence: str) -> None:
    """Say what an import decided where its file leaves a choice; within `noted`, it ends on the case's line."""
    _noted.get([]).append(sentence)


@contextmanager
def noted() -> Iterator[list[str]]:
    """The sentences that are noted meanwhile."""
    sentences: list[str] = []
    token = _noted.set(sentences)
    try:
        yield sentences
    finally:
        _noted.reset(token)


def refuse_part(path: str, model: str, total: int, missing: Sequence[str], misfits: Sequence[str]) -> NoReturn:
    """Raise `Refused` for a file without some of the `total` tensors that a model takes from a checkpoint.

    `misfits` are tensors that are there but have another shape or type, each with what it is and what it should be.
    """
    parts = [f"{len(missing)} of its {total} tensors are missing ({some(missing)})"] if missing else []
    parts += [f"{len(misfits)} of its {total} tensors do not fit ({some(misfits)})"] if misfits else []
    raise Refused(f"{path} holds only a part of a {model}: {', '.join(parts)}; save the whole network again")


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
