"""Start a worker process, wait for it without using the CPU, and report how it ended. The parent imports no framework.

A worker is `python -m harness.entry FOLDER`: it reads FOLDER/job.json, calls one function by its dotted name and writes
FOLDER/result.json. Its output goes to FOLDER/log.txt, its events to a pipe; orders of the parent use a second pipe.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import Declined, Refused, one_line
from harness.process.environment import HERE, Place, bind_threads, bound_to, worker_environment
from harness.process.machine import usable_cores

Ending = Literal["ok", "skipped", "refused", "failed", "timeout", "oom", "killed"]
Event = dict[str, Any]

STARTED = logging.getLogger("finetune-bench")
"""Has a line for every process that is started; the command line shows them with --verbose."""
LOOK_UP_S = 1.0
"""Interval at which a waiting parent checks that its worker is alive."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a worker; `value` is the function's result as JSON if the ending is `ok`."""

    ending: Ending
    reason: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    seconds: float = 0.0
    folder: Path

    def require(self) -> msgspec.Raw:
        """Return the value. Raise `Declined` if the ending is `skipped`, `Refused` for every other ending."""
        if self.ending == "ok":
            return self.value
        raise (Declined if self.ending == "skipped" else Refused)(self.reason)


def launch(
    call: str,
    arguments: Mapping[str, Any],
    *,
    folder: Path,
    cores: int | None = None,
    engine: str | None = None,
    timeout_s: float | None = None,
    on_event: Callable[[Event], None] | None = None,
    place: Place = HERE,
    beside: int = 0,
) -> Outcome:
    """Run `package.module:function` with JSON arguments in a fresh process and return how it ended.

    The function is named as in a checkout. `cores` starts a measured worker, bound to that many cores and with thread
    pools of that size; without it, the worker is not measured and uses all cores. With `beside`, the last `beside`
    cores are left to others. `engine` selects Keras's engine. The process group is killed on a timeout and when this
    function is interrupted.
    """
    with Worker(
        call, arguments, folder=folder, cores=cores, engine=engine, timeout_s=timeout_s, place=place, beside=beside
    ) as worker:
        for event in worker.events():
            if on_event:
                on_event(event)
        return worker.outcome()


class Worker:
    """A worker process that runs one call. It is a context manager; the exit kills the process group.

    The arguments are those of `launch`. With `beside`, the worker starts on other cores than the last `beside` ones,
    until `join` moves it there. `events` yields its reports, `send` sends an order to a function with an `orders`
    argument, and `outcome` returns how it ended, after the end of `events`.
    """

    def __init__(
        self,
        call: str,
        arguments: Mapping[str, Any],
        *,
        folder: Path,
        cores: int | None = None,
        engine: str | None = None,
        timeout_s: float | None = None,
        place: Place = HERE,
        beside: int = 0,
    ) -> None:
        try:
            encoded = msgspec.Raw(msgspec.json.encode(arguments))
        except UnicodeEncodeError as error:
            raise Refused(f"{error.object} is not valid UTF-8; rename the file or folder") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._count = count = cores or len(usable_cores())
        self._folder, self._timeout_s, self._in_time = folder, timeout_s, True
        self._events, send = os.pipe()
        receive, self._orders = os.pipe()
        pipes = {"events": send, "orders": receive}
        origin = {"parent": os.getpid(), "root": str(place.root), "started": time.time()}
        job = {"call": call, "arguments": encoded, **pipes, **origin}
        path = _import_path(place, folder)
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        (folder / "result.json").unlink(missing_ok=True)
        self._kills_before = _kills_for_memory()
        self._started = self._limit_from = time.monotonic()
        try:
            with (folder / "log.txt").open("wb") as log, bound_to(count, beside):
                self._process = subprocess.Popen(
                    [place.python, "-m", f"{place.prefix}harness.entry", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=worker_environment(count, engine, measured=cores is not None, path=path),
                    pass_fds=(send, receive),
                    start_new_session=True,
                )
            STARTED.info("process %d on %d cores: %s in %s", self.pid, count, call, folder)
        except OSError as error:
            os.close(self._events)
            os.close(self._orders)
            raise Refused(f"{place.python} cannot be run ({error.strerror}); give a Python interpreter") from error
        finally:
            os.close(send)
            os.close(receive)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def join(self) -> None:
        """Move it to the last cores, which a worker without `beside` uses, and start its time limit again."""
        bind_threads(usable_cores()[-self._count :], self.pid)
        if self._in_time:
            self._limit_from = time.monotonic()

    def send(self, order: Mapping[str, Any]) -> None:
        """Send an order; it is lost if the worker has ended, which `outcome` reports."""
        with suppress(BrokenPipeError):
            os.write(self._orders, msgspec.json.encode(order) + b"\n")

    def events(self) -> Iterator[Event]:
        """Yield the worker's reports until it ends or times out; can be called again to continue.

        Reports that it sent before its time limit are yielded, also if they are read later.
        """
        late = False
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                yield msgspec.json.decode(line)
            if late:
                self._in_time = False
                return
            left = self._left()
            late = left is not None and left <= 0
            wait = LOOK_UP_S if left is None else max(0.0, min(left, LOOK_UP_S))
            if not select.select([self._events], [], [], wait)[0]:
                if not late and self._process.poll() is not None:  # a grandchild may hold the pipe open
                    return
                continue
            data = os.read(self._events, 65536)
            if not data:
                return
            self._pending += data

    def outcome(self) -> Outcome:
        """Wait for the worker and return how it ended."""
        if self._in_time:
            left = self._left()
            try:
                self._process.wait(timeout=None if left is None else max(left, 0.1))
            except subprocess.TimeoutExpired:
                self._in_time = False
        _end(self._process)
        seconds = time.monotonic() - self._started
        if not self._in_time:
            reason = f"not finished after {self._timeout_s:g} s"
            return Outcome(ending="timeout", reason=reason, seconds=seconds, folder=self._folder)
        memory_kill = _kills_for_memory() > self._kills_before
        return _read_outcome(self._folder, self._process.returncode, seconds, memory_kill)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._events)
        os.close(self._orders)
        _end(self._process)

    _pending = b""

    def _left(self) -> float | None:
        return None if self._timeout_s is None else self._limit_from + self._timeout_s - time.monotonic()


def _import_path(place: Place, folder: Path) -> Path:
    """Return the worker's PYTHONPATH. An installed package is linked into the worker's folder, without its neighbours.

    The path takes precedence over the packages of the worker's interpreter, which may be another one.
    """
    if not place.prefix:
        return place.root
    link = folder.resolve() / "path" / place.root.name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(place.root)
    return link.parent


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_outcome(folder: Path, code: int, seconds: float, memory_kill: bool) -> Outcome:
    result = folder / "result.json"
    if code == 0 and result.exists():
        fields = msgspec.json.decode(result.read_bytes(), type=dict[str, msgspec.Raw])
        ending = msgspec.json.decode(fields["ending"], type=Ending)
        reason = msgspec.json.decode(fields["reason"], type=str)
        return Outcome(ending=ending, reason=reason, value=fields["value"], seconds=seconds, folder=folder)
    if code >= 0:
        reason = f"exited with {code}{_last_line(folder)}"
        return Outcome(ending="failed", reason=reason, seconds=seconds, folder=folder)
    return Outcome(**_explain_signal(signal.Signals(-code), memory_kill, folder), seconds=seconds, folder=folder)


def _explain_signal(number: signal.Signals, memory_kill: bool, folder: Path) -> dict[str, Any]:
    if number == signal.SIGKILL and memory_kill:
        return {"ending": "oom", "reason": "killed by the kernel because memory ran out"}
    if number in (signal.SIGKILL, signal.SIGTERM):
        return {"ending": "killed", "reason": f"killed from outside ({number.name})"}
    return {"ending": "failed", "reason": f"crashed in native code ({number.name}){_last_line(folder)}"}


def _last_line(folder: Path) -> str:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"; last line of its log: {one_line(lines[-1], 200)}" if lines else ""


def _kills_for_memory() -> int:
    file = Path("/proc/vmstat")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill ")), 0)
