"""Keras files made at random: the network's tensors, value for value, or one line with the file and a remedy.

One process (this file as a program) makes and reads all of them.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends import keras3
from backends.keras3.models import mobilenet_v2, undrawn
from benchmarks.preparing.embedded_networks import SHIPPED
from harness.data.checkpoint import read_checkpoint
from harness.errors import Refused
from tests.backends.programs import answered

MODEL = keras3.MODELS["mobilenet-v2-0.35"]
ENGINE = "jax" if find_spec("jax") else "tensorflow"
pytestmark = pytest.mark.skipif(not find_spec("keras") or not find_spec(ENGINE), reason="keras is not installed")
REMEDY = re.compile(r"use |save |fetch |name its own --model")
KERNEL = re.compile(r"(depthwise_|conv2d|block|Conv).*(vars/0|kernel(:0)?)$")

Change = Callable[[Any, str], None]
"""Changes an open HDF5 file; the name is that of a convolution's kernel in it."""


def _replaced(file: Any, name: str, values: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values)
    file[name].attrs.update(attributes)


def _group_instead(file: Any, name: str) -> None:
    del file[name]
    file.create_group(name)


def _dataset_instead(file: Any, name: str) -> None:
    group = name.rpartition("/")[0]
    del file[group]
    file.create_dataset(group, data=np.float32(1))


FAULTS: dict[str, Change] = {
    "a tensor is missing": lambda file, name: file.__delitem__(name),
    "a tensor of another shape": lambda file, name: _replaced(file, name, file[name][()][None]),
    "a tensor of fewer rows": lambda file, name: _replaced(file, name, file[name][()][..., 1:, :]),
    "a tensor of integers": lambda file, name: _replaced(file, name, file[name][()].astype(np.int8)),
    "a tensor of texts": lambda file, name: _replaced(file, name, np.full(file[name].shape, b"0.5")),
    "an empty tensor": lambda file, name: _replaced(file, name, np.zeros(0, np.float32)),
    "a value that is not a number": lambda file, name: file[name].__setitem__(..., np.nan),
    "an infinite value": lambda file, name: file[name].__setitem__((0, 0), np.inf),
    "a group instead of a tensor": _group_instead,
    "a tensor instead of a group": _dataset_instead,
}
KINDS: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
    "big-endian": np.dtype(">f4"),
}
BESIDE: dict[str, Callable[[Any], Any]] = {
    "optimizer": lambda file: file.create_dataset("optimizer/vars/0", data=np.float32(0.001)),
    "metrics": lambda file: file.create_dataset("metrics/mean/vars/0", data=np.ones(3, np.float32)),
    "a text": lambda file: file.create_dataset("notes", data="trained on a Tuesday"),
    "nothing in it": lambda file: file.create_group("callbacks/history"),
    "a table": lambda file: file.create_dataset("log", data=np.zeros(2, dtype=[("epoch", "i4"), ("loss", "f4")])),
    "a dangling link": lambda file: file.__setitem__("best", _soft_link("nowhere")),
}


def _soft_link(target: str) -> Any:
    import h5py

    return h5py.SoftLink(target)


PLAIN: dict[str, Any] = {
    "content": "backbone",
    "ending": ".weights.h5",
    "kind": "float32",
    "packed": False,
    "beside": frozenset(),
    "fault": "",
    "at": 0,
    "damage": "",
}
FILES = st.fixed_dictionaries(
    {
        "content": st.sampled_from(["backbone", "classifier", "head"]),
        "ending": st.sampled_from(keras3.FORMATS),
        "kind": st.sampled_from(sorted(KINDS)),
        "packed": st.booleans(),
        "beside": st.frozensets(st.sampled_from(sorted(BESIDE)), max_size=3),
        "fault": st.sampled_from(["", "", *FAULTS]),
        "at": st.integers(0, 1000),
        "damage": st.sampled_from(["", "", "", "cut short", "a changed byte", "bytes before", "text"]),
    }
)


@cache
def _arrays() -> dict[str, Any]:
    names = {row.name for row in mobilenet_v2.WEIGHT_MAP}
    return {
        name: array
        for name, array in read_checkpoint(SHIPPED / f"{MODEL.name}.safetensors").arrays.items()
        if name in names
    }


@cache
def _whole(content: str, ending: str) -> bytes:
    arrays = dict(_arrays())
    if content != "backbone":
        prefix = MODEL.classifier if content == "classifier" else "head."
        arrays |= {f"{prefix}weight": np.ones((5, 1280), np.float32), f"{prefix}bias": np.ones(5, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"whole{ending}"
        with undrawn():
            keras3.export_weights(arrays, MODEL, str(path))
        return path.read_bytes()


def _changed(whole: bytes, file: dict[str, Any]) -> bytes:
    import h5py

    memory = io.BytesIO(whole)
    with h5py.File(memory, "a") as h5:
        names: list[str] = []
        h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        kernels = [name for name in names if len(h5[name].shape) == 4 and KERNEL.search(name)]
        for name in names:
            if file["kind"] != "float32" and h5[name].dtype == np.float32:
                _replaced(h5, name, h5[name][()].astype(KINDS[file["kind"]]))
            if file["packed"] and h5[name].ndim:
                values, attributes = h5[name][()], dict(h5[name].attrs)
                del h5[name]
                h5.create_dataset(name, data=values, compression="gzip")
                h5[name].attrs.update(attributes)
        for one in sorted(file["beside"]):
            BESIDE[one](h5)
        if file["fault"]:
            FAULTS[file["fault"]](h5, kernels[file["at"] % len(kernels)])
    return memory.getvalue()


def _damaged(content: bytes, damage: str, at: int) -> bytes:
    place = len(content) * at // 1001
    if damage == "cut short":
        return content[:place]
    if damage == "a changed byte":
        return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
    if damage == "bytes before":
        return b"\x00" * (at + 1) + content
    return b"<!DOCTYPE html><title>404</title>" if damage == "text" else content


def made(path: Path, file: dict[str, Any]) -> None:
    """Write the file."""
    whole = _whole(file["content"], file["ending"])
    if file["ending"] == ".keras":
        memory = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(memory, "w") as new:
            for name in old.namelist():
                inner = old.read(name)
                new.writestr(name, _changed(inner, file) if name.endswith(".h5") else inner)
        content = memory.getvalue()
    else:
        content = _changed(whole, file)
    path.write_bytes(_damaged(content, file["damage"], file["at"]))


def judged(folder: Path, file: dict[str, Any]) -> str:
    """Read the file; return whether it was read or refused, after a look at the arrays or the message."""
    path = folder / f"w{file['ending']}"
    made(path, file)
    try:
        arrays, unmapped = keras3.import_weights(str(path), MODEL)
    except Refused as refusal:
        message = str(refusal)
        assert file["fault"] or file["damage"], message
        assert str(path) in message and message.isprintable() and REMEDY.search(message), message
        return "refused"
    right = _arrays()
    assert {name: array.shape for name, array in arrays.items() if name in right} == {
        n: a.shape for n, a in right.items()
    }
    assert all(np.isfinite(array).all() for array in arrays.values())
    if not file["damage"]:  # these bytes have no check sum, so a changed one may be a value
        assert not file["fault"], file
        for name, array in right.items():
            np.testing.assert_array_equal(arrays[name], array, name)  # the network is stored in half precision
        assert {name.partition("/")[0] for name in unmapped} <= {"metrics", "notes", "log", "mean"}, unmapped
    return "read"


@cache
def outcomes() -> dict[str, Any]:
    return answered(__file__, ENGINE, "30")


def test_a_file_gives_the_networks_tensors_or_one_line_with_a_remedy() -> None:
    assert outcomes() == {"outcomes": ["read", "refused"]}


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
    found: set[str] = set()

    @settings(
        max_examples=int(sys.argv[1]),
        deadline=None,  # as a program, without the profile of tests/conftest.py
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @example(PLAIN)
    @example(PLAIN | {"fault": "a tensor is missing"})
    @example(PLAIN | {"fault": "a group instead of a tensor", "ending": ".h5"})
    @example(PLAIN | {"fault": "a tensor instead of a group", "ending": ".h5"})
    @given(FILES)
    def check(file: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found.add(judged(Path(folder), file))

    check()
    print(json.dumps({"outcomes": sorted(found)}))  # noqa: T201
