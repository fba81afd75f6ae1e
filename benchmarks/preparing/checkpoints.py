"""Find checkpoints: a file of any known format, published weights, or pretraining on the embedded source task.

Each becomes one neutral file in the cache; cases refer to it by its SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import NamedTuple

import msgspec

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.preparing.embedded_networks import embedded_network
from benchmarks.preparing.import_weights import named_checkpoint, own_checkpoint
from harness.data.checkpoint import NORMALISATIONS, Bare, Normalisation, read_checkpoint, read_meta
from harness.data.weight_files import ending_of, is_safetensors
from harness.errors import Refused, unknown
from harness.process.ask import ask
from harness.process.launch import Event


class FoundCheckpoint(NamedTuple):
    """A neutral checkpoint: its path, its SHA-256, and its name in records."""

    path: Path
    sha256: str
    name: str


def find_checkpoint(
    source: str,
    model: str,
    input_scaling: str | None,
    catalogue: Catalogue,
    source_dataset: Callable[[], tuple[str, str]],
    on_event: Callable[[Event], None],
) -> FoundCheckpoint:
    """Return the checkpoint that `source` means for a model; make or import it if necessary.

    `source_dataset` prepares the embedded source task and returns its folder and SHA-256. Raises `Refused` for a bad
    file, `Declined` for something that is not available on this machine.
    """
    if source == "embedded":
        return _found(embedded_network(model, catalogue, source_dataset, on_event), source)
    names = catalogue.published_names()
    if source in names:
        return _found(named_checkpoint(source, model, catalogue), source)
    path = Path(source)
    if not path.exists():
        near = "" if "/" in source or "." in source else f", and {unknown('checkpoint', source, ('embedded', *names))}"
        raise Refused(f"--checkpoint {source}: no such file{near}")
    if is_safetensors(path) and _is_neutral(path):
        meta = read_meta(path)
        if meta.model != model and _is_known(meta.model) and _is_known(model):
            raise Refused(f"{path} is a checkpoint of {meta.model}, not of {model}")
        ask(check_file, {"path": str(path.resolve())}, NoneType)
        return FoundCheckpoint(path.resolve(), meta.sha256, path.name)
    return _found(_imported(path, model, input_scaling, catalogue), path.name)


def parse_normalisation(text: str) -> Normalisation:
    """Return a named normalisation, or that of `R,G,B/R,G,B` (mean and std, from 0 to 1). Raises `Refused`.

    >>> parse_normalisation("0.5,0.5,0.5/0.25,0.25,0.25").std
    (0.25, 0.25, 0.25)
    """
    if text in NORMALISATIONS:
        return NORMALISATIONS[text]
    number = r"\d*\.?\d+"
    if not re.fullmatch(f"{number},{number},{number}/{number},{number},{number}", text):
        raise Refused(f"{unknown('normalisation', text, NORMALISATIONS)}, or mean and std as R,G,B/R,G,B")
    mean, std = (part.split(",") for part in text.split("/"))
    made = msgspec.convert({"mean": mean, "std": std}, Normalisation, strict=False)
    if 0 in made.std:
        raise Refused(f"normalisation {text}: the standard deviation must be above 0")
    return made


def check_file(path: str) -> None:
    """Raise `Refused` if a neutral file is invalid; runs in a worker, to keep the parent small."""
    read_checkpoint(path)


def _imported(path: Path, model: str, input_scaling: str | None, catalogue: Catalogue) -> Path:
    owners = {ending: name for name, facts in reversed(catalogue.backends.items()) for ending in facts.formats}
    ending = ending_of(path, tuple(owners))
    if ending is None:
        raise Refused(f"{path}: unknown checkpoint format; known formats: {', '.join(owners)}")
    if input_scaling is None:
        raise Refused(f"{path} has no input scaling; add --input-scaling {'|'.join(NORMALISATIONS)}")
    backend = owners[ending]
    if model not in catalogue.backends[backend].models:
        raise Refused(f"{path}: {backend} reads {ending} files but has no model {model}")
    return own_checkpoint(path, backend, model, parse_normalisation(input_scaling), catalogue)


def _found(neutral: Path, name: str) -> FoundCheckpoint:
    return FoundCheckpoint(neutral, read_meta(neutral).sha256, name)


def _is_neutral(path: Path) -> bool:
    try:
        read_meta(path)
    except Bare:
        return False
    return True


def _is_known(model: str) -> bool:
    # A user's changed network may load the matching tensors of a known model's checkpoint.
    return bool(read_catalogue().offering(model))
