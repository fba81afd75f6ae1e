"""What the driver's library says becomes a reading; without the library, a driver or a GPU there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAKE = """
import os
from collections import namedtuple

NVML_CLOCK_SM = 1
Process = namedtuple("Process", "pid")
NAMES = {"GPU-a": "NVIDIA H200", "GPU-b": "NVIDIA L4"}
FAULT = os.environ.get("FAULT", "")

class NVMLError(Exception): ...
class NVMLError_DriverNotLoaded(NVMLError): ...
class NVMLError_NotFound(NVMLError): ...
class NVMLError_NotSupported(NVMLError): ...
class NVMLError_NoPermission(NVMLError): ...
COUNTED = {"GPU-a": 10**15, "GPU-b": 5}

def fails(name, error):
    if FAULT == name:
        raise error

def nvmlInit(): fails("driver", NVMLError_DriverNotLoaded())
def nvmlShutdown(): print("shut down")
def nvmlDeviceGetCount(): return len(NAMES)
def nvmlDeviceGetHandleByIndex(index):
    if not 0 <= index < len(NAMES):
        raise NVMLError_NotFound
    return list(NAMES)[index]
def nvmlDeviceGetHandleByUUID(uuid):
    if uuid not in NAMES:
        raise NVMLError_NotFound
    return uuid
def nvmlDeviceGetName(device): return NAMES[device]
def nvmlDeviceGetClockInfo(device, kind):
    assert kind == NVML_CLOCK_SM
    return {"GPU-a": 1980, "GPU-b": 900}[device]
def nvmlDeviceGetPowerUsage(device):
    fails("power", NVMLError_NotSupported())
    return 310500
def nvmlDeviceGetTotalEnergyConsumption(device):
    fails("energy", NVMLError_NotSupported())
    fails("permission", NVMLError_NoPermission())
    before = COUNTED[device]
    COUNTED[device] += 250
    return before
def nvmlDeviceGetCurrentClocksThrottleReasons(device): return 0x4 | 0x1 | 0x20
def nvmlDeviceGetComputeRunningProcesses(device):
    fails("processes", NVMLError_NotSupported())
    return [Process(os.getpid()), Process(os.getppid()), Process(2**22 + 1)]
"""
READING = "Gpu(sm_mhz=1980.0, watts=310.5, throttled=('power cap', 'software thermal slowdown'), other_processes=1)"


def ask(question: str, folder: Path | None = None, **variables: str) -> list[str]:
    """Printed lines of a process whose first `pynvml` is the stand-in, or the real one without a folder."""
    if folder is not None:
        (folder / "pynvml.py").write_text(FAKE)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", f"from harness.process.gpu import gpu_names, read_gpu\nprint({question})"],
        cwd=ROOT,
        env=environment | variables | ({"PYTHONPATH": str(folder)} if folder else {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_a_reading_has_clock_power_slowdowns_and_the_processes_beside_this_one(tmp_path: Path) -> None:
    assert ask("read_gpu()", tmp_path) == ["shut down", READING]


@pytest.mark.parametrize(("visible", "mhz"), [("", "1980.0"), ("1,0", "900.0"), ("GPU-b", "900.0")])
def test_the_gpu_is_the_first_that_this_process_sees(tmp_path: Path, visible: str, mhz: str) -> None:
    assert ask("read_gpu().sm_mhz", tmp_path, CUDA_VISIBLE_DEVICES=visible) == ["shut down", mhz]


@pytest.mark.parametrize("visible", ["7", "-1", "GPU-of-another-machine"])
def test_a_gpu_that_is_not_there_has_no_reading(tmp_path: Path, visible: str) -> None:
    assert ask("read_gpu()", tmp_path, CUDA_VISIBLE_DEVICES=visible) == ["shut down", "None"]


def test_a_sensor_that_is_missing_leaves_no_reading_and_unlisted_processes_count_as_none(tmp_path: Path) -> None:
    assert ask("read_gpu()", tmp_path, FAULT="power") == ["shut down", "None"]
    assert ask("read_gpu().other_processes", tmp_path, FAULT="processes") == ["shut down", "0"]


def test_every_gpu_has_its_name_whichever_this_process_sees(tmp_path: Path) -> None:
    assert ask("gpu_names()", tmp_path, CUDA_VISIBLE_DEVICES="1") == ["shut down", "('NVIDIA H200', 'NVIDIA L4')"]


def test_without_a_driver_there_is_no_gpu(tmp_path: Path) -> None:
    assert ask("(read_gpu(), gpu_names())", tmp_path, FAULT="driver") == ["(None, ())"]


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has an NVIDIA GPU")
def test_the_real_library_finds_no_gpu_on_a_machine_without_one() -> None:
    assert ask("(read_gpu(), gpu_names())") == ["(None, ())"]


def test_the_library_is_imported_only_to_ask() -> None:
    assert ask("'pynvml' in __import__('sys').modules") == ["False"]
