"""The requirements of a case on this machine, and torch's global settings, which are set before a network is built."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.process.environment import bound_to_cores
from harness.spec import Case


def missing_package() -> str | None:
    """Return a sentence that names a missing package and how to install it, or None. Imports nothing."""
    for module in ("torch", "torchvision", "efficientnet_pytorch"):
        if importlib.util.find_spec(module) is None:
            return f"{module.replace('_', '-')} is not installed; pip install 'finetune-bench[torch]'"
    return None


def load_openmp() -> None:
    """Load torch's GNU OpenMP, if it has one, while this process may use every core.

    OpenMP counts the cores when it is loaded; more threads than that sleep between operations. With EfficientNet-B0, an
    evaluation with such threads is slower than with one thread.
    """
    found = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return
    package = Path(found.origin).parent
    with bound_to_cores(range(os.cpu_count() or 1)):
        for library in (*package.glob("lib/libgomp*"), *package.parent.glob("torch.libs/libgomp*")):
            ctypes.CDLL(str(library))


def decline(case: Case) -> str | None:
    """Return why torch cannot run this case here, or None."""
    import torch

    cuda = torch.cuda.is_available()
    if case.device == "cuda" and not cuda:
        built = torch.version.cuda or "no CUDA"
        return f"torch {torch.__version__} (built for {built}) finds no CUDA device"
    on_cuda = cuda and case.device != "cpu"
    checks = _no_processes, _no_own_rule, _no_arithmetic, _no_decoder, _no_compiler
    return next((reason for check in checks if (reason := check(case, on_cuda))), None)


def _no_processes(case: Case, on_cuda: bool) -> str | None:
    """Return why a case cannot have a process for each of its devices."""
    import torch

    if case.devices == 1:
        return None
    if not torch.distributed.is_available():
        return "this build of torch has no torch.distributed; leave out --devices"
    if on_cuda and (gpus := torch.cuda.device_count()) < case.devices:
        return f"torch finds {gpus} CUDA devices, not {case.devices}; use --devices {gpus} or less"
    return None


def _no_own_rule(case: Case, on_cuda: bool) -> str | None:
    own = case.own_optimizer and not case.idiom
    return "torch's own rule is the matched one; leave out --optimizer-rule own" if own else None


def _no_arithmetic(case: Case, on_cuda: bool) -> str | None:
    name, has = _HARDWARE.get(case.precision, ("", None))
    if has is None or has(on_cuda):
        return None
    return f"this {'GPU' if on_cuda else 'CPU'} has no {name} arithmetic that torch can use"


def _has_tf32(on_cuda: bool) -> bool:
    import torch

    return on_cuda and torch.cuda.get_device_capability() >= (8, 0)


def _has_bf16(on_cuda: bool) -> bool:
    import torch

    if on_cuda:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_fp16(on_cuda: bool) -> bool:
    import torch

    return on_cuda or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


_HARDWARE: Mapping[str, tuple[str, Callable[[bool], bool] | None]] = {
    "tf32": ("TF32", _has_tf32),
    "bf16": ("bfloat16", _has_bf16),
    "fp16": ("float16", _has_fp16),
}
"""The name of a precision, and whether a CUDA device, or this CPU, computes in it."""


def _no_decoder(case: Case, on_cuda: bool) -> str | None:
    if case.decoder == "pillow":
        return None
    if case.input != "native":
        return f"files are decoded in training only with --input native; leave out --decoder {case.decoder}"
    missing = importlib.util.find_spec(case.decoder) is None
    return f"{case.decoder} is not installed; pip install {case.decoder}" if missing else None


def _no_compiler(case: Case, on_cuda: bool) -> str | None:
    if not case.compile:
        return None
    if case.compile_mode == "reduce-overhead" and not on_cuda:
        return "CUDA graphs need a CUDA device; leave out --compile-mode reduce-overhead"
    if on_cuda and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on CUDA, and it is not installed"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        return "torch.compile needs a C++ compiler (g++ or clang++, or CXX)"
    if not on_cuda and not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "torch.compile needs Python's headers (Python.h)"
    return None


def configure(case: Case) -> None:
    """Set the thread counts, and in matched mode every setting that changes numbers or speed (V32)."""
    import torch

    torch.set_num_threads(case.threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    tf32 = case.precision == "tf32"
    if tf32 or not case.idiom:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
    if not case.idiom:
        torch.backends.cudnn.benchmark = True  # one shape per stage; TensorFlow autotunes too


@contextmanager
def denormals_flushed(wanted: bool) -> Iterator[None]:
    """Flush denormals to zero or keep them in the block, on this thread and threads it starts; then restore the mode.

    TensorFlow's kernels always flush them (V38). The mode is restored because it also affects NumPy in this process.
    """
    import torch

    before = _flushes_denormals()
    torch.set_flush_denormal(wanted)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_denormals() -> bool:
    # torch cannot report the mode, so test a product below the smallest normal float32.
    import torch

    return not (torch.full((1,), 1.2e-38) * 0.1).view(torch.int32).item()


def uses_tf32() -> bool:
    """Return whether matrix products and convolutions of float32 use TF32, on a GPU that has it."""
    import torch

    return bool(torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32)


def settings_read_back() -> dict[str, str | int | float | bool]:
    """Return the settings that torch reports now."""
    import torch

    return {
        "interop_threads": torch.get_num_interop_threads(),
        "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
        "tf32_convolution": bool(torch.backends.cudnn.allow_tf32),
        "tf32_matmul": bool(torch.backends.cuda.matmul.allow_tf32),
        "flush_denormals": _flushes_denormals(),
    }
