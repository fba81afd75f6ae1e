"""What this machine and environment are. The key is what the machine *is*, not its host name."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from harness.process.gpu import gpu_names


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Processor, usable cores, memory and accelerators."""

    cpu: str
    cores: int
    memory_gib: int
    gpus: tuple[str, ...]
    architecture: str

    @property
    def key(self) -> str:
        """Twelve hex digits, equal for equal machines."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    def device_kind(self, wanted: str) -> str:
        """The kind of device that a case on `wanted` uses here: `auto` takes a GPU where there is one."""
        return wanted if wanted != "auto" else "cuda" if self.gpus else "cpu"


def describe_machine() -> Machine:
    """Look at the machine; takes milliseconds, more where there is an NVIDIA driver to ask."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(usable_cores()),
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        gpus=gpu_names(),
        architecture=platform.machine(),
    )


def usable_cores() -> list[int]:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def measuring_threads() -> int:
    """Default threads of a measured worker on a CPU: one core is left to everything else."""
    return max(1, len(usable_cores()) - 1)


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Installed versions, of Python and of the distributions named; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in (*distributions, "numpy", "finetune-bench"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


INSTRUCTION_SETS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that forbid oneDNN (also TensorFlow's) and torch the newest instructions of the processor."""


def environment() -> dict[str, str]:
    """Operating system, C library, and limits on the instruction set: facts that package versions leave out."""
    return {
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        **{name: os.environ[name] for name in INSTRUCTION_SETS if name in os.environ},
    }


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text(errors="replace").strip() if file.exists() else ""
