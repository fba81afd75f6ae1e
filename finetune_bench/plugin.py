"""The names that a plugin needs besides `Model`, `Scenario` and `Stage`: the interface of a backend, data, weights."""

from __future__ import annotations

from harness.contract import Backend, Effective, Layer, Model, Session, Tensor
from harness.data.checkpoint import NORMALISATIONS, Published
from harness.schedule import factors
from harness.spec import Case, Optimizer, Scenario, Schedule, Stage

__all__ = [
    "NORMALISATIONS",
    "Backend",
    "Case",
    "Effective",
    "Layer",
    "Model",
    "Optimizer",
    "Published",
    "Scenario",
    "Schedule",
    "Session",
    "Stage",
    "Tensor",
    "factors",
]
