"""Readings of NVIDIA GPUs through the management library NVML; empty without a GPU or its driver."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

SLOWDOWNS = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}  # fmt: skip
"""Bits of NVML's nvmlClocksEventReasons that mean a clock below what the load requires."""

_Answer = TypeVar("_Answer")


class Gpu(NamedTuple):
    """One reading. `other_processes` counts the other processes that compute on the GPU."""

    sm_mhz: float
    watts: float
    throttled: tuple[str, ...]
    other_processes: int


def read_gpu() -> Gpu | None:
    """Read the GPU of this process, None without one. Takes tens of ms, so call it only outside a window."""
    return _ask(_reading)


def gpu_names() -> tuple[str, ...]:
    """Return the names of all GPUs, in the order of the driver."""
    return _ask(_names) or ()


class GpuEnergy:
    """The energy counter of one GPU, including its memory. NVML stays open until the process ends."""

    name = "NVML"

    def __init__(self, nvml: Any, device: Any) -> None:
        self._ask, self._device = nvml.nvmlDeviceGetTotalEnergyConsumption, device
        self._began = self._ask(device)

    def joules(self) -> float:
        """Return the energy since the start. NVML counts millijoules since the driver was loaded, in 64 bits."""
        return float(self._ask(self._device) - self._began) / 1e3


def open_gpu_energy() -> GpuEnergy | str:
    """Open the energy counter of the GPU of this process; return a sentence if there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return GpuEnergy(pynvml, _device(pynvml))
    except pynvml.NVMLError as error:  # no driver, no such device, no permission, or no counter (before Volta, MIG)
        return f"NVML gives no energy of the GPU ({error})"


def _device(nvml: Any) -> Any:
    first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    by_number = first.lstrip("-").isdigit()
    return nvml.nvmlDeviceGetHandleByIndex(int(first)) if by_number else nvml.nvmlDeviceGetHandleByUUID(first)


def _reading(nvml: Any) -> Gpu:
    device = _device(nvml)
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
    return Gpu(
        sm_mhz=float(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
        watts=nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
        throttled=tuple(name for bit, name in SLOWDOWNS.items() if reasons & bit),
        other_processes=_others(nvml, device),
    )


def _others(nvml: Any, device: Any) -> int:
    import psutil  # here, because it is a twelfth of a worker's start and few workers need it

    try:
        busy = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)}
    except nvml.NVMLError:  # a partition (MIG) of a GPU does not list processes
        return 0
    # In a container these may be ids of the host, also for this process.
    return sum(psutil.pid_exists(pid) for pid in busy - {os.getpid()})


def _names(nvml: Any) -> tuple[str, ...]:
    devices = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    return tuple(nvml.nvmlDeviceGetName(device) for device in devices)


def _ask(question: Callable[[Any], _Answer]) -> _Answer | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return question(pynvml)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver, no such device, or a sensor that it lacks
        return None
