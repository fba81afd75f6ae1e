"""Keras 3 on TensorFlow, JAX or torch. Listing models imports none of them.

KERAS_BACKEND selects the engine before Keras is imported. Matched mode reproduces torch's batch norm and update rules
with small subclasses (`layers`, `optimizers`); `idiom` uses Keras' own layers, optimizers and constants.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from numpy.typing import NDArray

from backends.keras3.models import MODELS
from backends.keras3.requirements import ENGINES
from harness.auditing.auditor import Auditor, Frozen, Norm
from harness.contract import Model, Probe, Session
from harness.lazy import import_quickly
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
    "import_keras",
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


def import_keras() -> None:
    """Import Keras for the engine of KERAS_BACKEND, without other packages that are installed.

    It imports pandas and JAX, and TensorFlow imports JAX, to know their types: a quarter of the time.
    """
    engines = {"jax"} if os.environ.get("KERAS_BACKEND") in ("tensorflow", "torch") else set()
    import_quickly("keras", without={"pandas", *engines})


def decline(case: Case) -> str | None:
    """Return why this case cannot run here, or None. Imports Keras if it is installed."""
    from backends.keras3 import requirements

    if reason := requirements.missing_package(case.engine or ENGINES[0]):
        return reason
    import_keras()
    import_quickly(f"{__name__}.session")
    return requirements.decline(case)


def open_session(case: Case, model: Model, classes: int) -> Session:
    """Build and place the model. Raise `Declined` if the device is missing."""
    from backends.keras3 import engine, requirements, session
    from harness.errors import Declined

    name = requirements.running(case)
    device = engine.find_device(case.device)
    if device is None:
        raise Declined(f"{name} finds no CUDA device")
    return session.KerasSession(case, model, classes, device)


def open_probe(session: Session) -> Probe:
    """Return the probe of a session, for certificates."""
    from backends.keras3.probing.probe import KerasProbe
    from backends.keras3.session import KerasSession

    return KerasProbe(cast(KerasSession, session))


def probe_numerics(session: Session) -> Numerics:
    """Measure the precision of a session's operations."""
    from backends.keras3.probing.numerics import numerics
    from backends.keras3.session import KerasSession

    return numerics(cast(KerasSession, session))


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read a Keras file without running code from it: see `convert.read`."""
    import_keras()
    from backends.keras3.weights import convert

    return convert.read(path, model)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a Keras file: see `convert.write`."""
    import_keras()
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
    """Return the freeze audit of a user's model, for a `with` block around its training code: see docs/audit.md.

    `frozen` is a predicate on names, or an iterable of layers and prefixes of names; `norm` is as in a stage. The model
    is called with `batch` to test whether the frozen part is random. `classes` is the required width of the output. The
    default of `optimizer` is `model.optimizer`. Raises ValueError if `frozen` matches no tensor of the model.
    """
    from backends.keras3.probing.auditing import KerasWatch

    return Auditor(KerasWatch(model, frozen, optimizer, batch, classes), norm)
