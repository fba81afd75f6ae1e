"""Functions that workers run in the tests of `launch` and `worker`."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from harness.errors import Declined, Refused


class Span(msgspec.Struct, frozen=True, kw_only=True):
    first: int
    last: int


class Middle(NamedTuple):
    place: float
    folder: str
    kinds: tuple[str, ...]


def middle(span: Span, names: tuple[str, ...], folder: str) -> Middle:
    """What it was given must be of the types it declares: `span.first` fails on a dictionary."""
    return Middle((span.first + span.last) / 2, folder, (type(span).__name__, type(names).__name__))


def add(left: int, right: int) -> dict[str, int]:
    return {"sum": left + right}


def chatter() -> str:
    sys.stdout.write("to stdout\n")
    sys.stderr.write('{"ending": "failed"}\n')
    os.write(1, b"straight to the descriptor\n")
    return "heard"


def leave(code: int) -> None:
    sys.stdout.write("about to leave\n")
    sys.exit(code)


def leave_at_once(code: int) -> None:
    os._exit(code)


def raise_error(kind: str, message: str) -> None:
    kinds = {"Declined": Declined, "Refused": Refused, "ValueError": ValueError, "MemoryError": MemoryError}
    raise kinds[kind](message)


def import_missing(module: str) -> None:
    __import__(module)


def crash() -> None:
    ctypes.string_at(0)


def take_memory(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    np.empty(4 * limit_bytes, np.uint8)


def look_at_threads(report: Callable[[dict[str, Any]], None], orders: Callable[[], dict[str, Any]]) -> list[list[int]]:
    """The cores of two threads, reported at first and returned after an order."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()

    def cores() -> list[list[int]]:
        return [sorted(os.sched_getaffinity(int(thread.name))) for thread in Path("/proc/self/task").iterdir()]

    report({"cores": cores()})
    orders()
    return cores()


def sleep(seconds: float, report: Callable[[dict[str, Any]], None]) -> str:
    report({"pid": os.getpid()})
    time.sleep(seconds)
    return "slept"


def work(seconds: float, steps: int, report: Callable[[dict[str, Any]], None]) -> None:
    end = time.monotonic() + seconds
    for step in range(steps):
        report({"step": step})
    while time.monotonic() < end:
        sum(range(1000))


def report_without_end(report: Callable[[dict[str, Any]], None]) -> None:
    while True:
        report({"step": 0})


def leave_a_child(report: Callable[[dict[str, Any]], None], wait: bool) -> str:
    """Start a process that keeps every descriptor of the worker open, as a data loader's workers would."""
    child = subprocess.Popen(["sleep", "600"], close_fds=False)
    report({"pid": child.pid})
    if wait:
        time.sleep(600)
    return "done"


def look_around(folder: str, started: float) -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "cores": sorted(os.sched_getaffinity(0)),
        "folder": folder,
        "started": started,
        "blas": _blas_threads(),
        "stdin": sys.stdin.read(),
        "modules": sorted(sys.modules),
    }


def _blas_threads() -> int:
    matrix = np.ones((1500, 1500))
    wall, cpu = time.perf_counter(), time.process_time()
    matrix @ matrix
    return round((time.process_time() - cpu) / (time.perf_counter() - wall))


def not_json() -> object:
    return object()


def launch_another(folder: str, report: Callable[[dict[str, Any]], None]) -> None:
    """A parent of its own, which passes on what its worker reports."""
    from harness.process.launch import launch

    launch("tests.harness.jobs:sleep", {"seconds": 600}, folder=Path(folder) / "inner", on_event=report)


if __name__ == "__main__":
    from harness.process.ask import ask

    print(ask(add, {"left": 1, "right": 2}, dict[str, int]))  # noqa: T201 - the test reads it
