"""PyTorch with torchvision and efficientnet_pytorch. Naming a model imports none of them.

Matched mode is nearly torch's own: its semantics are the canonical ones. `idiom` differs in what a plain script would
leave alone: each layer's own batch-norm momentum, contiguous (channels-first) memory whatever the case says, TF32 and
cuDNN autotuning as torch ships them, and denormals kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from numpy.typing import NDArray

from backends.pytorch.models import MODELS
from harness.auditing.auditor import Auditor, Frozen, Norm
from harness.contract import Model, Probe, Session
from harness.running.numerics import Numerics
from harness.spec import Case

__all__ = [
    "ENGINES",
    "FORMATS",
    "MODELS",
    "PACKAGES",
    "audit",
    "decline",
    "export_weights",
    "import_weights",
    "open_probe",
    "open_session",
    "probe_numerics",
]

PACKAGES: tuple[str, ...] = ("torch", "torchvision", "efficientnet-pytorch")
ENGINES: tuple[str, ...] = ()
FORMATS: tuple[str, ...] = (".pth", ".pt", ".bin", ".safetensors")


def decline(case: Case) -> str | None:
    """Why this case cannot run here, or None. Imports torch if it is installed."""
    from backends.pytorch import requirements

    return requirements.missing_package() or requirements.decline(case)


def open_session(case: Case, model: Model, classes: int) -> Session:
    """Build and place the model, with any weights. Raises `Refused` for a model whose parts do not fit together."""
    from backends.pytorch.session import TorchSession

    return TorchSession(case, model, classes)


def open_probe(session: Session) -> Probe:
    """Answers of a session of this backend to what certificates ask."""
    from backends.pytorch.probing.probe import TorchProbe
    from backends.pytorch.session import TorchSession

    return TorchProbe(cast(TorchSession, session))


def probe_numerics(session: Session) -> Numerics:
    """How exactly a session of this backend computes."""
    from backends.pytorch.probing.numerics import numerics
    from backends.pytorch.session import TorchSession

    return numerics(cast(TorchSession, session))


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read a state dict: see `weights.import_weights`."""
    from backends.pytorch.weights import convert

    return convert.import_weights(path, model)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a state dict: see `weights.export_weights`."""
    from backends.pytorch.weights import convert

    convert.export_weights(arrays, model, path)


def audit(
    model: Any,
    *,
    frozen: Frozen = (),
    norm: Norm = "auto",
    optimizer: Any = None,
    batch: Any = None,
    classes: int | None = None,
) -> Auditor:
    """The freeze audit of one's own model, for a `with` block around the code that trains it: see docs/audit.md.

    `frozen` is a predicate on names, or an iterable of modules and of beginnings of names; `norm` as in a stage.
    `batch` is what the model is called with to see whether the frozen part is random, `classes` the width that its
    output must have; optimizers are found when they step. Raises ValueError if `frozen` means no tensor of the model.
    """
    from backends.pytorch.probing import auditing

    return auditing.audit(model, frozen=frozen, norm=norm, optimizer=optimizer, batch=batch, classes=classes)
