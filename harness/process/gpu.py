"""The GPU that a process uses, as `nvidia-smi` reports it; None without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

SLOWDOWNS = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}  # fmt: skip
"""Bits of `clocks_event_reasons.active` that mean slower than the load asks for (NVML's nvmlClocksEventReasons)."""


class Gpu(NamedTuple):
    """One reading. `other_processes` are those that compute on it beside this one."""

    sm_mhz: float
    watts: float
    throttled: tuple[str, ...]
    other_processes: int


def read_gpu() -> Gpu | None:
    """Ask the driver; takes a few tens of milliseconds, so never while a window is open. None without a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    state = _ask(tool, first, "--query-gpu=clocks.sm,power.draw,clocks_throttle_reasons.active")
    busy = _ask(tool, first, "--query-compute-apps=pid")
    return None if state is None else parse(state, busy or "", os.getpid())


def parse(state: str, busy: str, own: int) -> Gpu | None:
    """Two answers of nvidia-smi as CSV without units.

    >>> parse("1980, 310.5, 0x0000000000000004", "4711\\n815\\n", 815)
    Gpu(sm_mhz=1980.0, watts=310.5, throttled=('power cap',), other_processes=1)
    """
    fields = [field.strip() for field in state.strip().split("\n")[0].split(",")]
    try:
        mhz, watts, reasons = float(fields[0]), float(fields[1]), int(fields[2], 16)
    except (ValueError, IndexError):  # "[N/A]", or no such device
        return None
    others = [pid for pid in busy.split() if pid.isdigit() and int(pid) != own]
    return Gpu(mhz, watts, tuple(name for bit, name in SLOWDOWNS.items() if reasons & bit), len(others))


def _ask(tool: str, device: str, query: str) -> str | None:
    command = [tool, f"--id={device}", query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout if answer.returncode == 0 else None
