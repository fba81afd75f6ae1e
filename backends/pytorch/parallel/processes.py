"""The processes of the other devices: started by the first one for one stage, watched, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
from torch import distributed

from harness import PREFIX, plugins
from harness.errors import one_line
from harness.process.environment import bind_threads
from harness.process.machine import usable_cores
from harness.spec import Case, Stage

PATIENCE = timedelta(days=1)
"""Time limit of an exchange. The first process evaluates between epochs, and pauses while another worker has a turn; a
process that ended is noticed without it."""
GRACE_S = 5.0


class RankLost(RuntimeError):
    """The process of another device ended during the training."""


class RankJob(msgspec.Struct, frozen=True, kw_only=True):
    """A stage for the process of device `rank`. `shape` is that of its inputs in a step; `rendezvous` is a file."""

    case: Case
    model: str
    plugins: tuple[str, ...]
    classes: int
    stage: Stage
    steps_per_epoch: int
    shape: tuple[int, ...]
    rank: int
    rendezvous: str
    parent: int
    cores: tuple[int, ...]


def job_of(
    rank: int, case: Case, model: str, classes: int, stage: Stage, steps_per_epoch: int, shape: tuple[int, ...]
) -> RankJob:
    """Return the job of one rank, with the plugins of this process and its own cores."""
    return RankJob(
        case=case,
        model=model,
        plugins=(*plugins.installed(), *plugins.loaded()),
        classes=classes,
        stage=stage,
        steps_per_epoch=steps_per_epoch,
        shape=shape,
        rank=rank,
        rendezvous="",
        parent=os.getpid(),
        cores=_cores_of(rank, case),
    )


@contextmanager
def others(jobs: Sequence[RankJob]) -> Iterator[None]:
    """Run these jobs, one process each, and connect this process with them for the block, as rank 0.

    If one of them ends in the block, it ends with `RankLost`, or MemoryError if its memory ran out. None of them is
    alive afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        started = [_Process(msgspec.structs.replace(job, rendezvous=f"{scratch}/meet"), Path(scratch)) for job in jobs]
        over, whole = threading.Event(), False
        try:
            for process in started:
                process.wait_until_ready()
            for process in started:
                threading.Thread(target=process.watch, args=(over,), daemon=True).start()
            with _on_cores(_cores_of(0, jobs[0].case)):
                connect(f"{scratch}/meet", jobs[0].case, 0)
                yield
            whole = True
        except RankLost:
            raise
        except RuntimeError as error:
            if lost := _lost(started):
                raise lost from error
            raise
        finally:
            over.set()
            if not whole:
                for process in started:
                    process.kill()
            if distributed.is_initialized():
                distributed.destroy_process_group()
            for process in started:
                process.end()


def connect(rendezvous: str, case: Case, rank: int) -> None:
    """Join the process group of a case. Tensors in memory use gloo, tensors on GPUs NCCL."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the name of this machine may have no address
    backend = "gloo" if case.device == "cpu" else None
    distributed.init_process_group(
        backend, init_method=f"file://{rendezvous}", rank=rank, world_size=case.devices, timeout=PATIENCE
    )


class _Process:
    def __init__(self, job: RankJob, folder: Path) -> None:
        self._name, self._log = f"rank {job.rank} of {job.case.devices}", folder / f"rank-{job.rank}.txt"
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.case.threads))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{PREFIX}backends.pytorch.parallel.rank"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **threads, "PYTHONPATH": path},
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has ended, which `wait_until_ready` reports

    def wait_until_ready(self) -> None:
        """Wait until it has built its network. Raises RuntimeError if it ended before."""
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self._process.wait()
            raise self.lost() or RankLost(f"{self._name} ended before the training")

    def watch(self, over: threading.Event) -> None:
        """Wait for the process; if it ends too early and this process does not notice, end this process."""
        self._process.wait()
        if over.wait(GRACE_S):
            return
        error = self.lost() or RankLost(f"{self._name} ended before the training was over")
        sys.excepthook(type(error), error, None)  # a worker writes its result and ends

    def lost(self) -> Exception | None:
        """Return why it ended, or None if it is alive or ended in order."""
        code = self._process.poll()
        if not code:
            return None
        if code < 0:
            return RankLost(f"{self._name} was killed ({signal.Signals(-code).name})")
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        sys.stderr.write(f"{self._name}:\n{text}\n")
        reason = f"{self._name} failed: {one_line(text.splitlines()[-1] if text else f'exited with {code}', 200)}"
        memory = any(words in reason for words in ("OutOfMemoryError", "MemoryError", "can't allocate memory"))
        return MemoryError(reason) if memory else RankLost(reason)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def end(self) -> None:
        """Tell it that all is over, and wait; kill it if it takes too long."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _lost(processes: Sequence[_Process]) -> Exception | None:
    """Return why one of the processes ended; waits a little, because a connection breaks before its process ends."""
    until = time.monotonic() + GRACE_S / 2
    while time.monotonic() < until:
        if found := next((lost for process in processes if (lost := process.lost())), None):
            return found
        time.sleep(0.05)
    return None


def _cores_of(rank: int, case: Case) -> tuple[int, ...]:
    """Return the cores of one rank, apart from those of the others; all of them if there are not enough."""
    cores = usable_cores()
    return tuple(cores[rank * case.threads : (rank + 1) * case.threads] if len(cores) >= case.cores else cores)


@contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Bind the threads of this process to these cores in the block."""
    before = usable_cores()
    bind_threads(cores)
    try:
        yield
    finally:
        bind_threads(before)
