"""What one arm of a certificate said, as data. See `harness.certifying.questions`, which asks."""

from __future__ import annotations

import msgspec

from harness.certifying.dropout_probe import Dropping
from harness.contract import Norm
from harness.spec import Part


class StageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one rehearsed stage said besides its arrays; one entry per step where there are several."""

    losses: tuple[float, ...]
    val_losses: tuple[float, ...]
    rates: tuple[dict[Part, float], ...]
    norms: tuple[Norm, ...]
    order_sha256: str
    pixels_sha256: str | None
    kept_epoch: int
    breaches: tuple[str, ...]


class TensorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter or buffer without its values."""

    name: str
    shape: tuple[int, ...]
    part: Part
    block: int
    role: str


class LayerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that holds parameters: its tensors' prefix, its output as (c, h, w), parameters, MACs of one image."""

    name: str
    output: tuple[int, ...]
    parameters: int
    macs: int


class StandInCost(msgspec.Struct, frozen=True, kw_only=True):
    """What stand-ins cost: seconds of a step of a scenario's first stage with them, and with the framework's own parts.

    Medians over `epochs` epochs of the mean step of each; `ratio` is the median of the epochs' own ratios. Both in one
    process, in turns of an epoch, not paced.
    """

    scenario: str
    stand_ins_s: float
    own_s: float
    ratio: float
    epochs: int


class ArmAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of an arm said; its arrays lie beside it. Scenarios and sizes in the order they were asked."""

    versions: dict[str, str]
    settings: dict[str, str | int | float | bool]
    device: str
    precision: str
    start: dict[str, dict[str, str]]
    """Digest of each tensor before the first step, per place."""
    images: dict[str, str] = {}
    """Digest of the normalised images of each place."""
    tensors: tuple[TensorFacts, ...] = ()
    layers: tuple[LayerFacts, ...] = ()
    dropping: tuple[Dropping, ...] = ()
    losses: dict[str, float] = {}
    stages: dict[str, tuple[StageFacts, ...]] = {}
    augmented: dict[str, str | None] = {}
    """Digest of an epoch of batches per augmentation, at its default parameters."""
    stand_ins: dict[str, str] = {}
    """The framework's own layers and optimizers that were replaced, to what stood in for them."""
    cost: StandInCost | None = None
