"""Explanations with planted logarithms."""

from __future__ import annotations

from results.explanations.explanation import Explanation, Factor, SameWork
from results.explanations.shares import Bounded, FactorShare, Shares


def bounded(value: float, half: float = 0.01) -> Bounded:
    return Bounded(value=value, low=value - half, high=value + half)


def part(value: float, whole: float | None, spread: float = 0.0, p: float = 1.0) -> FactorShare:
    share = None if whole is None else bounded(value / whole)
    return FactorShare(log_speed_up=bounded(value), share=share, spread=spread, spread_p=p)


def explanation(
    *values: float,
    direct: float | None = None,
    rest: float = 0.0,
    p: float = 0.5,
    made: str = "2026-11-29T03:20:00+00:00",
) -> Explanation:
    whole = sum(values) if direct is None else direct
    names = ("layout", "fused", "threads")
    return Explanation(
        label="pytorch/resnet18/full",
        made=made,
        stage=1,
        factors=tuple(Factor(name=names[n], texts=("old", "new"), settings=({}, {})) for n in range(len(values))),
        shares=Shares(
            factors=tuple(part(value, whole if abs(whole) > 0.01 else None, 0.05, p) for value in values),
            direct=bounded(whole),
            unexplained=bounded(rest),
            interaction=0.05,
            interaction_p=p,
            noise=0.02,
            freedom=7,
            orders=4,
        ),
        same_work=SameWork(proved=True, certificate="12345678, P4"),
        pairs=20,
        seconds=120.0,
    )
