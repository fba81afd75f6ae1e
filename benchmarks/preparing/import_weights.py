"""A framework's file of weights becomes a neutral one, once, in a worker of a framework that reads it.

It is a file of one's own, or the one file that a checkpoint's name means for a model, whoever publishes it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

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


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file of weights and not said in it."""

    normalisation: Normalisation
    origin: str
    classes: tuple[str, ...] = ()


def own_checkpoint(path: Path, backend: str, model: str, normalisation: Normalisation, catalogue: Catalogue) -> Path:
    """The neutral file of a file of one's own, in a format of that backend. Raises `Declined` or `Refused`."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    known = Known(normalisation=normalisation, origin=f"{path.name} (SHA-256 {sha256})")
    return made_once(
        _place(model, sha256, normalisation),
        lambda partial: _import(path.resolve(), backend, model, known, catalogue, partial),
    )


def named_checkpoint(name: str, model: str, catalogue: Catalogue) -> Path:
    """The neutral file of the weights that are published for a model under a name, downloaded if need be.

    Raises `Declined` with address, digest and place where there is no network or the framework that reads the file is
    not installed, and `Refused` for a file of another digest.
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
    wanted = _wanted(f"the {name} weights of {model}, a file for {backend},", published)
    fetched = ask(fetch, {"wanted": wanted}, Fetched, timeout_s=1800)
    origin = f"{published.url} ({fetched.provenance})"
    known = Known(normalisation=published.normalisation, origin=origin, classes=published.classes)
    try:
        _import(Path(fetched.path), backend, model, known, catalogue, target)
    except Declined as reason:
        raise Declined(
            f"the {name} weights of {model} are read by {backend}, which cannot run here: {reason}; "
            f"the file is at {fetched.path}, from {origin}"
        ) from reason
    remember(wanted, fetched.digest)


def _wanted(what: str, published: Published) -> WantedFile:
    # Different publishers may give their files the same name.
    mark = hashlib.sha256(published.url.encode()).hexdigest()[:8]
    file_name = f"{mark}-{published.file_name}"
    return WantedFile(what, published.url, file_name, f"{file_name}.sha256.json", published.sha256)


def _import(path: Path, backend: str, model: str, known: Known, catalogue: Catalogue, target: Path) -> None:
    arguments = {"path": str(path), "backend": backend, "model": model, "known": known}
    arguments |= {"plugins": catalogue.plugins, "target": str(target)}
    reasons = []
    for engine in catalogue.backends[backend].engines or (None,):  # any engine reads, and not all are installed
        try:
            ask(import_file, arguments, str, engine=engine, timeout_s=1800)
            return
        except Declined as reason:
            reasons.append(reason)
    raise reasons[0]


def import_file(path: str, backend: str, model: str, known: Known, plugins: list[str], target: str) -> str:
    """Turn a framework's file into a neutral one; runs in a worker. Returns its SHA-256."""
    module, offered = find_model(backend, model, plugins)
    with noted() as notes:
        arrays, unmapped = module.import_weights(path, offered)
    refuse_not_finite(path, arrays)
    classifier = arrays.get(f"{offered.classifier}weight")
    if known.classes and classifier is not None and len(classifier) != len(known.classes):
        raise Refused(
            f"{path} has a classifier of {len(classifier)} classes, and {len(known.classes)} are named for it"
        )
    meta = write_checkpoint(
        target,
        arrays,
        model=model,
        normalisation=known.normalisation,
        origin=known.origin,
        classes=known.classes,
        head=offered.classifier,
        unmapped=unmapped,
        notes=tuple(notes),
    )
    return meta.sha256


def _place(name: str, *facts: object) -> Path:
    digest = hashlib.sha256(msgspec.json.encode([PROTOCOL, IMPORT, name, *facts])).hexdigest()[:16]
    return cache_folder() / "checkpoints" / f"{name}-{digest}.safetensors"
