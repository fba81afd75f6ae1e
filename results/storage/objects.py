"""Content-addressed files beside the runs: `objects/ab/<sha256>.json` and `.npz`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import Refused
from results.storage.folder import write_below


def put_json(results_dir: str | Path, value: Any) -> str:
    """Store a JSON value with sorted keys and return its SHA-256. Raises `Unwritable`."""
    return _put(Path(results_dir), msgspec.json.encode(value, order="deterministic"), ".json")


def put_arrays(results_dir: str | Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Store named arrays as one `.npz` and return its SHA-256. Raises `Unwritable`."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return _put(Path(results_dir), buffer.getvalue(), ".npz")


def get_json(results_dir: str | Path, sha256: str) -> Any:
    """Read a value that `put_json` stored. Raises `Refused` if it is missing or was changed."""
    return msgspec.json.decode(_get(Path(results_dir), sha256, ".json"))


def get_arrays(results_dir: str | Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Read arrays that `put_arrays` stored. Raises `Refused` if they are missing or were changed."""
    with np.load(io.BytesIO(_get(Path(results_dir), sha256, ".npz")), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _put(results_dir: Path, content: bytes, ending: str) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    target = _place(results_dir, sha256, ending)
    if not target.exists():
        write_below(results_dir, target, content)
    return sha256


def _get(results_dir: Path, sha256: str, ending: str) -> bytes:
    path = _place(results_dir, sha256, ending)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise Refused(f"{path} is missing; copy the whole objects folder along with the runs") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused(f"{path} was changed after it was written (its SHA-256 differs); restore it from a copy")
    return content


def _place(results_dir: Path, sha256: str, ending: str) -> Path:
    return results_dir / "objects" / sha256[:2] / f"{sha256}{ending}"
