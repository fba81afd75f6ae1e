"""The answers of one arm of a certificate, as data. `harness.certifying.questions` produces them."""

from __future__ import annotations

import msgspec

from harness.certifying.dropout_probe import Dropping
from harness.contract import Norm
from harness.spec import Part


class StageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one stage of training, without its arrays; tuples have one entry per step."""

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
    """A layer with parameters: prefix of its tensors, output shape (c, h, w), parameter count, MACs per image."""

    name: str
    output: tuple[int, ...]
    parameters: int
    macs: int


class StandInCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of stand-ins: seconds per step of a first stage, with them and with the framework's own parts.

    Seconds are medians over `epochs` epochs of the mean step; `ratio` is the median of the ratios per epoch. Both
    variants run in one process and take turns of one epoch.
    """

    scenario: str
    stand_ins_s: float
    own_s: float
    ratio: float
    epochs: int


class ArmAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one process of an arm, without its arrays. Scenarios and sizes keep the order of the questions."""

    versions: dict[str, str]
    settings: dict[str, str | int | float | bool]
    device: str
    precision: str
    start: dict[str, dict[str, str]]
    """Digest of each tensor before the first step, by start and image size."""
    images: dict[str, str] = {}
    """Digest of the normalised images, by start and image size."""
    tensors: tuple[TensorFacts, ...] = ()
    layers: tuple[LayerFacts, ...] = ()
    dropping: tuple[Dropping, ...] = ()
    losses: dict[str, float] = {}
    stages: dict[str, tuple[StageFacts, ...]] = {}
    augmented: dict[str, str | None] = {}
    """Digest of one epoch of batches for each augmentation with its default parameters."""
    stand_ins: dict[str, str] = {}
    """Replacement of each of the framework's own layers and optimizers that was replaced."""
    cost: StandInCost | None = None
