"""The behaviour of a dropout layer, measured from its output for an input of ones (V13)."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from harness.contract import Stochastic
from harness.spec import Part

Granularity = Literal["nothing", "sample", "channel", "element"]


class Dropping(msgspec.Struct, frozen=True, kw_only=True):
    """One dropout layer in one scenario: its declared `rate` and its measured behaviour.

    A unit is what the layer drops as a whole. `dropped` is the share of the `units` that were zero, `survivor` the
    value of the others.
    """

    scenario: str
    part: Part
    block: int
    rate: float
    active: bool
    granularity: Granularity
    dropped: float
    survivor: float
    units: int


def watch(scenario: str, layer: Stochastic) -> Dropping:
    """Summarise the outputs [n, ...] of a layer for an input of ones.

    >>> draws = np.repeat([[0.0], [2.0]], 6, axis=1)
    >>> watch("full", Stochastic("b", "backbone", 0, 0.5, True, draws)).granularity
    'sample'
    """
    draws = layer.draws
    zero = draws == 0
    flat = zero.reshape(len(zero), -1)
    if not zero.any():
        granularity: Granularity = "nothing"
        units = flat
    elif (flat == flat[:, :1]).all():
        granularity, units = "sample", flat[:, :1]
    elif zero.ndim == 4 and (zero == zero[:, :, :1, :1]).all():
        granularity, units = "channel", zero[:, :, 0, 0]
    else:
        granularity, units = "element", flat
    kept = draws[~zero]
    return Dropping(
        scenario=scenario,
        part=layer.part,
        block=layer.block,
        rate=layer.rate,
        active=layer.active,
        granularity=granularity,
        dropped=float(units.mean()),
        survivor=float(np.median(kept)) if kept.size else 0.0,
        units=int(units.size),
    )
