"""Complete runs of a gate's base, kept in the cache by everything that their accuracy depends on.

A run with a seed is the same on the same machine, so it is measured once. Times never come from here: they are compared
in pairs of live processes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from benchmarks.datasets.cache import cache_folder, made_once
from harness import PROTOCOL
from harness.process.ask import ask
from harness.process.environment import HERE, Place, sources_digest
from harness.process.imports import digest_of
from harness.process.machine import describe_machine, environment, installed
from harness.running.record import Record
from harness.spec import Job
from harness.whole_files import remove, write_whole
from results.storage.objects import get_arrays, get_json, put_arrays, put_json
from results.storage.rows import SCHEMA

TRAINING = ("harness", "backends")
"""The packages of this project that a worker runs."""
FILE = "run.json"


class BaseRun(msgspec.Struct, frozen=True, kw_only=True):
    """A complete run. `imported` has the SHA-256 of each file, by path, that its plug-ins imported."""

    record: Record
    imported: dict[str, str] = {}


class BaseRuns:
    """Finds and keeps the complete runs of one installation on this machine."""

    def __init__(self, place: Place) -> None:
        """Ask the interpreter for its packages. Raises as `ask` does."""
        self._surroundings = {
            "schema": SCHEMA,
            "protocol": PROTOCOL,
            "sources": sources_digest(*(place.root / package for package in TRAINING)),
            "packages": ask(installed, {}, dict[str, str], timeout_s=120, place=HERE._replace(python=place.python)),
            "machine": describe_machine().key,
            "environment": environment(),
        }

    def find(self, job: Job, results_dir: Path) -> Record | None:
        """Return the record of a kept run, with its files in the folder of results; None if there is no such run."""
        entry = self._entry(job)
        if not (entry / FILE).exists():
            return None
        run = msgspec.json.decode((entry / FILE).read_bytes(), type=BaseRun)
        if any(digest_of(Path(path)) != digest for path, digest in run.imported.items()):
            remove(entry)
            return None
        _copy(run.record, entry, results_dir)
        return run.record

    def keep(self, job: Job, record: Record, imported: dict[str, str], results_dir: Path) -> None:
        """Keep a run whose files are in the folder of results. Raises `Refused` if the cache cannot be written."""

        def make(folder: Path) -> None:
            _copy(record, results_dir, folder)
            write_whole(folder / FILE, msgspec.json.encode(BaseRun(record=record, imported=imported)))

        made_once(self._entry(job), make)

    def _entry(self, job: Job) -> Path:
        wanted = {"case": job.case, "strict": job.strict, "train_sample": job.train_sample, "plugins": job.plugins}
        content = msgspec.json.encode({**self._surroundings, **wanted}, order="deterministic")
        return cache_folder() / "base-runs" / hashlib.sha256(content).hexdigest()[:32]


def _copy(record: Record, source: Path, target: Path) -> None:
    """Copy the logits and the list of skipped files of a record from one folder of results to another."""
    if record.logits:
        put_arrays(target, get_arrays(source, record.logits))
    if record.skipped:
        put_json(target, get_json(source, record.skipped))
