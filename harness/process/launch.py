"""Start a worker process, wait for it asleep, and say how it ended. The parent imports no framework.

A worker is `python -m harness.entry FOLDER`: it reads FOLDER/job.json, calls one function by its dotted name and writes
FOLDER/result.json. What it prints goes to FOLDER/log.txt; events come back on a pipe of their own, and orders
go out on another.
"""

from __future__ import annotations

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

LOOK_UP_S = 1.0
"""How often a waiting parent looks whether its worker still lives."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker ended; `value` is what the function returned, as JSON, if it ended with `ok`."""

    ending: Ending
    reason: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    seconds: float = 0.0
    folder: Path

    def require(self) -> msgspec.Raw:
        """The value; raises `Declined` if the worker could not do it here, `Refused` for every other ending."""
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
) -> Outcome:
    """Run `package.module:function` with JSON arguments in a fresh process and return how it ended.

    `cores` binds the worker to that many cores and tells every thread pool so, for measuring; without it, it has all
    and only prepares. `engine` becomes Keras's engine. The process group is killed on a timeout, and when this function
    is interrupted.
    """
    with Worker(call, arguments, folder=folder, cores=cores, engine=engine, timeout_s=timeout_s, place=place) as worker:
        for event in worker.events():
            if on_event:
                on_event(event)
        return worker.outcome()


class Worker:
    """A worker process that lives until its call is done. Use as a context manager; leaving it ends its process group.

    Arguments as for `launch`; with `beside`, it starts on cores beside so many that others have, until it is told to
    `join` them. `events` yields what the worker reports, `send` gives an order to a call that asks for
    `orders`, and `outcome` says how it ended, once `events` has come to its end.
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
        folder.mkdir(parents=True, exist_ok=True)
        self._count = count = cores or len(usable_cores())
        self._folder, self._timeout_s, self._in_time = folder, timeout_s, True
        self._events, send = os.pipe()
        receive, self._orders = os.pipe()
        pipes = {"events": send, "orders": receive}
        origin = {"parent": os.getpid(), "root": str(place.root), "started": time.time()}
        job = {"call": call, "arguments": arguments, **pipes, **origin}
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        (folder / "result.json").unlink(missing_ok=True)
        self._kills_before = _kills_for_memory()
        self._started = time.monotonic()
        try:
            with (folder / "log.txt").open("wb") as log, bound_to(count, beside):
                self._process = subprocess.Popen(
                    [place.python, "-m", "harness.entry", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=worker_environment(count, engine, measured=cores is not None, root=place.root),
                    pass_fds=(send, receive),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._events)
            os.close(self._orders)
            raise Refused(f"{place.python} cannot be run ({error.strerror}); name a Python interpreter") from error
        finally:
            os.close(send)
            os.close(receive)

    @property
    def pid(self) -> int:
        """Process id, for as long as it lives."""
        return self._process.pid

    def join(self) -> None:
        """Move it to the cores of a worker that starts beside no other."""
        bind_threads(self.pid, self._count)

    def send(self, order: Mapping[str, Any]) -> None:
        """Give an order; one to a worker that is gone is lost, as `outcome` will say."""
        with suppress(BrokenPipeError):
            os.write(self._orders, msgspec.json.encode(order) + b"\n")

    def events(self) -> Iterator[Event]:
        """What the worker reports, until it ends or its time is over; may be left and taken up again."""
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                yield msgspec.json.decode(line)
            left = self._left()
            if left is not None and left <= 0:
                self._in_time = False
                return
            if not select.select([self._events], [], [], LOOK_UP_S if left is None else min(left, LOOK_UP_S))[0]:
                if self._process.poll() is not None:  # a grandchild may hold the pipe open
                    return
                continue
            data = os.read(self._events, 65536)
            if not data:
                return
            self._pending += data

    def outcome(self) -> Outcome:
        """How the worker ended; waits for it."""
        if self._in_time:
            left = self._left()
            try:
                self._process.wait(timeout=None if left is None else max(left, 0.1))
            except subprocess.TimeoutExpired:
                self._in_time = False
        _end(self._process)
        seconds = time.monotonic() - self._started
        if not self._in_time:
            reason = f"no end after {self._timeout_s:g} s"
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
        return None if self._timeout_s is None else self._started + self._timeout_s - time.monotonic()


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
        return Outcome(
            ending="failed", reason=f"exited with {code}{_last_words(folder)}", seconds=seconds, folder=folder
        )
    return Outcome(**_explain_signal(signal.Signals(-code), memory_kill, folder), seconds=seconds, folder=folder)


def _explain_signal(number: signal.Signals, memory_kill: bool, folder: Path) -> dict[str, Any]:
    if number == signal.SIGKILL and memory_kill:
        return {"ending": "oom", "reason": "killed by the kernel for want of memory"}
    if number in (signal.SIGKILL, signal.SIGTERM):
        return {"ending": "killed", "reason": f"killed from outside ({number.name})"}
    return {"ending": "failed", "reason": f"crashed in native code ({number.name}){_last_words(folder)}"}


def _last_words(folder: Path) -> str:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"; last words: {one_line(lines[-1], 200)}" if lines else ""


def _kills_for_memory() -> int:
    file = Path("/proc/vmstat")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill ")), 0)
