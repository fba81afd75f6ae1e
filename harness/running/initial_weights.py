"""The initial weights: the same arrays in every backend, computed from (seed, tensor name) only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Iterable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.contract import Model, Tensor
from harness.data.checkpoint import Checkpoint
from harness.data.weight_files import some

HEAD_LAYERS = {"linear": ("head",), "mlp": ("head.0", "head.1", "head.2")}
MLP_WIDTHS = (128, 64)
MLP_DROPOUT = 0.25
COUNTER = "num_batches_tracked"


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a checkpoint's tensors, by name. `mismatched` holds (name, expected shape, found shape).

    `unexpected` are the tensors without a place in the network, also those that an import left out.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    classifier: tuple[str, ...] = ()
    """The original classifier: not part of the backbone, replaced by the new head."""
    reused_classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Choices that the import of the checkpoint made where its file was ambiguous."""

    @property
    def complete(self) -> bool:
        """Whether every backbone tensor was loaded and no tensor was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def sentence(self) -> str:
        """Return the report as one line."""
        if self.complete:
            return f"{len(self.loaded)} tensors loaded"
        parts = [f"{len(self.loaded)} loaded"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({some(self.missing, 4)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected ({some(self.unexpected, 4)})")
        if self.mismatched:
            shapes = [f"{name} {list(found)} instead of {list(want)}" for name, want, found in self.mismatched]
            parts.append(f"{len(shapes)} of another shape ({some(shapes, 4)})")
        return ", ".join(parts)


def random_arrays(
    state: Iterable[Tensor], rule: str, seed: int, without: Container[str] = ()
) -> dict[str, NDArray[Any]]:
    """Draw values for every tensor of a network, by its role and the architecture's rule, but for those in `without`.

    `kaiming-normal-fan-out` is torchvision's rule for ResNet and MobileNetV2 (biases 0). `torch-default` is the rule of
    torch.nn.Linear and Conv2d: uniform within 1 / sqrt(fan in), also for biases.
    """
    fan_in = 1
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in state:
        shape = tensor.array.shape
        if tensor.role == "weight":
            fan_in = math.prod(shape[1:])
        if tensor.name in without:
            continue
        draw = _generator(seed, tensor.name)
        if tensor.role == "weight":
            fan_out = shape[0] * math.prod(shape[2:])
            if rule == "torch-default" or len(shape) == 2:
                value = draw.uniform(-1, 1, shape) / math.sqrt(fan_in)
            else:
                value = draw.standard_normal(shape) * math.sqrt(2.0 / fan_out)
        elif tensor.role == "bias":
            bound = 1 / math.sqrt(fan_in) if rule == "torch-default" else 0.0
            value = draw.uniform(-1, 1, shape) * bound
        else:
            value = np.full(shape, 1.0 if tensor.role in ("norm_scale", "norm_var") else 0.0)
        # Rounded to float32, so that a float64 network starts with the values of its float32 twin.
        arrays[tensor.name] = value.astype(np.float32).astype(tensor.array.dtype)
    return arrays


def head_arrays(
    kind: Literal["linear", "mlp"], features: int, classes: int, init: Literal["default", "xavier"], seed: int
) -> dict[str, NDArray[np.float32]]:
    """Draw the initial values of the new head: weights [out, in] and biases.

    `linear` uses torch.nn.Linear's default (uniform within 1 / sqrt(features), also for the bias) or Xavier (Glorot
    uniform, bias 0). `mlp` uses He normal, He normal, Glorot uniform, biases 0.
    """
    widths = (features, *(MLP_WIDTHS if kind == "mlp" else ()), classes)
    arrays: dict[str, NDArray[np.float32]] = {}
    for layer, fan_in, fan_out in zip(HEAD_LAYERS[kind], widths[:-1], widths[1:], strict=True):
        draw = _generator(seed, layer)
        last = fan_out == classes and layer == HEAD_LAYERS[kind][-1]
        bias = np.zeros(fan_out)
        if kind == "mlp" and not last:
            weight = draw.standard_normal((fan_out, fan_in)) * math.sqrt(2 / fan_in)
        elif kind == "mlp" or init == "xavier":
            weight = draw.uniform(-1, 1, (fan_out, fan_in)) * math.sqrt(6 / (fan_in + fan_out))
        else:
            weight = draw.uniform(-1, 1, (fan_out, fan_in)) / math.sqrt(fan_in)
            bias = draw.uniform(-1, 1, fan_out) / math.sqrt(fan_in)
        arrays[f"{layer}.weight"] = weight.astype(np.float32)
        arrays[f"{layer}.bias"] = bias.astype(np.float32)
    return arrays


def overlay(
    start: dict[str, NDArray[Any]], model: Model, checkpoint: Checkpoint, reuse_for: tuple[str, ...] = ()
) -> LoadReport:
    """Copy a checkpoint's tensors into `start`, in place, and report the use of each tensor.

    `reuse_for` are the new classes, in order: where class names match, rows of the original linear classifier are
    copied into the new linear head.
    """
    head = {name for name in start if name.startswith("head.")}
    report: dict[str, list[Any]] = {k: [] for k in ("loaded", "missing", "unexpected", "mismatched", "classifier")}
    for name, value in checkpoint.arrays.items():
        if name.startswith((model.classifier, "head.")):
            report["classifier"].append(name)
        elif name.endswith(COUNTER) and name not in start:
            continue  # only torch counts batches, and no result depends on the counter
        elif name not in start or name in head:
            report["unexpected"].append(name)
        elif start[name].shape != value.shape:
            report["mismatched"].append((name, start[name].shape, value.shape))
        else:
            start[name] = value.astype(start[name].dtype)
            report["loaded"].append(name)
    report["unexpected"].extend(checkpoint.meta.unmapped)
    counters = {name for name in start if name.endswith(COUNTER)}
    report["missing"] = [n for n in start if n not in checkpoint.arrays and n not in head and n not in counters]
    reused = _reuse_rows(start, model, checkpoint, reuse_for)
    found = {k: tuple(v) for k, v in report.items()}
    return LoadReport(**found, reused_classes=reused, notes=checkpoint.meta.notes)


def _reuse_rows(
    start: dict[str, NDArray[Any]], model: Model, checkpoint: Checkpoint, classes: tuple[str, ...]
) -> tuple[str, ...]:
    prefix = "head." if "head.weight" in checkpoint.arrays else model.classifier
    weight, bias = (checkpoint.arrays.get(f"{prefix}{end}") for end in ("weight", "bias"))
    if weight is None or "head.weight" not in start or weight.shape[1:] != start["head.weight"].shape[1:]:
        return ()
    source = {name: row for row, name in enumerate(checkpoint.meta.classes)}
    matched = tuple(name for name in classes if name in source)
    for name in matched:
        start["head.weight"][classes.index(name)] = weight[source[name]]
        if bias is not None:
            start["head.bias"][classes.index(name)] = bias[source[name]]
    return matched


def _generator(seed: int, name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))
