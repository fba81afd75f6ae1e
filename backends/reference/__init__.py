"""The reference backend: a small network in NumPy, always installed, bitwise repeatable, and short enough to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from backends.reference.network import tiny_cnn
from backends.reference.numerics import numerics
from backends.reference.probe import ReferenceProbe
from backends.reference.session import ReferenceSession
from backends.reference.weights import FORMATS, export_weights, import_weights
from harness.contract import Model, Probe, Session
from harness.running.numerics import Numerics
from harness.spec import Case

__all__ = [
    "ENGINES",
    "FORMATS",
    "MODELS",
    "PACKAGES",
    "decline",
    "export_weights",
    "import_weights",
    "open_probe",
    "open_session",
    "probe_numerics",
]

PACKAGES: tuple[str, ...] = ("numpy",)
ENGINES: tuple[str, ...] = ()
MODELS: Mapping[str, Model] = {
    "tiny-cnn": Model(
        name="tiny-cnn",
        build=tiny_cnn,
        classifier="classifier.",
        blocks=3,
        minimum_size=16,
        gmacs=0.01,
        about="three strided 3x3 convolutions with batch norm, 6 088 parameters without the head",
    )
}


def decline(case: Case) -> str | None:
    """Return why this case cannot run here, or None."""
    reasons = {
        "the reference backend runs on the CPU only": case.device == "cuda",
        f"the reference backend computes in fp32 and fp64 only, not in {case.precision}": case.precision
        not in ("fp32", "fp64"),
        "the reference backend keeps its activations channels-last": case.layout != "channels-last",
        "the reference backend has no compiler": case.compile,
        "the reference backend has no fused optimizer": case.fused,
        "the reference backend does not fold batch norms; leave out --fold-norms": case.fold_norms,
        "the reference backend reads no files in training; leave out --decoder": case.decoder != "pillow",
        "the reference backend has no native input pipeline; use --input arrays or stream": case.input == "native",
        "the reference backend has no native defaults; it follows torch's semantics": case.native,
        "the reference backend has no data parallelism; leave out --devices": case.devices > 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def open_session(case: Case, model: Model, classes: int) -> Session:
    """Build the model."""
    return ReferenceSession(case, model, classes)


def open_probe(session: Session) -> Probe:
    """Return the probe of a session, for certificates."""
    return ReferenceProbe(cast(ReferenceSession, session))


def probe_numerics(session: Session) -> Numerics:
    """Measure the precision of a session's operations."""
    return numerics(cast(ReferenceSession, session).dtype)
