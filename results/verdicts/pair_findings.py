"""Findings about time and memory: a log-ratio per pair of processes (cost of B over A), a verdict over all pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from msgspec.structs import replace

from harness.pairing.side_record import SideRecord
from harness.running.sensors import starved
from results.storage.comparison import LOOKS, Finding
from results.storage.rows import Order, Pair
from results.verdicts.estimate import Decision, decide, detectable, estimate, judge

UNFINISHED = 0.02
"""If a larger share of a turn follows its last step, the step times are not valid."""
PREEMPTED = 0.2
"""With more involuntary switches per step, the step times of a starved side are not valid."""


def log_ratio(order: Order, a: SideRecord, b: SideRecord) -> float:
    """Return the log of the cost per image of B over that of A; positive is slower.

    The cost is the median step over all turns of a side (V51). The orders ABBA and BAAB distribute a drift equally, and
    a burst of another process affects fewer than half of the steps. If step times are not valid (asynchronous steps,
    preemption), each quad gives the mean log cost of its B turns minus that of its A turns, and the pair their median;
    for processes that ran one after the other, it is the difference of the medians of their turns. Raises ValueError
    for incomplete quads.

    >>> from harness.pairing.side_record import Turn
    >>> side = lambda us: SideRecord(case=None, key="", version="", status="ok", turns=(Turn(
    ...     steps=3, images=3, seconds=3 * us / 1e6, lead_us=us, step_us=(us,) * 3),) * 2)
    >>> round(log_ratio("ABBA", side(1000), side(1100)), 4)
    0.0953
    """
    if not a.turns or not b.turns:
        raise ValueError("a side has no turn")
    if len(order) == 4 and (len(a.turns) % 2 or len(a.turns) != len(b.turns)):
        raise ValueError(f"{len(a.turns)} turns of A and {len(b.turns)} of B are not whole {order} quads")
    if all(times_steps(side) and not preempted(side) for side in (a, b)):
        return math.log(median_step_us(b) / median_step_us(a))
    ours, theirs = ([math.log(turn.seconds / turn.images) for turn in side.turns] for side in (a, b))
    if len(order) == 2:
        return median(theirs) - median(ours)
    quads = zip(_pairs_of(ours), _pairs_of(theirs), strict=True)
    return median(fmean(second) - fmean(first) for first, second in quads)


def mean_log_ratio(a: SideRecord, b: SideRecord) -> float:
    """Return the log of the mean cost per image of B over that of A, which includes stalls of single steps."""
    ours, theirs = (math.fsum(t.seconds for t in side.turns) / sum(t.images for t in side.turns) for side in (a, b))
    return math.log(theirs / ours)


def times_steps(side: SideRecord) -> bool:
    """Tell whether step times are valid: the wait for the device at the end of each turn is short."""
    return all(turn.seconds - sum(turn.step_us) / 1e6 <= UNFINISHED * turn.seconds for turn in side.turns)


def preempted(side: SideRecord) -> bool:
    """Tell from the sensors, without the step times, whether other processes interrupted the steps of a side."""
    sensors = side.sensors
    if sensors is None or not starved(sensors, side.case.threads):
        return False
    return sensors.involuntary_switches > PREEMPTED * sum(turn.steps for turn in side.turns)


def median_step_us(side: SideRecord) -> float:
    """Return the median microseconds per image over all turns of a side."""
    return median(step / (turn.images / turn.steps) for turn in side.turns for step in turn.step_us)


def memory_log_ratio(metric: str, a: SideRecord, b: SideRecord) -> float | None:
    """Return the log of the peak of B over that of A; None if unknown. Mapped files are excluded if possible."""
    if a.memory is None or b.memory is None:
        return None
    fields = ("device_peak",) if metric == "device memory" else ("anonymous_peak", "process_peak")
    for field in fields:
        ours, theirs = getattr(a.memory, field), getattr(b.memory, field)
        if ours and theirs:
            return math.log(theirs / ours)
    return None


def _pairs_of(costs: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(costs[0::2], costs[1::2], strict=True))


MEMORY_MARGINS = {"device memory": 0.02, "process memory": 0.05}
"""The peak of an allocator on a device is reproducible; that of a process depends on the page cache."""
TOO_FEW = "{} pairs, but the first look needs {}"


def throughput_finding(pairs: Sequence[Pair], margin: float) -> Finding:
    """Compare the times per image; inconclusive for fewer pairs than the first look needs."""
    if len(pairs) < LOOKS[0]:
        return _too_few("throughput", len(pairs), margin)
    ratios = [log_ratio(pair.order, pair.a, pair.b) for pair in pairs]
    found = _finding("throughput", decide(ratios, margin), margin)
    mean = fmean(mean_log_ratio(pair.a, pair.b) for pair in pairs[: found.replicates])
    return replace(found, explanation=f"mean step times, stalls included: B costs {100 * math.expm1(mean):+.1f} %")


def memory_findings(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Compare the peaks of memory, of the device if there is one, and of the process."""
    for metric, margin in MEMORY_MARGINS.items():
        found = [memory_log_ratio(metric, pair.a, pair.b) for pair in pairs]
        ratios = [ratio for ratio in found if ratio is not None]
        if not ratios:
            continue
        if len(ratios) < LOOKS[0]:
            yield _too_few(metric, len(ratios), margin)
            continue
        whole = estimate(ratios)
        yield _finding(metric, Decision(judge(whole, margin), whole, 1, final=True), margin)


def _finding(metric: str, decision: Decision, margin: float) -> Finding:
    found = decision.estimate
    return Finding(
        metric=metric,
        verdict=decision.verdict,
        change=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        replicates=found.pairs,
        margin=margin,
        detectable=math.log1p(detectable(found, margin)),
        looks=decision.looks,
    )


def _too_few(metric: str, pairs: int, margin: float) -> Finding:
    widest = math.log(1000)  # JSON has no infinity
    return Finding(
        metric=metric,
        verdict="inconclusive",
        change=0.0,
        low=-widest,
        high=widest,
        p=1.0,
        replicates=pairs,
        margin=margin,
        detectable=widest,
        note=TOO_FEW.format(pairs, LOOKS[0]),
    )
