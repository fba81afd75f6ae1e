"""Convert a framework's file of weights to a neutral file, once, in a worker of a backend that reads the format.

The file is the user's, or the published file that a name such as `imagenet` means for a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.datasets.cache import cache_folder, made_once
from benchmarks.datasets.downloads import Fetched, WantedFile, fetch, remember
from harness import PROTOCOL
from harness.data.checkpoint import Normalisation, Published, refuse_not_finite, write_checkpoint
from harness.data.weight_files import IMPORT, noted
from harness.errors import Declined, Refused
from harness.plugins import find_model
from harness.process.ask import ask


class WeightFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a file of weights that are not in the file."""

    normalisation: Normalisation
    origin: str
    classes: tuple[str, ...] = ()


def own_checkpoint(path: Path, backend: str, model: str, normalisation: Normalisation, catalogue: Catalogue) -> Path:
    """Return the neutral file for a user's file in a format of the backend. Raises `Declined` or `Refused`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    facts = WeightFacts(normalisation=normalisation, origin=f"{path.name} (SHA-256 {sha256})")
    return made_once(
        _place(model, sha256, normalisation),
        lambda partial: _import(path.resolve(), backend, model, facts, catalogue, partial),
    )


def named_checkpoint(name: str, model: str, catalogue: Catalogue) -> Path:
    """Return the neutral file of a model's published weights; download it if necessary.

    Raises `Declined` with address, digest and path if there is no network or the framework that reads the file is not
    installed, and `Refused` for a file with another digest.
    """
    found = catalogue.publisher(model, name)
    if found is None:
        raise Declined(f"{model} has no published {name} weights; use --checkpoint FILE or --checkpoint embedded")
    backend, published = found
    return made_once(
        _place(f"{model}-{name}", backend, published),
        lambda partial: _import_published(name, backend, model, published, catalogue, partial),
    )


def _import_published(
    name: str, backend: str, model: str, published: Published, catalogue: Catalogue, target: Path
) -> None:
    what = f"the {name} weights of {model}, a file for {backend},"
    # Files of different publishers may have the same name.
    file_name = f"{hashlib.sha256(published.url.encode()).hexdigest()[:8]}-{published.file_name}"
    wanted = WantedFile(what, published.url, file_name, f"{file_name}.sha256.json", published.sha256)
    fetched = ask(fetch, {"wanted": wanted}, Fetched, timeout_s=1800)
    origin = f"{published.url} ({fetched.provenance})"
    facts = WeightFacts(normalisation=published.normalisation, origin=origin, classes=published.classes)
    try:
        _import(Path(fetched.path), backend, model, facts, catalogue, target)
    except Declined as reason:
        raise Declined(
            f"the {name} weights of {model} are read by {backend}, which cannot run here: {reason}; "
            f"the file is at {fetched.path}, from {origin}"
        ) from reason
    remember(wanted, fetched.digest)


def _import(path: Path, backend: str, model: str, facts: WeightFacts, catalogue: Catalogue, target: Path) -> None:
    arguments = {"path": str(path), "backend": backend, "model": model, "facts": facts}
    arguments |= {"plugins": catalogue.plugins, "target": str(target)}
    reasons = []
    for engine in catalogue.backends[backend].engines or (None,):  # every engine can read, but some are not installed
        try:
            ask(import_file, arguments, str, engine=engine, timeout_s=1800)
            return
        except Declined as reason:
            reasons.append(reason)
    raise reasons[0]


def import_file(path: str, backend: str, model: str, facts: WeightFacts, plugins: list[str], target: str) -> str:
    """Convert a framework's file to a neutral one, in a worker; return its SHA-256."""
    module, offered = find_model(backend, model, plugins)
    with noted() as notes:
        arrays, unmapped = module.import_weights(path, offered)
    refuse_not_finite(path, arrays)
    classifier = arrays.get(f"{offered.classifier}weight")
    if facts.classes and classifier is not None and len(classifier) != len(facts.classes):
        raise Refused(f"{path} has a classifier of {len(classifier)} classes, but {len(facts.classes)} are published")
    of_file: dict[str, Any] = {"head": offered.classifier, "unmapped": unmapped, "notes": tuple(notes)}
    return write_checkpoint(target, arrays, model=model, **msgspec.structs.asdict(facts), **of_file).sha256


def _place(name: str, *facts: object) -> Path:
    digest = hashlib.sha256(msgspec.json.encode([PROTOCOL, IMPORT, name, *facts])).hexdigest()[:16]
    return cache_folder() / "checkpoints" / f"{name}-{digest}.safetensors"
