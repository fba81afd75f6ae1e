"""The requirements of a case on this machine and on Keras."""

from __future__ import annotations

import importlib.util

from harness.running.evaluate import BATCH_SIZE as EVALUATION_BATCH
from harness.spec import Case

ENGINES: tuple[str, ...] = ("tensorflow", "jax", "torch")


def missing_package(engine: str) -> str | None:
    """Return a sentence that names a missing package and how to install it, or None. Imports nothing."""
    extra = "jax" if engine == "jax" else "tensorflow"
    for module in ("keras", "h5py", engine):
        if importlib.util.find_spec(module) is None:
            wanted = "pip install torch" if module == "torch" else f"pip install 'finetune-bench[{extra}]'"
            return f"{module} is not installed; {wanted}"
    return None


def decline(case: Case) -> str | None:
    """Return why Keras cannot run this case here, or None. Imports Keras on the case's engine."""
    from backends.keras3 import engine

    name = running(case)
    device = engine.find_device(case.device)
    if device is None:
        return f"{name} finds no CUDA device"
    if case.layout == "channels-first" and name == "tensorflow" and device.kind == "cpu":
        return "TensorFlow has no channels-first convolutions on a CPU; use --layout channels-last"
    lacking = {
        "Keras does not scale the loss here, which fp16 needs; use --precision bf16": case.precision == "fp16",
        "a CPU has no TF32; use --precision bf16": case.precision == "tf32" and device.kind == "cpu",
        "Keras' engines have no modes of compilation; leave out --compile-mode": case.compile_mode != "default",
        "images are decoded by the harness or TensorFlow; leave out --decoder": case.decoder != "pillow",
        "Keras' optimizers have no choice of kernels; leave out --fused": case.fused,
        "batch norms are folded in PyTorch only; leave out --fold-norms": case.fold_norms,
        "Keras on torch runs eagerly; use --engine tensorflow or jax to compile": case.compile and name == "torch",
    }
    if reason := next((reason for reason, asked in lacking.items() if asked), None):
        return reason
    if case.input == "native" and name != "tensorflow":
        return f"Keras' native pipeline is tf.data, which needs --engine tensorflow, not {name}"
    return _several(case, device.kind) if case.devices > 1 else _idiom(case)


def _several(case: Case, kind: str) -> str | None:
    from backends.keras3.parallel import devices

    name = running(case)
    if name == "torch":
        return "Keras on torch is measured on one device here; use --engine tensorflow or jax, or leave out --devices"
    if case.norm_scope == "device":
        return "batch norm in Keras uses the whole batch here; use --backend pytorch with --norm-scope device"
    if name == "jax" and EVALUATION_BATCH % case.devices:
        return (
            f"batches of {EVALUATION_BATCH} images are evaluated on all devices; use 2, 4, 8, 16 or {EVALUATION_BATCH}"
        )
    if kind == "cpu" and (reason := devices.divide_processor(case.devices)):
        return reason
    found = devices.count_devices(kind)
    return f"Keras on {name} finds {found} devices, not {case.devices}" if found < case.devices else None


def running(case: Case) -> str:
    """Return Keras' engine in this process. Raise RuntimeError if it is not the one of the case."""
    import keras

    wanted, name = case.engine or ENGINES[0], str(keras.backend.backend())
    if name != wanted:
        raise RuntimeError(f"Keras runs on {name}, not {wanted}; KERAS_BACKEND must be set before it is imported")
    return name


def _idiom(case: Case) -> str | None:
    import keras

    for stage in case.scenario.stages:
        if case.idiom and stage.norm == "frozen" and stage.frozen != "backbone":
            return "Keras cannot train a layer with its batch norm in inference mode; leave out --native-defaults"
        two_rates = stage.head_lr != stage.backbone_lr and stage.frozen != "backbone"
        if case.own_optimizer and two_rates and not hasattr(keras.optimizers, "MultiOptimizer"):
            return (
                f"Keras {keras.__version__} has no MultiOptimizer for two learning rates; use --optimizer-rule matched"
            )
    return None
