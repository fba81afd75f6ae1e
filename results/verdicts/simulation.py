"""Simulated step times of noisy machines, to measure how often verdicts are right. Reproducible from a seed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from results.storage.comparison import LOOKS, Verdict
from results.verdicts.estimate import decide

Array = NDArray[np.float64]
MARGIN = 0.03
CHANGES = (0.0, 0.03, 0.05, 0.10)
STEPS, QUADS = 40, 3
"""Steps of a turn (half a second of 12.5 ms) and quads of a pair, as in `compare`."""
SIDE = 2 * QUADS
SPIKE = (2.0, 4.0)  # range of the factor by which a spike lengthens a step
BATCH = 100  # comparisons that are simulated together, to limit memory
STORED_THRESHOLD = 0.10
POOLED_PAIRS = 5


class NoiseSetting(NamedTuple):
    """The noise of a machine, in shares. `burst` is (probability per step, mean length in steps, largest factor)."""

    name: str
    process_sd: float
    step_sd: float
    correlation: float
    drift: float
    job_sd: float
    burst: tuple[float, float, float]
    spikes: float
    slowed: float
    slowed_by: tuple[float, float] = (1.15, 1.8)


SETTINGS = (
    NoiseSetting("quiet", 0.01, 0.03, 0.5, 0.005, 0.01, (0.0, 1.0, 1.0), 0.002, 0.0),
    NoiseSetting("shared", 0.02, 0.05, 0.7, 0.02, 0.03, (1 / 300, 15.0, 1.6), 0.005, 0.01),
    NoiseSetting("noisy", 0.03, 0.08, 0.8, 0.04, 0.05, (1 / 200, 25.0, 1.8), 0.01, 0.04),
)


class Cell(msgspec.Struct, frozen=True):
    """Shares of verdicts over `comparisons` of one setting and one true change.

    `covered` is the share of final intervals that contain the true change, `pairs` the mean number of pairs.
    `threshold` is the share of alarms of a 10 % limit on the mean of a stored run, `pooled` that of Mann-Whitney at 5 %
    on pooled steps.
    """

    setting: str
    change: float
    comparisons: int
    regressions: float
    improvements: float
    undecided: float
    covered: float
    pairs: float
    threshold: float
    pooled: float


def simulate(setting: NoiseSetting, change: float, comparisons: int, seed: int) -> Cell:
    """Simulate comparisons with a side that is slower by `change`, with the verdicts of `compare`."""
    draw = np.random.default_rng([seed, *setting.name.encode(), round(change * 1e6)])
    verdicts: list[Verdict] = []
    covered = pairs = threshold = pooled = 0.0
    for start in range(0, comparisons, BATCH):
        size = min(BATCH, comparisons - start)
        batch = _turns(setting, change, size, draw)
        for log_ratios in _log_ratios(batch):
            decision = decide(log_ratios.tolist(), MARGIN)
            verdicts.append(decision.verdict)
            covered += decision.estimate.low <= math.log1p(change) <= decision.estimate.high
            pairs += decision.estimate.pairs
        job = np.exp(setting.job_sd * draw.standard_normal((2, size)))
        stored, now = batch[:, 0, 0].mean((1, 2)) * job[0], batch[:, 0, 1].mean((1, 2)) * job[1]
        rise = now / stored - 1
        threshold += float(np.sum(np.abs(rise) > STORED_THRESHOLD if change == 0 else rise > STORED_THRESHOLD))
        pooled += _mann_whitney(batch, either=change == 0)
    return Cell(
        setting=setting.name,
        change=change,
        comparisons=comparisons,
        regressions=verdicts.count("regression") / comparisons,
        improvements=verdicts.count("improvement") / comparisons,
        undecided=verdicts.count("inconclusive") / comparisons,
        covered=covered / comparisons,
        pairs=pairs / comparisons,
        threshold=threshold / comparisons,
        pooled=pooled / comparisons,
    )


def missed(cell: Cell) -> list[str]:
    """Return a sentence for each limit that a cell misses."""
    false = {"quiet": 0.01, "shared": 0.02, "noisy": 0.05}[cell.setting]
    found = {0.05: {"quiet": 0.99, "shared": 0.95, "noisy": 0.75}[cell.setting], 0.10: 0.99}
    where = f"{cell.setting}, +{cell.change:.0%}"
    missing = []
    if cell.change == 0 and cell.regressions + cell.improvements > false:
        missing.append(
            f"{where}: a change in {cell.regressions + cell.improvements:.1%} of A/A tests, over {false:.0%}"
        )
    if cell.change in found and cell.regressions < found[cell.change]:
        missing.append(f"{where}: found in {cell.regressions:.1%}, under {found[cell.change]:.0%}")
    if cell.covered < 0.94:
        missing.append(f"{where}: the interval contains the true change in {cell.covered:.1%}, under 94%")
    return missing


def _turns(setting: NoiseSetting, change: float, size: int, draw: np.random.Generator) -> Array:
    """Return step times [comparison, pair, side, turn of the side, step], in units of a typical step."""
    shape = (size, LOOKS[-1], 2)
    process = setting.process_sd * draw.standard_normal(shape)
    slowed = draw.random(shape) < setting.slowed
    process += slowed * np.log(draw.uniform(*setting.slowed_by, shape))
    logs = process[..., None] + _correlated(setting, (*shape, SIDE * STEPS), draw)
    logs[..., 1, :] += math.log1p(change)
    steps = logs.reshape(*shape, SIDE, STEPS)
    # The noise of the machine continues over the turns of both sides: A B B A, A B B A, …
    machine = _machine(setting, (size, LOOKS[-1], 2 * SIDE * STEPS), draw).reshape(*shape[:2], 2 * SIDE, STEPS)
    order = np.tile([0, 1, 1, 0], QUADS)
    steps[:, :, 0] += machine[:, :, order == 0]
    steps[:, :, 1] += machine[:, :, order == 1]
    return np.exp(steps)


def _correlated(setting: NoiseSetting, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    """Draw a stationary first-order autoregression with the setting's standard deviation."""
    rho = setting.correlation
    noise = setting.step_sd * draw.standard_normal(shape)
    noise[..., 1:] *= math.sqrt(1 - rho**2)
    found: Array = signal.lfilter([1.0], [1.0, -rho], noise, axis=-1)
    return found


def _machine(setting: NoiseSetting, shape: tuple[int, ...], draw: np.random.Generator) -> Array:
    """Draw drift, bursts and spikes over the time of a pair."""
    logs = setting.drift * draw.standard_normal((*shape[:2], 1)) * np.linspace(0, 1, shape[-1])
    logs = logs + (draw.random(shape) < setting.spikes) * np.log(draw.uniform(*SPIKE, shape))
    chance, length, largest = setting.burst
    if chance:
        starts = np.argwhere(draw.random(shape) < chance)
        lengths = draw.geometric(1 / length, len(starts))
        factors = np.log(draw.uniform(1.0, largest, len(starts)))
        edges = np.zeros((*shape[:2], shape[-1] + 1))
        ends = np.minimum(starts[:, 2] + lengths, shape[-1])
        np.add.at(edges, (starts[:, 0], starts[:, 1], starts[:, 2]), factors)
        np.add.at(edges, (starts[:, 0], starts[:, 1], ends), -factors)
        logs += np.cumsum(edges, axis=-1)[..., :-1]
    return logs


def _log_ratios(steps: Array) -> Array:
    """Return the log-ratios of the sides' median steps, as `results.verdicts.pair_findings.log_ratio` does."""
    return np.diff(np.log(np.median(steps.reshape(*steps.shape[:3], -1), axis=-1)), axis=-1)[..., 0]


def _mann_whitney(steps: Array, *, either: bool) -> float:
    """Count the comparisons in which Mann-Whitney at 5 % on pooled steps finds a change (`either`) or a slow-down."""
    size = len(steps)
    ours, theirs = (steps[:, :POOLED_PAIRS, side].reshape(size, -1) for side in (0, 1))
    test: Any = stats.mannwhitneyu(theirs, ours, axis=1, method="asymptotic")
    slower = np.median(theirs, axis=1) > np.median(ours, axis=1)
    return float(np.sum(test.pvalue < 0.05 if either else (test.pvalue < 0.05) & slower))
