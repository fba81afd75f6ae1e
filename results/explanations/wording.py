"""An explanation in words: the answer, a row for each factor, and remarks on interaction and on what is left."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.errors import printable
from results.explanations.explanation import Explanation, Factor
from results.explanations.shares import Bounded, FactorShare

TITLES = ("factor", "A → B", "speed ×", "95 % interval", "share", "95 % interval", "over orders")
FIGURES = (2, 3, 4, 5, 6)
"""The columns that hold figures."""
LEVEL = 0.05
"""Largest p of an interaction."""


def answer(explanation: Explanation) -> Iterator[str]:
    """Yield which side is faster, the factors that make it so, and whether both sides do the same work."""
    yield from map(printable, (_faster(explanation), _why(explanation), _work(explanation)))


def rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each factor, in the order of `TITLES`."""
    yield from map(_row, explanation.factors, explanation.shares.factors)


def remarks(explanation: Explanation) -> Iterator[str]:
    """Yield a line each about interaction, the unexplained part, settings that are one factor, and the cost."""
    yield _interaction(explanation)
    yield _unexplained(explanation)
    yield from map(printable, _grouped(explanation))
    yield _cost(explanation)


def _faster(explanation: Explanation) -> str:
    found, label = explanation.shares, explanation.label
    ratio = _times(found.direct)
    label += ", whole runs" if explanation.whole else ""
    if not found.direct.clear:
        return f"{label}: it cannot be told which side is faster: B is × {ratio} of A."
    if found.direct.value > 0:
        return f"{label}: B is × {ratio} faster than A."
    return f"{label}: B is × {_times(_inverse(found.direct))} slower than A."


def _why(explanation: Explanation) -> str:
    both = zip(explanation.factors, explanation.shares.factors, strict=True)
    clear = sorted(
        ((factor, share) for factor, share in both if share.log_speed_up.clear),
        key=lambda one: -abs(one[1].log_speed_up.value),
    )
    if len(explanation.factors) == 1:
        return f"They differ in one factor, {explanation.factors[0].name}, which is the whole difference."
    if not clear:
        return "No factor alone is beyond the noise."
    named = [f"{factor.name} × {share.log_speed_up.speed_up[0]:.2f}{_of(share)}" for factor, share in clear]
    return f"The factors beyond the noise, the largest first: {', '.join(named)}."


def _of(share: FactorShare) -> str:
    return "" if share.share is None else f" ({share.share.value:.0%})"


def _work(explanation: Explanation) -> str:
    work = explanation.same_work
    if not work.proved:
        return f"Equivalence is not certified ({work.reason}), so the shares are of speed only."
    if work.certificate:
        return f"Both sides did the same work (certificate {work.certificate})."
    return "Both sides did the same work: the factors change no number."


def _row(factor: Factor, share: FactorShare) -> tuple[str, ...]:
    value, low, high = share.log_speed_up.speed_up
    part = share.share
    shown = ("–", "–") if part is None else (f"{part.value:.0%}", f"{part.low:.0%} to {part.high:.0%}")
    spread = f"± {math.expm1(share.spread):.1%}" if share.spread_p < LEVEL else "noise"
    return (printable(factor.name), printable(" → ".join(factor.texts)), f"{value:.3f}", f"{low:.3f}–{high:.3f}",
            *shown, spread)  # fmt: skip


def _interaction(explanation: Explanation) -> str:
    found = explanation.shares
    if len(explanation.factors) == 1:
        return "interaction: none, with one factor"
    if found.interaction_p >= LEVEL:
        return f"interaction: the order changes no share beyond the noise (p {found.interaction_p:.2g})"
    size = math.expm1(found.interaction)
    return f"interaction: a share depends on the order, by ± {size:.1%} on average (p {found.interaction_p:.2g})"


def _unexplained(explanation: Explanation) -> str:
    rest = explanation.shares.unexplained
    beyond = "beyond" if rest.clear else "within"
    return f"unexplained: × {_times(rest)} of B over A measured directly, {beyond} the noise"


def _grouped(explanation: Explanation) -> Iterator[str]:
    for factor in explanation.factors:
        if factor.reason:
            yield f"{factor.name} are one factor, because a combination cannot run: {factor.reason}"


def _cost(explanation: Explanation) -> str:
    found = explanation.shares
    return (
        f"{found.orders} orders, {explanation.pairs} pairs of processes, {explanation.seconds / 60:.1f} min; the noise "
        f"of a pair is {math.expm1(found.noise):.1%} ({found.freedom} degrees of freedom)"
    )


def _times(logs: Bounded) -> str:
    value, low, high = logs.speed_up
    return f"{value:.3f} (95 % interval {low:.3f}–{high:.3f})"


def _inverse(logs: Bounded) -> Bounded:
    return Bounded(value=-logs.value, low=-logs.high, high=-logs.low)
