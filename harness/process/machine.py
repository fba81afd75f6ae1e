"""Description of this machine and its environment. The key depends on the hardware, not on the host name."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

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
        """Twelve hexadecimal digits, equal for equal machines."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    def device_kind(self, wanted: str) -> str:
        """Return the kind of device for a case with device `wanted`: `auto` takes a GPU if there is one."""
        return wanted if wanted != "auto" else "cuda" if self.gpus else "cpu"


def describe_machine() -> Machine:
    """Describe the machine; takes milliseconds, more with an NVIDIA driver."""
    import psutil  # here, because it is a twelfth of a worker's start and few workers need it

    return Machine(
        cpu=_cpu_name(),
        cores=len(usable_cores()),
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        gpus=gpu_names(),
        architecture=platform.machine(),
    )


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def measuring_threads() -> int:
    """Return the default thread count of a measured worker on a CPU, which leaves one core free."""
    return max(1, len(usable_cores()) - 1)


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of Python and of the named distributions that are installed."""
    found = {"python": platform.python_version()}
    for name in (*distributions, "numpy", "finetune-bench"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def installed(places: Sequence[str] | None = None) -> dict[str, str]:
    """Return the versions of Python and of every distribution in these folders, by default those of `sys.path`.

    If two folders have the same distribution, the first one counts, because that is the one that is imported.
    """
    found = list(metadata.distributions(path=list(places or sys.path)))
    versions = {one.name.lower().replace("_", "-"): one.version for one in reversed(found)}
    return {"python": platform.python_version(), **versions}


INSTRUCTION_SETS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that limit the instruction set of oneDNN (also in TensorFlow) and of torch."""


def environment() -> dict[str, str]:
    """Return operating system, C library, CPU governor and limits on the instruction set."""
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
