"""The neutral checkpoint: one safetensors file with canonical names and layout, and its metadata."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from harness.errors import Refused
from harness.whole_files import written_whole


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs are (pixel / 255 - mean) / std, per RGB channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NORMALISATIONS = {
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "minus-one-to-one": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "zero-to-one": Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published weight file for one model, in a format that the model's backend imports.

    Raises ValueError for a digest that is not 8 to 64 hexadecimal digits, and for an address without a file name.
    """

    url: str
    sha256: str = ""
    """The SHA-256 of the publisher or its first digits; empty if the publisher gives none."""
    normalisation: Normalisation
    classes: tuple[str, ...] = ()
    """Class names of the file's classifier, in the order of its rows."""

    def __post_init__(self) -> None:
        """Check the address and the digest."""
        if not re.fullmatch("([0-9a-f]{8,64})?", self.sha256):
            raise ValueError(f"{self.url}: the SHA-256 {self.sha256!r} is not 8 to 64 lower-case hexadecimal digits")
        if not self.file_name:
            raise ValueError(f"{self.url!r} has no file name; give the address of a file")

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a checkpoint. `sha256` is over names, shapes, types and values of its tensors."""

    model: str
    normalisation: Normalisation
    origin: str
    sha256: str
    classes: tuple[str, ...] = ()
    head: str = ""
    image_size: int | None = None
    recipe: dict[str, Any] = {}
    unmapped: tuple[str, ...] = ()
    """Names in the imported file that have no place in the model."""
    notes: tuple[str, ...] = ()
    """Choices that the import made where the file was ambiguous, one sentence each."""


class Bare(Refused):
    """A valid safetensors file of another project, without our metadata: it has to be imported."""


class Checkpoint(NamedTuple):
    """Metadata and tensors by canonical name."""

    meta: CheckpointMeta
    arrays: dict[str, NDArray[Any]]


def tensors_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a SHA-256 over the tensors, independent of their order in a file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_checkpoint(path: str | Path, arrays: Mapping[str, NDArray[Any]], **facts: Any) -> CheckpointMeta:
    """Write a neutral checkpoint atomically; `facts` are the fields of CheckpointMeta except `sha256`."""
    path = Path(path)
    meta = CheckpointMeta(sha256=tensors_digest(arrays), **facts)
    tensors = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with written_whole(path) as partial:
        save_file(tensors, partial, metadata={"finetune-bench": msgspec.json.encode(meta).decode()})
    return meta


def read_meta(path: str | Path) -> CheckpointMeta:
    """Return the metadata without reading tensors. Raise `Bare` if there is none, `Refused` for an unreadable file."""
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("finetune-bench")
    except (SafetensorError, OSError) as error:
        raise Refused(f"{path} is not a readable safetensors file ({error}); import the original again") from error
    if text is None:
        raise Bare(f"{path} has no finetune-bench metadata; import it with --checkpoint FILE --input-scaling NAME")
    try:
        return msgspec.json.decode(text, type=CheckpointMeta)
    except msgspec.MsgspecError as error:
        raise Refused(f"{path} has invalid metadata ({error}); import the original again") from error


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a neutral checkpoint, with float16 values converted to float32.

    Raises `Refused` if the tensors do not match their digest or are not finite.
    """
    meta = read_meta(path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if tensors_digest(arrays) != meta.sha256:
        raise Refused(f"{path} was changed after it was written (its SHA-256 differs); import the original again")
    refuse_not_finite(path, arrays)
    widened = {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()}
    return Checkpoint(meta, widened)


def refuse_not_finite(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise `Refused` with the name of a tensor that holds a NaN or an infinity."""
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise Refused(f"{path}: {name} has values that are not finite; use weights from before training diverged")
