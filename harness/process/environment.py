"""The environment of a worker: interpreter, checkout, environment variables from an allow-list, and cores."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from harness import PREFIX
from harness.process.machine import INSTRUCTION_SETS, usable_cores

PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
             "CUDA_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "KERAS_HOME", "FINETUNE_BENCH_CACHE", "SSL_CERT_FILE",
             "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
             "FINETUNE_BENCH_MIRROR", *INSTRUCTION_SETS)  # fmt: skip
"""Environment variables of the parent that a worker inherits."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
         "PYTHONIOENCODING": "utf-8:backslashreplace"}  # fmt: skip
"""Fixed settings of every worker. PYTHONIOENCODING makes its log UTF-8 in every locale."""
MEASURED = {"GOMP_SPINCOUNT": "50000", "KMP_BLOCKTIME": "1"}
"""Idle OpenMP threads of a measured worker sleep after about 1 ms (GNU OpenMP on a Zen 4: 1.2 ms).

Thus two workers on the same cores do not disturb each other. Threads that sleep at once have to be woken for every
operation: with two threads, a step of MobileNetV2 at 64 px would take more than twice as long.
"""
UNMEASURED = {"MALLOC_TOP_PAD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""A worker that is not measured keeps freed memory, which reduces the time of pretraining to 0.7 x.

A measured worker uses the default settings of the allocator.
"""


class Place(NamedTuple):
    """The origin of a worker's code: an interpreter with its packages, and the folder of this project's packages.

    The folder is a checkout, or the installed package `finetune_bench`, in which the names of packages have a prefix.
    """

    python: str = sys.executable
    root: Path = Path(__file__).resolve().parents[2]
    prefix: str = PREFIX


HERE = Place()


def sources_digest(*packages: Path) -> str:
    """Return the SHA-256 of the names and contents of all Python files in the folders of these packages."""
    digest = hashlib.sha256()
    for folder in packages:
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder.parent)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def worker_environment(
    threads: int, engine: str | None = None, *, measured: bool = True, path: Path = HERE.root
) -> dict[str, str]:
    """Return the environment variables of a worker: allow-list, thread counts, spin limits, import path."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **QUIET,
        **dict.fromkeys(pools, str(threads)),
        **(MEASURED if measured else UNMEASURED),
        "PYTHONPATH": str(path),
        "PYTHONSAFEPATH": "1",  # otherwise the current folder, maybe another checkout, would take precedence
        **({"KERAS_BACKEND": engine} if engine else {}),
    }


@contextmanager
def bound_to(count: int, beside: int = 0) -> Iterator[None]:
    """Bind this thread to `count` of its cores during the block; processes started in the block stay bound.

    These are the last cores, because core 0 handles most interrupts, or the cores before the last `beside` ones.
    """
    # A child process inherits the affinity, so it applies from the worker's first instruction.
    cores = usable_cores()
    if count >= len(cores):
        yield
        return
    end = len(cores) - beside
    with bound_to_cores(cores[end - count : end] if end >= count else cores[-count:]):
        yield


@contextmanager
def bound_to_cores(cores: Iterable[int]) -> Iterator[None]:
    """Bind this thread to these cores during the block, or do nothing on a system that cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def bind_threads(cores: Sequence[int], process: int | None = None) -> None:
    """Bind every thread of a process (None: this one) to these cores, or do nothing on a system that cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has just ended; its parent notices later
        for thread in Path(f"/proc/{process or 'self'}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)
