"""Start a worker process, wait for it asleep, and say how it ended. The parent imports no framework.

A worker is `python -m harness.worker FOLDER`: it reads FOLDER/job.json, calls one function by its dotted name and
writes FOLDER/result.json. What it prints goes to FOLDER/log.txt; events come back on a pipe of their own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import Declined, Refused
from harness.machine import usable_cores

Ending = Literal["ok", "skipped", "refused", "failed", "timeout", "oom", "killed"]
Event = dict[str, Any]

PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
             "CUDA_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "KERAS_HOME", "FINETUNE_BENCH_CACHE", "SSL_CERT_FILE",
             "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
"""Variables of the parent's environment that a worker gets to see."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


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
    python: str = sys.executable,
) -> Outcome:
    """Run `package.module:function` with JSON arguments in a fresh process and return how it ended.

    `cores` binds the worker to that many cores and tells every thread pool so, for measuring; without it, it has all
    and only prepares. `engine` becomes Keras's engine. The process group is killed on a timeout, and when this function
    is interrupted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = cores or len(usable_cores())
    environment = worker_environment(count, engine, measured=cores is not None)
    receive, send = os.pipe()
    job = {"call": call, "arguments": arguments, "events": send, "parent": os.getpid(), "started": time.time()}
    (folder / "job.json").write_bytes(msgspec.json.encode(job))
    (folder / "result.json").unlink(missing_ok=True)
    kills_before = _kills_for_memory()
    started = time.monotonic()
    with (folder / "log.txt").open("wb") as log, _bound_to(count):
        process = subprocess.Popen(
            [python, "-m", "harness.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(send,),
            start_new_session=True,
        )
    os.close(send)
    try:
        in_time = _listen(receive, process, started, timeout_s, on_event)
    finally:
        os.close(receive)
        _end(process)
    seconds = time.monotonic() - started
    if not in_time:
        return Outcome(ending="timeout", reason=f"no end after {timeout_s:g} s", seconds=seconds, folder=folder)
    return _read_outcome(folder, process.returncode, seconds, _kills_for_memory() > kills_before)


MEASURED = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Idle threads of a measured worker sleep, so that two workers on the same cores do not disturb each other."""
UNMEASURED = {
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}
"""A worker that prepares keeps its memory instead of returning it after every step: pretraining takes 0.7 x the time.

A measured one has the allocator as everybody has it.
"""


def worker_environment(threads: int, engine: str | None = None, *, measured: bool = True) -> dict[str, str]:
    """Environment of a worker: an allow-list, thread counts, how threads wait, and where the harness is."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    root = str(Path(__file__).resolve().parent.parent)
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **QUIET,
        **dict.fromkeys(pools, str(threads)),
        **(MEASURED if measured else UNMEASURED),
        "PYTHONPATH": root,
        **({"KERAS_BACKEND": engine} if engine else {}),
    }


@contextmanager
def _bound_to(count: int) -> Iterator[None]:
    # Affinity is inherited, so it holds from the worker's first instruction; the last cores, as interrupts like core 0.
    before = usable_cores()
    if not hasattr(os, "sched_setaffinity") or count >= len(before):
        yield
        return
    os.sched_setaffinity(0, before[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listen(
    pipe: int,
    process: subprocess.Popen[bytes],
    started: float,
    timeout_s: float | None,
    on_event: Callable[[Event], None] | None,
) -> bool:
    pending = b""
    while True:
        left = None if timeout_s is None else started + timeout_s - time.monotonic()
        if left is not None and left <= 0:
            return False
        if not select.select([pipe], [], [], LOOK_UP_S if left is None else min(left, LOOK_UP_S))[0]:
            if process.poll() is not None:  # a grandchild may hold the pipe open
                break
            continue
        data = os.read(pipe, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if on_event:
                on_event(msgspec.json.decode(line))
    try:
        process.wait(timeout=None if left is None else max(left, 0.1))
    except subprocess.TimeoutExpired:
        return False
    return True


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
    lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
    return f"; last words: {lines[-1][:200]}" if lines else ""


def _kills_for_memory() -> int:
    file = Path("/proc/vmstat")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill ")), 0)
