"""In which order samples come. Decided by (seed, epoch) alone, so that anybody can say what it should have been."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.spec import Case


def stage_seed(case: Case, number: int) -> int:
    """Seed of the feed of a case's stage, counted from 0; no two stages of a case share one."""
    return case.seed * 1000 + number


def epoch_order(samples: int, batch_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Positions within a split of that many samples, whole batches only, int64 [batches * batch_size]."""
    shuffle = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
    return shuffle.permutation(samples)[: samples // batch_size * batch_size]
