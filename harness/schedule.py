"""Learning-rate factors as one array per stage, the same for every backend (V21)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.spec import Schedule


def factors(schedule: Schedule, epochs: int, steps_per_epoch: int) -> NDArray[np.float64]:
    """Return the factor on the base learning rate for each optimizer step, float64 [epochs * steps_per_epoch].

    >>> factors(Schedule(name="step", every_epochs=1), 3, 1).round(6).tolist()
    [1.0, 0.1, 0.01]
    >>> factors(Schedule(name="cosine", warmup_steps=2), 1, 4).round(6).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    step = np.arange(epochs * steps_per_epoch, dtype=np.float64)
    warmup = min(schedule.warmup_steps, len(step))
    if schedule.name == "step":
        factor = schedule.factor ** np.floor(step / (schedule.every_epochs * steps_per_epoch))
    elif schedule.name == "cosine":
        progress = np.clip((step - warmup) / max(1, len(step) - warmup), 0.0, 1.0)
        factor = 0.5 * (1.0 + np.cos(np.pi * progress))
    else:
        factor = np.ones_like(step)
    factor[:warmup] = (step[:warmup] + 1) / max(1, warmup)
    return factor
