"""PyTorch with torchvision and efficientnet_pytorch. Listing models imports none of them.

torch's semantics are the canonical ones, so matched mode changes little. `idiom` keeps the defaults of a plain script:
each layer's own batch-norm momentum, contiguous (channels-first) memory in every case, torch's settings for TF32 and
cuDNN autotuning, and denormals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from numpy.typing import NDArray

from backends.pytorch.models import MODELS
from harness.auditing.auditor import Auditor, Frozen, Norm
from harness.contract import Model, Probe, Session
from harness.lazy import import_quickly
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
    "prepare_process",
    "probe_numerics",
]

PACKAGES: tuple[str, ...] = ("torch", "torchvision", "efficientnet-pytorch")
ENGINES: tuple[str, ...] = ()
FORMATS: tuple[str, ...] = (".pth", ".pt", ".bin", ".safetensors")


def prepare_process() -> None:
    """Load torch's OpenMP before anything imports torch; see `requirements.load_openmp`."""
    from backends.pytorch import requirements

    requirements.load_openmp()


def decline(case: Case) -> str | None:
    """Return why this case cannot run here, or None. Imports torch if it is installed."""
    from backends.pytorch import requirements

    if reason := requirements.missing_package():
        return reason
    import_quickly(f"{__name__}.session")
    return requirements.decline(case)


def open_session(case: Case, model: Model, classes: int) -> Session:
    """Build and place the model. Raise `Refused` for a model whose parts do not fit together."""
    from backends.pytorch.session import TorchSession

    return TorchSession(case, model, classes)


def open_probe(session: Session) -> Probe:
    """Return the probe of a session, for certificates."""
    from backends.pytorch.probing.probe import TorchProbe
    from backends.pytorch.session import TorchSession

    return TorchProbe(cast(TorchSession, session))


def probe_numerics(session: Session) -> Numerics:
    """Measure the precision of a session's operations."""
    from backends.pytorch.probing.numerics import numerics
    from backends.pytorch.session import TorchSession

    return numerics(cast(TorchSession, session))


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read a state dict: see `convert.import_weights`."""
    import_quickly(f"{__name__}.weights.convert")
    from backends.pytorch.weights import convert

    return convert.import_weights(path, model)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a state dict: see `convert.export_weights`."""
    import_quickly(f"{__name__}.weights.convert")
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
    """Return the freeze audit of a user's model, for a `with` block around its training code: see docs/audit.md.

    `frozen` is a predicate on names, or an iterable of modules and prefixes of names; `norm` is as in a stage. The
    model is called with `batch` to test whether the frozen part is random. `classes` is the required width of the
    output. Optimizers are found when they step. Raises ValueError if `frozen` matches no tensor of the model.
    """
    from backends.pytorch.probing.auditing import TorchWatch

    return Auditor(TorchWatch(model, frozen, optimizer, batch, classes), norm)
