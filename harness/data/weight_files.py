"""The format of a weight file, from its content first and its name second; how to convert unsupported formats.

An import refuses a file with only a part of the weights, and notes each choice that it makes.
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
"""The file name extension that stands for a kind in `FORMATS` of a backend."""

_TORCHSCRIPT = (
    "is a TorchScript program, which is code; save its weights with "
    "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
)
_EXPORTED = (
    "is a torch.export program; save its weights with "
    "torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth')"
)
_SAVED_MODEL = (
    "is a TensorFlow SavedModel; load it with tf_keras.models.load_model and save it with model.save('weights.h5')"
)
_TF_CHECKPOINT = (
    "is part of a TensorFlow checkpoint; load it into its Keras model with model.load_weights and save that with "
    "model.save_weights('weights.weights.h5')"
)
_ONNX = "is an ONNX graph; save the weights of the original network as a state_dict or a Keras file"
_DEPLOYED = "converted for inference; give the original weights as a state_dict or a Keras file"
_GGUF = f"is a GGUF file, {_DEPLOYED}"
_TF_LITE = f"is a TensorFlow Lite file, {_DEPLOYED}"
_FLAX = (
    "is a msgpack file of Flax; save its arrays under torchvision's names with "
    "safetensors.numpy.save_file(arrays, 'weights.safetensors')"
)
_COMPRESSED = "is compressed; unpack it and give the file inside"
_WEB_PAGE = "is a web page; download the weight file itself"
_LFS = "is a Git LFS pointer; fetch the file itself with git lfs pull"
_ONE_ARRAY = "holds one NumPy array without a name; save all arrays with their names with numpy.savez"
_SHARDED = "is the index of a network in several files; save the network again as one file"
_SHARDS = "is a torch.distributed.checkpoint folder of several files; write one file with " + (
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth"
)
_DEEPSPEED = "is a DeepSpeed folder; write one file with its program zero_to_fp32.py"
_ORBAX = "is an Orbax folder; restore it with JAX and save its arrays under torchvision's names as safetensors"
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
    """Return the kind of a file, or None if neither content nor name tells.

    Raises `Refused` for a folder and for an unsupported format; the message says how to convert it.
    """
    path = Path(path)
    if path.is_dir():
        raise Refused(f"{path} {_of_folder(path)}")
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 8))
        tail = file.read(8)
    kind = _of_content(path, head)
    if kind is None and (foreign := _foreign(path.name, head, tail)):
        raise Refused(f"{path} {foreign}")
    return kind


def ending_of(path: Path, known: Sequence[str]) -> str | None:
    """Return which of the `known` extensions applies to a file: a plugin's by name, else by content, else by name.

    Raises `Refused` as `kind_of` does.
    """
    endings = sorted(known, key=len, reverse=True)
    named = next((ending for ending in endings if path.name.lower().endswith(ending.lower())), None)
    if named and named not in (*ENDINGS.values(), ".pt", ".bin", ".weights.h5"):
        return named
    kind = kind_of(path)
    return ENDINGS[kind] if kind and ENDINGS[kind] in known else named


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors by its content, or by its name if its content does not tell."""
    if path.suffix.lower() == ".safetensors":
        return kind_of(path) in ("safetensors", None)
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return _is_safetensors(file.read(9))


def _of_folder(folder: Path) -> str:
    for name, description in _IN_FOLDERS:
        if (folder / name).exists():
            return description
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
        return "torch"  # a pickle, of an older torch.save or of pickle itself
    return "safetensors" if _is_safetensors(head) else None


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _of_zip(path: Path, head: bytes) -> Kind | None:
    is_cut = False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        # The file is truncated: the list of names at its end is lost, but the first name is at its beginning.
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
    raise Refused(f"{path} is a zip archive of other files ({_some(names)}); unpack it and give the weight file")


def _of_tar(path: Path) -> Kind | None:
    try:
        with tarfile.open(path, "r:") as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError, EOFError):
        return None
    if {"pickle", "storages", "tensors"} <= set(names):
        return "torch"
    raise Refused(f"{path} is a tar archive of other files ({_some(names)}); unpack it and give the weight file")


def _foreign(name: str, head: bytes, tail: bytes) -> str | None:
    text = head.lstrip().lower()
    is_onnx = head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in _ONNX_SECOND_FIELDS and len(head) > 3
    signs = (
        *((head.startswith(beginning), description) for beginning, description in _BEGINNINGS),
        (head[4:8] == b"TFL3", _TF_LITE),
        (is_onnx, _ONNX),
        (tail == _TF_INDEX_END, _TF_CHECKPOINT),
        (text.startswith((b"<!doctype html", b"<html")), _WEB_PAGE),
        (text.startswith(b"{") and b'"weight_map"' in text, _SHARDED),
        *((re.search(pattern, name.lower()), description) for pattern, description in _NAMES),
    )
    return next((description for matches, description in signs if matches), None)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else "it is empty"


IMPORT = 4
"""Version of the import. Increase it when an import gives other tensors or notes, so that cached imports expire."""

_noted: ContextVar[list[str]] = ContextVar("_noted")


def note(sentence: str) -> None:
    """Note a choice of an import whose file is ambiguous; inside `noted`, it appears on the line of the case."""
    _noted.get([]).append(sentence)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the sentences that are noted inside the block."""
    sentences: list[str] = []
    token = _noted.set(sentences)
    try:
        yield sentences
    finally:
        _noted.reset(token)


def refuse_part(path: str, model: str, total: int, missing: Sequence[str], misfits: Sequence[str]) -> NoReturn:
    """Raise `Refused` for a file that lacks some of the `total` tensors that a model takes from a checkpoint.

    `misfits` describe tensors with a wrong shape or type: the found one and the expected one.
    """
    parts = [f"{len(missing)} of its {total} tensors are missing ({some(missing)})"] if missing else []
    parts += [f"{len(misfits)} of its {total} tensors do not fit ({some(misfits)})"] if misfits else []
    raise Refused(f"{path} holds only a part of {model}: {', '.join(parts)}; save the whole network again")


def some(names: Sequence[str], limit: int = 3) -> str:
    """Return the first names, and the number of the others.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
