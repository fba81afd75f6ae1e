"""Keras 3 on TensorFlow, JAX or torch. Naming a model imports none of them.

The engine is chosen by KERAS_BACKEND before Keras is imported. Matched mode reproduces torch's batch norm and update
rules by small subclasses (`layers`, `optimizers`); `idiom` uses Keras' own, with Keras' constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from numpy.typing import NDArray

from backends.keras3.models import MODELS
from backends.keras3.requirements import ENGINES
from harness.auditing.auditor import Auditor, Frozen, Norm
from harness.contract import Model, Probe, Session
from harness.running.numerics import Numerics
from harness.spec import Case

__all__ = [
    "ENGINES",
    "ENGINE_PACKAGES",
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

PACKAGES: tuple[str, ...] = ("keras", "tensorflow", "jax", "jaxlib", "torch", "h5py")
ENGINE_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow",),
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
}
FORMATS: tuple[str, ...] = (".weights.h5", ".keras", ".h5")


def decline(case: Case) -> str | None:
    """Why this case cannot run here, or None. Imports Keras if it is installed."""
    from backends.keras3 import requirements

    return requirements.missing_package(case.engine or ENGINES[0]) or requirements.decline(case)


def open_session(case: Case, model: Model, classes: int) -> Session:
    """Build and place the model, with any weights. Raises `Declined` if the device is not there."""
    from backends.keras3 import engine, requirements, session
    from harness.errors import Declined

    name = requirements.running(case)
    device = engine.find_device(case.device)
    if device is None:
        raise Declined(f"{name} finds no CUDA device")
    return session.KerasSession(case, model, classes, device)


def open_probe(session: Session) -> Probe:
    """Answers of a session of this backend to what certificates ask."""
    from backends.keras3.probing.probe import KerasProbe
    from backends.keras3.session import KerasSession

    return KerasProbe(cast(KerasSession, session))


def probe_numerics(session: Session) -> Numerics:
    """How exactly a session of this backend computes."""
    from backends.keras3.probing.numerics import numerics
    from backends.keras3.session import KerasSession

    return numerics(cast(KerasSession, session))


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read a Keras file without running anything in it: see `weights.read`."""
    from backends.keras3.weights import convert

    return convert.read(path, model)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a Keras file: see `weights.write`."""
    from backends.keras3.weights import convert

    convert.write(arrays, model, path)


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

    `frozen` is a predicate on names, or an iterable of layers and of beginnings of names; `norm` as in a stage.
    `batch` is what the model is called with to see whether the frozen part is random, `classes` the width that its
    output must have; `model.optimizer` is found by itself. Raises ValueError if `frozen` means no tensor of the model.
    """
    from backends.keras3.probing import auditing

    return auditing.audit(model, frozen=frozen, norm=norm, optimizer=optimizer, batch=batch, classes=classes)
