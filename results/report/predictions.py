"""Predicted classes and confidences for the test images, from stored logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from harness.errors import Refused
from results.report.page_data import Process, ShownCase
from results.report.thinning import evenly
from results.storage.objects import get_arrays
from results.tables.wording import plain
from results.verdicts.stored_comparisons import StoredComparison

NO_STEPS = np.zeros(0, dtype=np.int64)
POOLED = 5
"""Largest number of processes of a case whose predictions are counted together."""


class Predicted(NamedTuple):
    """The predictions of one process: for each image its number, its label, the predicted class, the confidence."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are correct."""
        return np.equal(self.labels, self.predicted)


class Answered(NamedTuple):
    """A case with stored predictions. `first` is the process with the lowest seed, `all` has up to POOLED of them."""

    case: ShownCase
    classes: tuple[str, ...]
    dataset_sha256: str
    image_size: int
    first: Predicted
    all: tuple[Predicted, ...]


class JudgedImages(NamedTuple):
    """Cases that were evaluated on the same images of one dataset."""

    dataset_sha256: str
    classes: tuple[str, ...]
    image_size: int
    cases: tuple[Answered, ...]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Numbers of the images in the prepared dataset."""
        return self.cases[0].first.ids

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the images."""
        return self.cases[0].first.labels


def compared_cases(compared: Iterable[StoredComparison], first: int) -> Iterator[ShownCase]:
    """Yield a case for each side of a comparison that has processes. Their numbers start at `first`."""
    number = first
    for one in compared:
        for side in ("A", "B"):
            records = [row.record for row in one.processes if row.side == side and row.record.status == "ok"]
            if records:
                case = records[0].case
                label = one.comparison.label if one.comparison else one.name
                setting = plain(f"side {side} of {label}")
                processes = tuple(Process({"seed": record.case.seed}, record, NO_STEPS) for record in records)
                names = (plain(case.model), plain(case.backend_name), plain(case.scenario.name))
                yield ShownCase(number, setting, *names, {}, processes)
                number += 1


def read_predictions(shown: Sequence[ShownCase], results_dir: Path) -> tuple[list[Answered], list[str]]:
    """Read the cases with stored logits, and a sentence for each with missing or changed logits."""
    answered, problems = [], []
    for case in shown:
        stored = [process for process in case.processes if process.record.logits]
        stored = evenly(sorted(stored, key=lambda process: int(process.row["seed"])), POOLED)
        try:
            read = [_read(process, results_dir) for process in stored]
        except Refused as error:
            problems.append(f"{case.name}: {error}")
            continue
        if read:
            record = stored[0].record
            sha256, size = record.case.dataset_sha256, record.case.image_size
            answered.append(Answered(case, tuple(map(plain, record.classes)), sha256, size, read[0], tuple(read)))
    return answered, list(dict.fromkeys(problems))


def judged_images(answered: Iterable[Answered]) -> list[JudgedImages]:
    """Group cases by their test images; predictions are comparable only within a group."""
    groups: dict[tuple[str, int, bytes], list[Answered]] = {}
    for one in answered:
        key = (one.dataset_sha256, one.image_size, one.first.ids.tobytes())
        groups.setdefault(key, []).append(one)
    return [JudgedImages(sha256, group[0].classes, size, tuple(group)) for (sha256, size, _), group in groups.items()]


def _read(process: Process, results_dir: Path) -> Predicted:
    arrays = get_arrays(results_dir, str(process.record.logits))
    labels, classes = arrays["labels"].astype(np.int64), len(process.record.classes)
    if arrays["logits"].shape != (len(labels), classes) or labels.max(initial=0) >= classes:
        raise Refused(f"its logits do not match the {classes} classes of its record")
    shares = softmax(arrays["logits"].astype(np.float64), axis=1)
    predicted = shares.argmax(axis=1)
    ids = arrays["ids"] if "ids" in arrays else np.arange(len(labels))
    return Predicted(ids.astype(np.int64), labels, predicted, shares[np.arange(len(labels)), predicted])
