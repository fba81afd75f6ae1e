"""What a worker finds around it: an interpreter, a checkout, an environment made from an allow-list, its cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from harness.process.machine import INSTRUCTION_SETS, usable_cores

PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
             "CUDA_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "KERAS_HOME", "FINETUNE_BENCH_CACHE", "SSL_CERT_FILE",
             "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
             "FINETUNE_BENCH_MIRROR", *INSTRUCTION_SETS)  # fmt: skip
"""Variables of the parent's environment that a worker gets to see."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
         "PYTHONIOENCODING": "utf-8:backslashreplace"}  # fmt: skip
"""The last one: what a worker prints goes to its log, which is UTF-8 in every locale."""
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


class Place(NamedTuple):
    """Where a worker's code comes from: the interpreter, with what is installed for it, and the harness's checkout."""

    python: str = sys.executable
    root: Path = Path(__file__).resolve().parents[2]


HERE = Place()


def worker_environment(
    threads: int, engine: str | None = None, *, measured: bool = True, root: Path = HERE.root
) -> dict[str, str]:
    """Environment of a worker: an allow-list, thread counts, how threads wait, and where the harness is."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **QUIET,
        **dict.fromkeys(pools, str(threads)),
        **(MEASURED if measured else UNMEASURED),
        "PYTHONPATH": str(root),
        "PYTHONSAFEPATH": "1",  # else what lies in the current folder, another checkout say, would come before it
        **({"KERAS_BACKEND": engine} if engine else {}),
    }


@contextmanager
def bound_to(count: int, beside: int = 0) -> Iterator[None]:
    """Bind this thread to so many of its cores; what it starts meanwhile stays bound.

    They are its last ones, as interrupts like core 0, or, where there are enough, those beside the last `beside` ones.
    """
    # Affinity is inherited, so it holds from the worker's first instruction.
    before = usable_cores()
    if not hasattr(os, "sched_setaffinity") or count >= len(before):
        yield
        return
    end = len(before) - beside
    os.sched_setaffinity(0, before[end - count : end] if end >= count else before[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def bind_threads(process: int, count: int) -> None:
    """Bind every thread that a process has to the last so many of this thread's cores."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = usable_cores()[-count:]
    with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended, as its parent will hear
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)
