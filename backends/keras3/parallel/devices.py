"""The number of devices that share a batch: JAX's `DataParallel`, or TensorFlow's `MirroredStrategy`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import keras


def distribute(kind: str, devices: int) -> Any:
    """Divide each batch between a number of devices; return the strategy of TensorFlow, which models are built in."""
    engine = keras.backend.backend()
    if engine == "tensorflow" and devices > 1:
        return mirrored().strategy(kind, devices)
    if engine == "jax":
        distribution = None
        if devices > 1:
            names = keras.distribution.list_devices("gpu" if kind == "cuda" else "cpu")[:devices]
            distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        keras.distribution.set_distribution(distribution)  # XLA computes the sums over a batch across devices
    return None


def divide_processor(devices: int) -> str | None:
    """Divide the CPU into this number of devices, before the engine's first computation; return why it cannot be."""
    if keras.backend.backend() == "tensorflow":
        reason: str | None = mirrored().divide_processor(devices)
        return reason
    jax = import_module("jax")
    if jax.config.jax_num_cpu_devices == devices:
        return None
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return f"JAX runs in this process already, so that it cannot have {devices} devices"
    return None


def count_devices(kind: str) -> int:
    """Return the number of devices of this kind, `cpu` or `cuda`, that the engine has."""
    if keras.backend.backend() == "tensorflow":
        return int(mirrored().count_devices(kind))
    return len(keras.distribution.list_devices("gpu" if kind == "cuda" else "cpu"))


def data_parallel() -> int:
    """Return the number of devices of JAX that share a batch; 1 on another engine."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)


def mirrored() -> Any:
    """Return `backends.keras3.parallel.mirrored`, which imports TensorFlow: no other engine's worker may start it."""
    return import_module(f"{__package__}.mirrored")


def several() -> Any:
    """Return `backends.keras3.parallel.mirrored` if the step that is traced is of one of several devices, else None."""
    module = sys.modules.get(f"{__package__}.mirrored")
    return module if module and module.replicas() > 1 else None
