"""What a node does: describe its installation and machine, and run one job in a fresh process.

These functions run in a process of the cluster, which imports no framework.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from benchmarks.cluster.content import Parcel, unpacked
from benchmarks.datasets.cache import cache_folder
from harness.entry import RUN_CASE
from harness.errors import Refused
from harness.process.environment import HERE, sources_digest
from harness.process.launch import Ending, Outcome, launch
from harness.process.machine import Machine, describe_machine, environment, installed, usable_cores
from harness.spec import Job

SOURCES = ("harness", "backends", "benchmarks", "results")
SENT = ("logits.npz", "log.txt")
"""Files of a worker's folder that travel back."""
VENDORED = "thirdparty_files"
"""The folder with copies of packages that Ray puts into `sys.path` when it is imported. Nothing here uses them."""
LISTED = 3
"""Number of differing packages that a message names."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of this project's sources, and the version of Python and of every installed package."""

    sources: str
    packages: dict[str, str]


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says about itself before anything runs there."""

    installation: Installed
    machine: Machine
    environment: dict[str, str]


class NodeJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job for a node. `parcels` has what travels, by its path on the driver; `beside` is as in `launch`."""

    job: Job
    timeout_s: float
    parcels: dict[str, Parcel]
    beside: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a job on a node, with the content of its files. `broken` means that no other job can run there."""

    ending: Ending
    reason: str = ""
    value: bytes = b"null"
    seconds: float = 0.0
    files: dict[str, bytes] = {}
    broken: bool = False

    def outcome(self, folder: Path) -> Outcome:
        """Write the files into a folder and return the outcome as `launch` does."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        value = msgspec.Raw(self.value)
        return Outcome(ending=self.ending, reason=self.reason, value=value, seconds=self.seconds, folder=folder)


def describe_node() -> NodeFacts:
    """Describe the installation and the machine of this process."""
    return NodeFacts(installation=installation(), machine=describe_machine(), environment=environment())


@cache
def installation(root: Path = HERE.root) -> Installed:
    """Describe the installation of this process."""
    sources = sources_digest(*(root / package for package in SOURCES))
    places = [place for place in sys.path if Path(place).name != VENDORED]
    return Installed(sources=sources, packages=installed(places))


def difference(here: Installed, there: Installed) -> str:
    """Return how the installation of a node differs from the driver's; empty if it does not."""
    if here.sources != there.sources:
        return (
            f"another version of this project (sources {there.sources[:12]}, here {here.sources[:12]}); "
            "install the same revision on every node"
        )
    ours, theirs = here.packages, there.packages
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not names:
        return ""
    named = [f"{name} {theirs.get(name, 'missing')} (here {ours.get(name, 'missing')})" for name in names[:LISTED]]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"other packages: {', '.join(named)}{more}; install the same versions on every node"


def run_work(work: NodeJob, fetch: Callable[[str], bytes]) -> Reply:
    """Run a job in a fresh process of this node; `fetch(sha256)` returns the content of a parcel that it lacks."""
    try:
        job = localized(work.job, {path: unpacked(parcel, fetch) for path, parcel in work.parcels.items()})
        with tempfile.TemporaryDirectory(prefix="finetune-bench-") as folder:
            outcome = launch(
                RUN_CASE,
                {"job": job},
                folder=Path(folder),
                cores=job.case.cores,
                engine=job.case.engine,
                timeout_s=work.timeout_s,
                beside=work.beside,
            )
            files = dict(_sent(outcome.folder))
    except (OSError, Refused) as error:  # the worker's own errors are in the outcome
        return Reply(ending="killed", reason=str(error), broken=True)
    full = outcome.ending == "failed" and os.strerror(errno.ENOSPC) in outcome.reason
    return Reply(
        ending="killed" if full else outcome.ending,
        reason=outcome.reason,
        value=bytes(outcome.value),
        seconds=outcome.seconds,
        files=files,
        broken=full,
    )


def localized(job: Job, places: Mapping[str, Path]) -> Job:
    """Return a job with the paths of this node; `places` maps paths of the driver.

    Kept features do not travel: their times are those of the machine that computed them.
    """

    def here(path: str) -> str:
        return str(places.get(path, path))

    return replace(
        job,
        dataset_path=here(job.dataset_path),
        checkpoint_path=job.checkpoint_path and here(job.checkpoint_path),
        files_path=job.files_path and here(job.files_path),
        plugins=tuple(map(here, job.plugins)),
        features_path=job.features_path and str(cache_folder() / "features"),
        evaluation_cores=tuple(usable_cores()),
    )


def _sent(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in SENT:
        if (folder / name).exists():
            yield name, (folder / name).read_bytes()
