"""The real field of `advise`: every run is a case in a fresh process, and a record in the store."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from benchmarks.advising.held_out import HeldOut
from benchmarks.advising.policy import PROBE, Contender, Trial
from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.scenarios import FIVE, RECIPES
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.datasets.named import PreparedData
from benchmarks.preparing.missing_certificates import subject_here
from benchmarks.preparing.plan import Preparation
from benchmarks.running.execute import execute
from benchmarks.running.forecast import expected_s
from harness.errors import Declined, Refused
from harness.process.launch import Event
from harness.process.machine import Machine
from harness.running.record import Record
from results.certificates.certificate import Certificate, read_certificates
from results.certificates.scope import Subject, coverage_of
from results.storage.run_files import RunWriter
from results.tables.figures import measure

METHODS = tuple(name for name in FIVE if name != "scratch")
"""The scenarios that race unless the user names others."""
FOLDED = 2_000
"""The largest number of training images that are divided anew for each replicate: more give enough validation images,
and each division is decoded again."""
SMALL_TRAIN, STEPS = 64, 4
"""Below so many training images the batch size is chosen to give at least this many steps per epoch."""
SAFETY = 1.15
"""A run begins only if this multiple of its expected seconds is left."""
OVER = 0.05
"""A process is ended when it exceeds the budget by this share."""


class Network(NamedTuple):
    """A model in a backend."""

    backend: str
    engine: str | None
    model: str

    @property
    def name(self) -> str:
        """The name in the text."""
        return f"{self.model} with {self.backend if self.engine is None else f'{self.backend}-{self.engine}'}"


class Budget(NamedTuple):
    """Seconds since `started` (`time.monotonic`), or a number of runs if `steps` is given."""

    started: float
    seconds: float
    steps: int | None = None


class Setup(NamedTuple):
    """What a field needs: the tools, the user's options, and the data with its division."""

    catalogue: Catalogue
    preparation: Preparation
    writer: RunWriter
    machine: Machine
    on_event: Callable[[Event], None]
    options: Mapping[str, Any]
    division: HeldOut
    data: PreparedData


class MachineField:
    """A `Field` on this machine. `records` has the runs of each contender in order."""

    def __init__(self, setup: Setup, budget: Budget) -> None:
        self._setup, self._budget, self.given = setup, budget, setup.options
        self.total = budget.seconds if budget.steps is None else float(budget.steps)
        self.options = {**setup.options, **setup.division.options, **small_batch(setup.options, self.train_images)}
        self.methods = tuple(setup.options.get("scenario", METHODS))
        self._networks = {one.name: one for one in networks(self.options, self.methods, setup.catalogue)}
        self.safety = SAFETY if budget.steps is None else 1.0
        self._lengths = lengths(self.options)
        self.rungs = len(self._lengths)
        self._proofs = read_certificates(setup.writer.results_dir).all
        self.twins = self._certified_twins()
        self.networks = tuple(name for name in self._networks if name not in self.twins)
        self.records: dict[Contender, list[Record]] = defaultdict(list)
        self._ran = 0
        self._guesses = self._forecast() if budget.steps is None else {}

    @property
    def train_images(self) -> int:
        """The number of training images."""
        return self._count("train")

    def left(self) -> float:
        """Return the seconds, or the runs, that are left."""
        if self._budget.steps is not None:
            return self.total - self._ran
        return self._budget.started + self.total - time.monotonic()

    def guess(self, contender: Contender) -> float:
        """Return the seconds that similar cases took on this machine, or an estimate; 1 if runs are counted."""
        return self._guesses.get(contender, 1.0)

    def run(self, contender: Contender, replicate: int) -> Trial:
        """Run the case and store its record. Raise `Declined` if it is skipped, refused or fails."""
        began = time.monotonic()
        timeout_s = 3600.0 if self._budget.steps is not None else max(1.0, self.left() + OVER * self.total)
        try:
            planned = self._setup.preparation.plan(self.selected(contender, replicate))
        except Refused as reason:
            raise Declined(str(reason)) from reason
        planned.required_job()
        self._ran += 1
        tools = self._setup.writer, self._setup.machine, timeout_s, self._setup.on_event
        (record,) = execute([planned], *tools)
        if record.status != "ok" or record.val is None:
            raise Declined(f"{record.status}: {record.reason}")
        self.records[contender].append(record)
        cost = 1.0 if self._budget.steps is not None else time.monotonic() - began
        return Trial(record.val.accuracy, record.val.loss, cost, float(measure(record)["train_s"]))

    def images(self, replicates: int) -> int:
        """Return the number of different validation images, as expected of random divisions."""
        validation = self._count("val")
        if not self._folds:
            return validation
        pool = self.train_images + validation
        return round(pool * (1 - (1 - validation / pool) ** replicates))

    def selected(self, contender: Contender, replicate: int) -> SelectedCase:
        """Return the case of a contender with the seed and the validation images of a replicate."""
        network = self._networks[contender.network]
        changes = {**self.options_of(contender), **_of(network)}
        seed = self.options.get("validation_seed", 0) + replicate
        if self._folds and seed:
            changes["validation_seed"] = seed
        (one,) = expand(Selection(**{**self.options, **changes}), self._setup.catalogue)
        return one._replace(case=replace(one.case, seed=seed))

    def options_of(self, contender: Contender) -> dict[str, Any]:
        """Return the options of `run` for the method and length of a contender."""
        if contender.method == PROBE:
            return {"scenario": ("freeze-conv",), "features": ("kept",), "augment": ("none",)}
        epochs = self._lengths[contender.rung]
        if epochs is None:
            return {"scenario": (contender.method,)}
        if contender.rung < self.rungs - 1:
            epochs = max(epochs, self._least_epochs(contender.method))
        return {"scenario": (contender.method,), "epochs": epochs}

    def twins_of(self, contender: Contender) -> list[tuple[Contender, Certificate | None]]:
        """Return the same case in the backends that were left for the end, each with the certificate that covers it."""
        others = [contender._replace(network=name) for name, first in self.twins.items() if first == contender.network]
        return [(other, self._proof(contender, other)) for other in others]

    def _least_epochs(self, method: str) -> int:
        """Return the epochs after which every stage has steps that count: the first ones only warm up."""
        case = expand(Selection(**{**self.options, "scenario": (method,)}), self._setup.catalogue)[0].case
        steps = (self.train_images // stage.batch_size for stage in case.scenario.stages)
        return max(math.ceil((case.warmup_steps + 2) / max(1, count)) for count in steps)

    @property
    def _folds(self) -> bool:
        return self._setup.division.folds and self.train_images <= FOLDED

    def _count(self, split: str) -> int:
        count = self._setup.data.meta.counts[split]
        return min(count, self._setup.options.get("limit") or count)

    def _forecast(self) -> dict[Contender, float]:
        probes = [Contender(name, PROBE, self.rungs - 1) for name in self._networks]
        races = [
            Contender(n, method, rung) for n in self._networks for method in self.methods for rung in range(self.rungs)
        ]
        contenders = [*probes, *races]
        cases = [self.selected(contender, 0).case for contender in contenders]
        seconds = expected_s(cases, self._setup.writer.results_dir, self._setup.catalogue)
        return dict(zip(contenders, seconds, strict=True))

    def _certified_twins(self) -> dict[str, str]:
        """Return the networks with a certificate for every method beside an earlier backend, and that network."""
        found: dict[str, str] = {}
        firsts: dict[str, str] = {}
        for name, network in self._networks.items():
            first = firsts.setdefault(network.model, name)
            pairs = ([Contender(one, method, self.rungs - 1) for one in (first, name)] for method in self.methods)
            if first != name and self._proofs and all(self._proof(*pair) for pair in pairs):
                found[name] = first
        return found

    def _proof(self, one: Contender, other: Contender) -> Certificate | None:
        ours, theirs = self._subject(one), self._subject(other)
        return coverage_of(ours, theirs, self._proofs).certificate if ours and theirs else None

    def _subject(self, contender: Contender) -> Subject | None:
        try:
            case = self._setup.preparation.plan(self.selected(contender, 0)).required_job().case
        except (Declined, Refused):
            return None
        return subject_here(case, self._setup.catalogue, self._setup.machine)


def networks(options: Mapping[str, Any], methods: Sequence[str], catalogue: Catalogue) -> list[Network]:
    """Return the networks that the options name. Raises `Refused` if another option has several values."""
    cases = expand(Selection(**{**options, "scenario": tuple(methods)}), catalogue)
    found = list(dict.fromkeys(Network(one.case.backend, one.case.engine, one.case.model) for one in cases))
    if len(found) * len(methods) < len(cases):
        raise Refused("advise chooses backend, model and scenario; give one value of each other option")
    return found


def lengths(options: Mapping[str, Any]) -> list[int | None]:
    """Return the epochs of each rung: a quarter, a half, and the full length (None: as in the recipe).

    >>> lengths({"epochs": 8}), lengths({"epochs": 1}), lengths({"data": ("embedded",)})
    ([2, 4, 8], [1], [2, 4, None])
    """
    recipe = options.get("recipe") or ("embedded" if options.get("data") == ("embedded",) else "tutorial")
    full = options.get("epochs") or RECIPES[recipe].stage.epochs
    shorter = {max(1, round(full / 4)), max(1, round(full / 2))} - {full}
    return [*sorted(shorter), options.get("epochs")]


def small_batch(options: Mapping[str, Any], train_images: int) -> dict[str, Any]:
    """Return a batch size for a small training set, which every method can use; nothing if the user gave one.

    >>> small_batch({}, 12), small_batch({}, 63), small_batch({}, 244)
    ({'batch_size': (2,)}, {'batch_size': (8,)}, {})
    """
    if train_images >= SMALL_TRAIN or "batch_size" in options:
        return {}
    return {"batch_size": (max(2, 2 ** int(math.log2(max(2, train_images / STEPS)))),)}


def _of(network: Network) -> dict[str, Any]:
    engine = {"engine": (network.engine,)} if network.engine else {}
    return {"backend": (network.backend,), "model": (network.model,), **engine}
