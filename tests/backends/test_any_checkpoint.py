"""PyTorch files made at random: the network's tensors, value for value, or one line with the file and a remedy."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("efficientnet_pytorch")

import torch
from safetensors.torch import save_file

from backends import pytorch
from harness.data.weight_files import noted
from harness.errors import Refused
from tests.backends.test_pytorch_files import HARMLESS, NARROW, PREFIXES, TYPES, WRAPPINGS, narrow

BACKBONE = [name for name in narrow() if name.startswith("features.") and not name.endswith("num_batches_tracked")]
REMEDY = re.compile(r"use |save |fetch |name the file's own --model|rename ")

FAULTS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "a tensor is missing": lambda state, name: state.__delitem__(name),
    "a tensor of another shape": lambda state, name: state.update({name: state[name][None]}),
    "a tensor of fewer rows": lambda state, name: state.update({name: state[name][1:]}),
    "a tensor of integers": lambda state, name: state.update({name: state[name].to(torch.int8)}),
    "a value that is not a number": lambda state, name: state.update({name: torch.full_like(state[name], torch.nan)}),
    "one more layer": lambda state, _: state.update({"features.3.conv.9.weight": torch.ones(8)}),
}
HEADS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "its own": dict,
    "none": lambda state: {n: t for n, t in state.items() if not n.startswith("classifier.")},
    "of other classes": lambda state: (
        state | {"classifier.1.weight": torch.ones(7, 1280), "classifier.1.bias": torch.ones(7)}
    ),
    "of two layers": lambda state: (
        {n: t for n, t in state.items() if not n.startswith("classifier.")}
        | {"classifier.1.0.weight": torch.ones(9, 1280), "classifier.1.2.weight": torch.ones(3, 9)}
    ),
}
ORDERS: dict[str, Callable[[list[str]], list[str]]] = {
    "as built": list,
    "reversed": lambda names: names[::-1],
    "sorted": sorted,
}
NAMINGS: dict[str, Callable[[str], str]] = {
    "by name": str,
    "by number": lambda name: name.replace("features.", "0.", 1).replace("classifier.", "1.", 1),
    "with a wrapper inside": lambda name: name.replace("features.3.", "features.3._orig_mod.", 1),
    "with two wrappers inside": lambda name: name.replace("features.", "features._fsdp_wrapped_module._flat.", 1),
}
FORMATS = ("zip", "legacy", "safetensors", "cut short")


PLAIN: dict[str, Any] = {
    "wrapping": "bare",
    "prefix": "",
    "kind": "float32",
    "head": "its own",
    "order": "as built",
    "naming": "by name",
    "counters": True,
    "beside": {},
    "averaged": "",
    "fault": "",
    "at": 0,
    "half": False,
    "format_": "zip",
}

FILES = st.fixed_dictionaries(
    {
        "wrapping": st.sampled_from(sorted(WRAPPINGS)),
        "prefix": st.sampled_from(PREFIXES),
        "kind": st.sampled_from(sorted(TYPES)),
        "head": st.sampled_from(sorted(HEADS)),
        "order": st.sampled_from(sorted(ORDERS)),
        "naming": st.sampled_from(sorted(NAMINGS)),
        "counters": st.booleans(),
        "beside": st.dictionaries(
            st.sampled_from(["args", "ema", "features", "module", "a.b", "0", "state"]),
            st.sampled_from(sorted(HARMLESS)),
            max_size=3,
        ),
        "averaged": st.sampled_from(["", "", "model_ema", "teacher.module", "swa"]),
        "fault": st.sampled_from(["", "", *FAULTS]),
        "at": st.integers(0, len(BACKBONE) - 1),
        "half": st.booleans(),
        "format_": st.sampled_from(FORMATS),
    }
)


def made(folder: Path, file: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Write the file; return its path and the state dict that it should give."""
    state = HEADS[file["head"]](dict(narrow()))
    if not file["counters"]:
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    if file["half"]:
        state |= {name: state[name].half() for name in BACKBONE[:5]}
    right = {n: t.float() if t.dtype == torch.float16 else t for n, t in state.items() if n.startswith("features.")}
    if file["fault"]:
        FAULTS[file["fault"]](state, BACKBONE[file["at"]])
    kind = TYPES[file["kind"]]
    if file["kind"] in ("float16", "bfloat16", "float64"):
        right = {n: t if t.dtype == torch.int64 else kind(t) for n, t in right.items()}
        right = {n: t if t.dtype in (torch.int64, torch.float64) else t.float() for n, t in right.items()}
    named = {
        file["prefix"] + NAMINGS[file["naming"]](n): state[n].clone()
        if state[n].dtype == torch.int8
        else kind(state[n])
        for n in ORDERS[file["order"]](list(state))
    }
    path = folder / "w.bin"
    if file["format_"] == "safetensors":
        save_file({name: torch.as_tensor(one).detach().contiguous() for name, one in named.items()}, path)
        return str(path), right
    content = {"wrapped": WRAPPINGS[file["wrapping"]](named)} | {
        key: HARMLESS[one] for key, one in file["beside"].items()
    }
    if file["averaged"] and not file["fault"]:
        content[file["averaged"]] = dict(narrow(1))
    torch.save(content, path, _use_new_zipfile_serialization=file["format_"] != "legacy")
    if file["format_"] == "cut short":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * (1 + file["at"]) // (len(BACKBONE) + 1)])
    return str(path), right


def judged(file: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path, right = made(Path(folder), file)
        try:
            with noted() as notes:
                arrays, unmapped = pytorch.import_weights(path, NARROW)
        except Refused as refusal:
            message = str(refusal)
            assert file["fault"] or file["format_"] == "cut short", message
            assert path in message and message.isprintable() and REMEDY.search(message), message
            return "refused"
    assert not file["fault"] and file["format_"] != "cut short"
    assert unmapped == ()
    assert {name for name in arrays if name.startswith("features.")} == set(right)
    for name, tensor in right.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), name)
    if file["averaged"] and file["format_"] != "safetensors":
        assert any("were loaded, not those in" in note for note in notes)
    return "read"


def test_a_file_gives_the_networks_tensors_or_one_line_with_a_remedy() -> None:
    outcomes = set()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @example(PLAIN)
    @example(PLAIN | {"fault": "a tensor is missing"})
    @given(FILES)
    def check(file: dict[str, Any]) -> None:
        outcomes.add(judged(file))

    check()
    assert outcomes == {"read", "refused"}
