"""What pairs of processes say of a case's time and memory: a log-ratio per pair, and a finding over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from msgspec.structs import replace

from results.comparison import LOOKS, Finding
from results.pair_ratio import log_ratio, mean_log_ratio, memory_log_ratio
from results.rows import Pair
from results.verdicts import Decision, decide, detectable, estimate, judge

MEMORY_MARGINS = {"device memory": 0.02, "process memory": 0.05}
"""A device's allocator repeats itself; a process's peak depends on when the system gave and took pages."""
TOO_FEW = "{} pairs, and the first look needs {}"


def of_time(pairs: Sequence[Pair], margin: float) -> Finding:
    """Whether B takes longer per image than A; inconclusive for fewer pairs than the first look needs."""
    if len(pairs) < LOOKS[0]:
        return _too_few("throughput", len(pairs), margin)
    ratios = [log_ratio(pair.order, pair.a, pair.b) for pair in pairs]
    found = _finding("throughput", decide(ratios, margin), margin)
    mean = fmean(mean_log_ratio(pair.a, pair.b) for pair in pairs[: found.replicates])
    return replace(found, explanation=f"by mean steps, stalls included, B costs {100 * math.expm1(mean):+.1f} %")


def of_memory(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Whether B's peaks are above A's: of the device where there is one, and of the process."""
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
    """Nothing is known: the widest interval that can be stored."""
    widest = math.log(1000)
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
