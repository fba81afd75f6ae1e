"""Where a pretrained network comes from: a file of any known format, the framework's own, or the embedded source task.

Whatever it was, it becomes one neutral file in the cache, once; cases name it by its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from benchmarks.catalogue import Catalogue, read_catalogue
from benchmarks.datasets.cache import cache_folder, made_once
from benchmarks.names import unknown
from benchmarks.scenarios import PRETRAINING, PRETRAINING_AUGMENT
from harness import PROTOCOL
from harness.augment import parse_augment
from harness.checkpoint import (
    NORMALISATIONS,
    Bare,
    Normalisation,
    read_checkpoint,
    read_meta,
    refuse_not_finite,
    write_checkpoint,
)
from harness.errors import Declined, Refused
from harness.importing import IMPORT, noted
from harness.kept import NEUTRAL
from harness.launch import Event, launch
from harness.machine import usable_cores
from harness.plugins import find_model
from harness.record import Record
from harness.spec import Case, Job
from harness.weight_files import ending_of, is_safetensors

FRAMEWORK_NAMES = ("imagenet",)


class Found(NamedTuple):
    """A neutral checkpoint: where, its SHA-256, and what it is called in a record."""

    path: Path
    sha256: str
    name: str


def find_checkpoint(
    source: str,
    case: Case,
    normalise: str | None,
    catalogue: Catalogue,
    source_dataset: Callable[[], tuple[str, str]],
    on_event: Callable[[Event], None],
) -> Found:
    """The checkpoint that `source` means for the model of a case, made or imported if need be.

    `source_dataset` prepares the embedded source task and returns its folder and SHA-256. Raises `Refused` for a bad
    file, `Declined` for what cannot be had here.
    """
    if source == "embedded":
        return _pretrained(case.model, catalogue, source_dataset, on_event)
    if source in FRAMEWORK_NAMES:
        return _named(source, case, catalogue)
    path = Path(source)
    if not path.exists():
        near = "" if "/" in source or "." in source else f"; {unknown('checkpoint', source, ('embedded', 'imagenet'))}"
        raise Refused(f"--checkpoint {source}: no such file{near}")
    if is_safetensors(path) and _is_neutral(path):
        meta = read_meta(path)
        if meta.model != case.model and _is_known(meta.model) and _is_known(case.model):
            raise Refused(f"{path} holds a {meta.model}, not a {case.model}")
        with tempfile.TemporaryDirectory() as folder:
            launch("benchmarks.checkpoints:check_file", {"path": str(path.resolve())}, folder=Path(folder)).require()
        return Found(path.resolve(), meta.sha256, path.name)
    return _imported(path, case, normalise, catalogue)


def parse_normalisation(text: str) -> Normalisation:
    """A named normalisation, or `R,G,B/R,G,B` (mean and std on the scale 0 to 1). Raises `Refused`.

    >>> parse_normalisation("0.5,0.5,0.5/0.25,0.25,0.25").std
    (0.25, 0.25, 0.25)
    """
    if text in NORMALISATIONS:
        return NORMALISATIONS[text]
    number = r"\d*\.?\d+"
    if not re.fullmatch(f"{number},{number},{number}/{number},{number},{number}", text):
        raise Refused(f"{unknown('normalisation', text, NORMALISATIONS)}; or R,G,B/R,G,B for mean and std")
    mean, std = (part.split(",") for part in text.split("/"))
    made = msgspec.convert({"mean": mean, "std": std}, Normalisation, strict=False)
    if 0 in made.std:
        raise Refused(f"normalisation {text}: a standard deviation of 0 leaves nothing of the input")
    return made


def check_file(path: str) -> None:
    """Raise `Refused` if a neutral file cannot be used; runs in a worker, to keep the parent small."""
    read_checkpoint(path)


def import_file(path: str, backend: str, model: str, normalise: str, plugins: list[str], target: str) -> str:
    """Turn a framework's file into a neutral one; runs in a worker. Returns its SHA-256."""
    module, offered = find_model(backend, model, plugins)
    with noted() as notes:
        arrays, unmapped = module.import_weights(path, offered)
    refuse_not_finite(path, arrays)
    meta = write_checkpoint(
        target,
        arrays,
        model=model,
        normalisation=parse_normalisation(normalise),
        origin=f"{Path(path).name} (SHA-256 {_file_digest(Path(path))})",
        head=offered.classifier,
        unmapped=unmapped,
        notes=tuple(notes),
    )
    return meta.sha256


def fetch_named(backend: str, model: str, plugins: list[str], target: str) -> str:
    """Turn a framework's named ImageNet weights into a neutral file; runs in a worker. Returns its SHA-256."""
    module, offered = find_model(backend, model, plugins)
    arrays, normalisation, classes, origin = module.named_weights(offered)
    meta = write_checkpoint(
        target,
        arrays,
        model=model,
        normalisation=normalisation,
        origin=origin,
        classes=classes,
        head=offered.classifier,
    )
    return meta.sha256


def _imported(path: Path, case: Case, normalise: str | None, catalogue: Catalogue) -> Found:
    owners = {ending: name for name, facts in reversed(catalogue.backends.items()) for ending in facts.formats}
    ending = ending_of(path, tuple(owners))
    if ending is None:
        raise Refused(f"{path}: no known checkpoint format (known: {', '.join(owners)})")
    if normalise is None:
        raise Refused(f"{path} does not say how its inputs are scaled; add --normalise {'|'.join(NORMALISATIONS)}")
    backend = owners[ending]
    if case.model not in catalogue.backends[backend].models:
        raise Refused(f"{path}: {backend} reads {ending} files but has no model {case.model}")
    parse_normalisation(normalise)
    key = f"{_file_digest(path)} {case.model} {normalise} {PROTOCOL} {IMPORT}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    arguments = {"path": str(path.resolve()), "backend": backend, "model": case.model, "normalise": normalise}
    target = made_once(
        _home() / f"{case.model}-{digest}.safetensors",
        lambda partial: _in_worker("import_file", arguments, catalogue, partial),
    )
    return Found(target, read_meta(target).sha256, path.name)


def _named(source: str, case: Case, catalogue: Catalogue) -> Found:
    target = made_once(
        _home() / f"{case.model}-{source}-{case.backend}.safetensors",
        lambda partial: _in_worker("fetch_named", {"backend": case.backend, "model": case.model}, catalogue, partial),
    )
    return Found(target, read_meta(target).sha256, source)


def _pretrained(
    model: str,
    catalogue: Catalogue,
    source_dataset: Callable[[], tuple[str, str]],
    on_event: Callable[[Event], None],
) -> Found:
    folder, sha256 = source_dataset()
    reason = Declined(f"no backend can pretrain {model}")
    for backend in catalogue.offering(model):
        case = Case(
            backend=backend,
            engine=catalogue.engine(backend),
            model=model,
            scenario=PRETRAINING.get(model, PRETRAINING["*"]),
            dataset="embedded-source",
            dataset_sha256=sha256,
            image_size=64,
            augment=parse_augment(PRETRAINING_AUGMENT),
            dropout=False,
        )
        digest = hashlib.sha256(msgspec.json.encode([PROTOCOL, case])).hexdigest()[:16]
        case = replace(case, threads=len(usable_cores()))
        job = Job(case=case, dataset_path=folder, plugins=catalogue.plugins, train_pass=200)
        try:
            target = made_once(_home() / f"{model}-embedded-{digest}.safetensors", partial(_pretrain, job, on_event))
        except Declined as error:
            reason = error
        else:
            return Found(target, read_meta(target).sha256, "embedded")
    raise reason


def _pretrain(job: Job, on_event: Callable[[Event], None], target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        outcome = launch(
            "harness.run:run_case",
            {"job": msgspec.to_builtins(replace(job, save_model=f"{scratch}/kept"))},
            folder=Path(scratch) / "job",
            engine=job.case.engine,
            on_event=lambda event: on_event({"pretraining": job.case.model, **event}),
        )
        record = msgspec.json.decode(outcome.require(), type=Record)
        shutil.move(Path(record.artefacts["model"]) / NEUTRAL, target)


def _in_worker(function: str, arguments: Mapping[str, object], catalogue: Catalogue, target: Path) -> None:
    engine = catalogue.engine(str(arguments["backend"]))
    everything = {**arguments, "plugins": catalogue.plugins, "target": str(target)}
    with tempfile.TemporaryDirectory() as folder:
        call = f"benchmarks.checkpoints:{function}"
        launch(call, everything, folder=Path(folder), engine=engine, timeout_s=1800).require()


def _is_neutral(path: Path) -> bool:
    try:
        read_meta(path)
    except Bare:
        return False
    return True


def _is_known(model: str) -> bool:
    # A user's changed network may take what fits of the checkpoint of a known one.
    return bool(read_catalogue().offering(model))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _home() -> Path:
    return cache_folder() / "checkpoints"
