"""What a file is, told by its content, and by its name where the content says nothing."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.data.weight_files import ending_of, is_safetensors, kind_of
from harness.errors import Refused

KNOWN = (".pth", ".pt", ".bin", ".safetensors", ".weights.h5", ".keras", ".h5", ".npz", ".mine")


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"content of a member, long enough to be cut")
    return file.getvalue()


def tarred(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


@pytest.mark.parametrize("name", ["w", "w.ckpt", "w.PTH", "w.tar", "w.onnx"])
@pytest.mark.parametrize(
    ("content", "kind", "ending"),
    [
        (zipped("archive/data.pkl", "archive/version"), "torch", ".pth"),
        (zipped("archive/data.pkl", "archive/version")[:60], "torch", ".pth"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch", ".pth"),
        (tarred("sys_info", "pickle", "storages", "tensors"), "torch", ".pth"),
        (SAFE, "safetensors", ".safetensors"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "hdf5", ".h5"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "keras", ".keras"),
        (zipped("a.npy", "b.npy"), "npz", ".npz"),
    ],
)
def test_the_content_tells_the_kind(tmp_path: Path, name: str, content: bytes, kind: str, ending: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind
    assert ending_of(tmp_path / name, KNOWN) == ending
    assert is_safetensors(tmp_path / name) == (kind == "safetensors")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.pt", zipped("model/data.pkl", "model/constants.pkl", "model/code/a.py"), "torch.jit.load(FILE)"),
        ("model.pt2", zipped("m/archive_format", "m/models/model.json"), "torch.export.load(FILE)"),
        ("old.pt2", zipped("serialized_exported_program.json"), "torch.export.load(FILE)"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "is an ONNX graph"),
        ("model.bin", b"\x08\x0a\x12\x07pytorch", "is an ONNX graph"),
        ("model.onnx", b"", "is an ONNX graph"),
        ("llm.bin", b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3", "is a TensorFlow Lite file"),
        ("lite", b"\x1c\x00\x00\x00TFL3", "is a TensorFlow Lite file"),
        ("net.mlmodel", b"\x99", "is a Core ML file"),
        ("net.engine", b"ftrt", "is a TensorRT file"),
        ("saved_model.pb", b"\x08\x01\x12\x10", "is a TensorFlow SavedModel"),
        ("flax_model.msgpack", b"\x82\xa6params", "is a msgpack file of Flax"),
        ("model.ckpt-100.data-00000-of-00001", b"\x00" * 9, "is part of a TensorFlow checkpoint"),
        ("model.ckpt", b"\x00" * 40 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "is part of a TensorFlow checkpoint"),
        ("w.pth.gz", gzip.compress(b"x", mtime=0), "is compressed; unpack it"),
        ("w.pth", b"\n<!DOCTYPE html><html>404", "is a web page"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("w.npy", b"\x93NUMPY\x01", "holds one NumPy array"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "is the index of a network in several files"),
        ("best.zip", zipped("run/best.pth", "run/log.txt"), "(run/best.pth, run/log.txt); unpack it"),
        ("best.tar", tarred("run/best.pth"), "is a tar archive of other files (run/best.pth)"),
    ],
)
def test_a_foreign_format_is_refused_with_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused) as caught:
        kind_of(tmp_path / name)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("saved_model.pb", "is a TensorFlow SavedModel"),
        (".metadata", "dcp_to_torch"),
        ("zero_to_fp32.py", "is a DeepSpeed folder"),
        ("_METADATA", "is an Orbax folder"),
        ("model.ckpt.index", "is the folder of a TensorFlow checkpoint"),
        ("data.pkl", "is an unpacked PyTorch file"),
        ("model.safetensors", "give a file in it, such as model.safetensors"),
        ("notes.txt", "is a folder; give a file in it"),
    ],
)
def test_a_folder_is_refused_with_what_it_is(tmp_path: Path, inside: str, said: str) -> None:
    (tmp_path / inside).touch()
    with pytest.raises(Refused) as caught:
        kind_of(tmp_path)
    assert said in str(caught.value)


def test_a_name_decides_where_the_content_says_nothing_and_a_plugins_own_always(tmp_path: Path) -> None:
    for name, content, ending in (
        ("w.PTH", b"text", ".pth"),
        ("w.weights.h5", b"", ".weights.h5"),
        ("w.unknown", b"text", None),
        ("w.pt", b"PK\x03\x04 cut short", ".pt"),
        ("w.mine", SAFE, ".mine"),
    ):
        (tmp_path / name).write_bytes(content)
        assert ending_of(tmp_path / name, KNOWN) == ending
