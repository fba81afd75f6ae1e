"""A worker process: one job file in, one function called by name, one result file out. See `launch`."""

from __future__ import annotations

import ctypes
import importlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, get_type_hints

import msgspec

from harness.errors import Declined, Refused, one_line
from harness.whole_files import write_whole

_OURS = ("harness", "backends", "results", "benchmarks")
_OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")
_OUT_OF_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "can't allocate memory", "Unable to allocate")

_REMEDIES = {
    "Expected more than 1 value per channel": "batch norm needs more: use a larger --batch-size or --image-size"
}
"""What to do about a framework's own words."""


def main(folder: Path) -> None:
    """Run the job in `folder`. Functions get their arguments, as the types that they declare, and what they ask for by
    name: `report` for events, `orders` from the parent, `started` and `folder`."""
    job = msgspec.json.decode((folder / "job.json").read_bytes())
    _die_with(job["parent"])
    sys.excepthook = _write_failure(folder)
    root, own = Path(job["root"]).resolve(), Path(__file__).resolve().parents[2]
    if own != root:
        raise Refused(f"the harness of {own} ran instead of that of {root}")
    module, _, name = job["call"].partition(":")
    function = getattr(importlib.import_module(module), name)
    declared = get_type_hints(function)
    arguments = {name: msgspec.convert(value, declared.get(name, Any)) for name, value in job["arguments"].items()}
    wanted = inspect.signature(function).parameters
    if "report" in wanted:
        arguments["report"] = _reporter(job["events"])
    if "orders" in wanted:
        arguments["orders"] = _orders(job["orders"])
    if "started" in wanted:
        arguments["started"] = job["started"]
    if "folder" in wanted:
        arguments["folder"] = str(folder)
    _write(folder, "ok", "", function(**arguments))


def classify(error: BaseException) -> tuple[str, str]:
    """Status and one-line reason of an exception that ended a job."""
    kind = type(error).__name__
    if isinstance(error, Declined | Refused):  # these lines are ours and end with what to do, as often with a path
        return "skipped" if isinstance(error, Declined) else "refused", one_line(str(error), 2000)
    text = one_line(str(error))
    memory = isinstance(error, MemoryError) or kind in _OUT_OF_MEMORY or any(w in text for w in _OUT_OF_MEMORY_WORDS)
    if memory:
        return "oom", f"out of memory: {one_line(text, 200)}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in _OURS:
        return "skipped", f"{error.name} is not installed"
    remedy = next((f"; {own}" for words, own in _REMEDIES.items() if words in text), "")
    return "failed", text if kind == "NotFinite" else f"{kind}: {text}{remedy}" if text else kind


def _write_failure(folder: Path) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        _write(folder, *classify(error), None)
        sys.stderr.flush()
        os._exit(0)  # the result is written; frameworks' threads must not turn it into a crash

    return hook


def _write(folder: Path, ending: str, reason: str, value: Any) -> None:
    write_whole(folder / "result.json", msgspec.json.encode({"ending": ending, "reason": reason, "value": value}))


def _reporter(pipe: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        try:
            os.write(pipe, msgspec.json.encode(event) + b"\n")
        except BrokenPipeError:
            os._exit(1)

    return report


def _orders(pipe: int) -> Callable[[], dict[str, Any]]:
    stream = os.fdopen(pipe, "rb", buffering=0)

    def next_order() -> dict[str, Any]:
        line = stream.readline()
        if not line:  # the parent is gone, or wants no more
            os._exit(1)
        order: dict[str, Any] = msgspec.json.decode(line)
        return order

    return next_order


def _die_with(parent: int) -> None:
    # A worker that outlives its parent would disturb the next measurement.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_as_program(folder: str) -> None:
    """Run the job in `folder` and end the process, whatever threads a framework has left."""
    main(Path(folder))
    sys.stdout.flush()
    os._exit(0)
