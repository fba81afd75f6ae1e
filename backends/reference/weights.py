"""Weights in NumPy's file format: an `.npz` archive of arrays under canonical names, without pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from backends.reference.network import tiny_cnn
from harness.contract import Model
from harness.data.weight_files import refuse_part
from harness.errors import Refused

FORMATS: tuple[str, ...] = (".npz",)


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read an archive: tensors by canonical name, and the names without a place in the model."""
    layers, _ = model.build(np.float32)
    shapes = {variable.name: variable.array.shape for layer in layers for variable in layer.variables}
    arrays = read_npz(path)
    classifiers = (model.classifier, "head.")
    mapped = {name: array for name, array in arrays.items() if name in shapes or name.startswith(classifiers)}
    if not shapes.keys() & mapped.keys():
        raise Refused(f"{path} holds no tensor of {model.name}; name the file's own --model")
    if model.build is tiny_cnn:  # a user's changed network loads the tensors that fit
        _refuse_part(path, model, shapes, mapped)
    return mapped, tuple(name for name in arrays if name not in mapped)


def _refuse_part(
    path: str, model: Model, shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, NDArray[Any]]
) -> None:
    missing = [name for name in shapes if name not in found]
    wrong = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape
    ]
    if missing or wrong:
        refuse_part(path, model.name, len(shapes), missing, wrong)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write an archive."""
    write_npz(arrays, path)


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read every array of an archive. Raise `Refused` for any other file, also one with pickled objects."""
    try:
        with Path(path).open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise Refused(f"{path} is not a readable .npz archive of plain arrays ({error}); save it again") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise Refused(f"{path} holds {name}, which is not an array; save it again")
    return arrays


def write_npz(arrays: Mapping[str, NDArray[Any]], path: str | Path) -> None:
    """Write an archive that `numpy.load` reads."""
    with Path(path).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
