"""The expected time and disk space of a run, from earlier records of this machine or a rough estimate."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.running.terminal import aligned, roughly
from harness.data.augment import view_count
from harness.process.machine import Machine, describe_machine
from harness.running.evaluate import TRAIN_SAMPLE
from harness.spec import SETTINGS, Case
from results.storage.rows import ProcessRow, scan

START_S = {"pytorch": 6.0, "keras3": 15.0}
"""Seconds to import, build and (in Keras) compile on a slow core; other backends take a second."""
GMACS_PER_CORE_S = 15.0
"""Billions of multiply-accumulates per second and core, typical for these networks."""
LONG_S = 600.0
"""Commands print their expected time if it is longer."""
RECORD_BYTES = 60_000
EMBEDDED = (96, 80)
"""Training and validation images of the embedded task."""
PHOTOS = (250, 150)
"""The same for a small set of photos."""
EMBEDDED_IMAGES = 736


def forecast(cases: Sequence[Case], results: Path, catalogue: Catalogue, *, kept: bool = False) -> str:
    """Return one line per case with its expected seconds, and the sums of time and disk space. Measures nothing.

    `kept` says whether the networks are saved; their size is unknown.
    """
    measured = _measured(results, describe_machine())
    rows, total, guessed = [], 0.0, 0
    for case in cases:
        known = measured.get(_likeness(case))
        seconds = statistics.median(known) if known else _guess(case, catalogue)
        guessed += known is None
        total += seconds
        rows.append((case.label, f"{'' if known else '~'}{seconds:.0f} s"))
    lines = [aligned(rows, right={1})] if rows else []
    disk = len(cases) * RECORD_BYTES / 2**20
    lines.append(f"{len(cases)} cases, about {roughly(total)}; results take about {disk:.1f} MB")
    if kept:
        lines.append(f"--save-model also stores {len(cases)} networks, each in two files")
    if guessed:
        lines.append(f"~ {guessed} of these times are rough estimates: this machine ran no similar case before")
    pixels = sum(_prepared_bytes(*data) for data in {(case.dataset, case.image_size) for case in cases}) / 2**20
    size = f"; the data takes about {pixels:.0f} MB" if pixels else ""
    lines.append(f"data and pretrained networks are prepared once and kept in the cache (see `cache`){size}")
    return "\n".join(lines)


def expected_s(cases: Sequence[Case], results: Path, catalogue: Catalogue) -> list[float]:
    """Return the seconds that each case took before on this machine, or an estimate."""
    measured = _measured(results, describe_machine())
    found = ((case, measured.get(_likeness(case))) for case in cases)
    return [statistics.median(seconds) if seconds else _guess(case, catalogue) for case, seconds in found]


def nominal_s(case: Case, catalogue: Catalogue) -> float:
    """Return the seconds of a case on one slow core, from the case and its model alone.

    The value is the same on every machine: it depends on no record, no processor and no file. Every image folder
    counts as `PHOTOS`, and products are used where a power could be rounded differently.
    """
    return _seconds(case, catalogue, EMBEDDED if case.dataset == "embedded" else PHOTOS, 1)


def say_if_long(least_s: float, most_s: float, remedy: str) -> None:
    """Print the expected time on stderr if it is over ten minutes, and how to make it shorter."""
    if most_s <= LONG_S:
        return
    least, most = (f"{seconds / 60:.0f}" for seconds in (least_s, most_s))
    span = f"about {most}" if least == most else f"{least} to {most}" if least_s else f"up to {most}"
    click.echo(f"this is expected to take {span} min; {remedy}", err=True)


def _measured(results: Path, machine: Machine) -> dict[tuple[object, ...], list[float]]:
    found: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for file in (results / "runs" / machine.key).rglob("*.jsonl"):
        for line in scan(file):
            if isinstance(line.row, ProcessRow) and line.row.record.status == "ok":
                found[_likeness(line.row.record.case)].append(line.row.record.total_s)
    return found


def _likeness(case: Case) -> tuple[object, ...]:
    epochs = tuple((stage.epochs, stage.batch_size) for stage in case.scenario.stages)
    settings = (str(getattr(case, name)) for name, setting in SETTINGS.items() if setting.role == "setting")
    return case.backend_name, case.model, case.scenario.name, epochs, Path(case.dataset).name, *settings


def _guess(case: Case, catalogue: Catalogue) -> float:
    return _seconds(case, catalogue, _images(case.dataset), case.cores)


def _seconds(case: Case, catalogue: Catalogue, images: tuple[int, int], threads: int) -> float:
    gmacs = catalogue.backends[case.backend].models[case.model].gmacs * case.image_size * case.image_size / (224 * 224)
    train, validation = (min(count, case.limit or count) for count in images)
    evaluated = validation + min(train, TRAIN_SAMPLE)
    seconds = START_S.get(case.backend, 1.0)
    for stage in case.scenario.stages:
        fixed = stage.fixed_part == "backbone"
        views = min(stage.epochs, view_count(case.augment)) if fixed and case.features == "kept" else stage.epochs
        passes = (1 if stage.frozen == "backbone" else 3) * views * train
        passes += (1 if fixed else stage.epochs) * evaluated  # a fixed backbone sees an evaluated image once
        seconds += passes * gmacs / (GMACS_PER_CORE_S * threads)
    return seconds


def _images(dataset: str) -> tuple[int, int]:
    folder = Path(dataset).expanduser()
    if not folder.is_dir():
        return EMBEDDED
    root = folder / "train" if (folder / "train").is_dir() else folder
    count = sum(len(files) for _, _, files in os.walk(root))
    return count, round(0.6 * count)


def _prepared_bytes(dataset: str, image_size: int) -> float:
    """Return the bytes of the decoded images, with a margin of a seventh; 0 if their number is unknown."""
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        count = sum(len(files) for _, _, files in os.walk(folder))
        return count * (image_size * 8 / 7) ** 2 * 3
    return EMBEDDED_IMAGES * image_size**2 * 3 if dataset == "embedded" else 0
