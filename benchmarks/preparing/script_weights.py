"""The pretrained weights of a case, for a script of its framework: one file, without the classifier."""

from __future__ import annotations

from pathlib import Path
from types import NoneType

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint
from benchmarks.preparing.plan import Preparation
from harness.data.checkpoint import Normalisation, read_checkpoint, read_meta
from harness.errors import Refused
from harness.plugins import find_model
from harness.process.ask import ask
from harness.running.opening import WITHOUT_CHECKPOINT
from harness.spec import Case


def checkpoint_of(case: Case, file: str | None, input_scaling: str | None) -> FoundCheckpoint | None:
    """Return the checkpoint of a stored case: `file`, or the one that its name means; None if it has none.

    Raises `Refused` if its weights are not those of the case, and as `find_checkpoint` does.
    """
    if case.checkpoint is None:
        return None
    catalogue = read_catalogue()
    preparation = Preparation(catalogue, lambda event: None)
    source = file or case.checkpoint
    if file is None and source != "embedded" and source not in catalogue.published_names():
        raise Refused(f"the run started from the file {source}; give it with --checkpoint")
    tools = catalogue, preparation.embedded_source, lambda event: None
    found = find_checkpoint(source, case.model, input_scaling, *tools)
    if found.sha256 != case.checkpoint_sha256:
        raise Refused(f"--checkpoint {source}: other weights than those of the run; give the file that it started from")
    return found


def scaling_of(found: FoundCheckpoint | None) -> Normalisation:
    """Return the input scaling of a case with this checkpoint."""
    return read_meta(found.path).normalisation if found else WITHOUT_CHECKPOINT


def write_weights(case: Case, found: FoundCheckpoint, target: Path) -> None:
    """Write the weights in a format of the case's framework, in a worker. Raises `Declined` without the framework."""
    arguments = {"case": case, "checkpoint": str(found.path), "target": str(target.resolve())}
    ask(export_backbone, arguments, NoneType, engine=case.engine)


def export_backbone(case: Case, checkpoint: str, target: str) -> None:
    """Convert a neutral checkpoint without its classifier; runs in a worker."""
    backend, model = find_model(case.backend, case.model, ())
    left_out = (model.classifier, "head.")
    arrays = {n: array for n, array in read_checkpoint(checkpoint).arrays.items() if not n.startswith(left_out)}
    backend.export_weights(arrays, model, target)
