"""The program of a worker process: read a job file, call one function by name, write a result file. See `launch`."""

from __future__ import annotations

import ctypes
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

from harness import OURS, PREFIX
from harness.errors import Declined, Refused, one_line
from harness.lazy import import_quickly
from harness.whole_files import write_whole

_OUT_OF_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")
_OUT_OF_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "can't allocate memory", "Unable to allocate")

_REMEDIES = {
    "Expected more than 1 value per channel": "batch norm needs more: use a larger --batch-size or --image-size",
    "No module named 'harness": "plugins import finetune_bench.plugin",
    "No module named 'backends": "plugins import finetune_bench.torch_models",
}
"""Remedies for error messages of frameworks, and of plugins that import packages of the checkout from a wheel."""


def main(folder: Path) -> None:
    """Run the job in `folder`.

    A function gets its arguments converted to their declared types. It also gets each of these that it has as a
    parameter: `report` for events, `orders` from the parent, `started` and `folder`.
    """
    job = msgspec.json.decode((folder / "job.json").read_bytes())
    die_with(job["parent"])
    sys.excepthook = _write_failure(folder)
    root, here = Path(job["root"]).resolve(), Path(__file__).resolve().parents[2]
    if here != root:
        raise Refused(f"the harness in {here} ran instead of the one in {root}")
    module, _, name = job["call"].partition(":")
    function = getattr(import_quickly(f"{PREFIX}{module}"), name)
    declared = get_type_hints(function)
    arguments = {name: msgspec.convert(value, declared.get(name, Any)) for name, value in job["arguments"].items()}
    wanted = inspect.signature(function).parameters
    if "orders" in wanted:
        arguments["orders"] = _orders(job["orders"])
    more = {"report": _reporter(job["events"]), "started": job["started"], "folder": str(folder)}
    arguments |= {name: value for name, value in more.items() if name in wanted}
    _write(folder, "ok", "", function(**arguments))


def classify(error: BaseException) -> tuple[str, str]:
    """Return the status and the one-line reason for an exception that ended a job."""
    kind = type(error).__name__
    if isinstance(error, Declined | Refused):  # our own message, which may contain long paths and ends with a remedy
        return "skipped" if isinstance(error, Declined) else "refused", one_line(str(error), 2000)
    text = one_line(str(error))
    memory = isinstance(error, MemoryError) or kind in _OUT_OF_MEMORY or any(w in text for w in _OUT_OF_MEMORY_WORDS)
    if memory:
        return "oom", f"out of memory: {one_line(text, 200)}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in OURS:
        return "skipped", f"{error.name} is not installed"
    remedy = next((f"; {remedy}" for words, remedy in _REMEDIES.items() if words in text), "")
    return "failed", text if kind == "NotFinite" else f"{kind}: {text}{remedy}" if text else kind


def _write_failure(folder: Path) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        _write(folder, *classify(error), None)
        sys.stderr.flush()
        os._exit(0)  # the result is written; threads of a framework could crash a normal exit

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
        if not line:  # the parent has ended or closed the pipe
            os._exit(1)
        order: dict[str, Any] = msgspec.json.decode(line)
        return order

    return next_order


def die_with(parent: int) -> None:
    """Let this process end when its parent, which has this process id, ends."""
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
    """Run the job in `folder` and end the process, even if threads of a framework still run."""
    main(Path(folder))
    sys.stdout.flush()
    os._exit(0)
