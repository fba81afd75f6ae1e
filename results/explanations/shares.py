"""Each factor's share of a ratio of two speeds, from factors that are switched one at a time in several orders.

The share is Shapley's value (Shapley 1953): the mean over orders of the log ratio at the switch of the factor. Every
order is followed by its reverse (antithetic sampling: Mitchell et al. 2022, JMLR 23), so an interaction of two factors
counts half for each of them in every block, and only interactions of three or more depend on the drawn orders.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import scipy
from numpy.typing import NDArray

from results.statistics import CONFIDENCE

Order = tuple[int, ...]
"""Numbers of factors in the order in which they are switched."""


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """One order, measured: log speed-up at the switch of each factor, by its number, and of B over A directly."""

    order: Order
    switched: tuple[float, ...]
    direct: float


class Bounded(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def speed_up(self) -> tuple[float, float, float]:
        """The estimate and its bounds as factors, if they are logarithms."""
        return math.exp(self.value), math.exp(self.low), math.exp(self.high)

    @property
    def clear(self) -> bool:
        """Whether zero is outside the interval."""
        return self.low > 0 or self.high < 0


class FactorShare(msgspec.Struct, frozen=True, kw_only=True):
    """The part of one factor: log speed-up, and its share of the sum of all; None if the sum may be zero.

    `spread` is the standard deviation of the log speed-up over orders, without the noise. `spread_p` is the p of no
    such spread.
    """

    log_speed_up: Bounded
    share: Bounded | None
    spread: float
    spread_p: float


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """All factors, B over A measured directly, and the part of it that the factors do not explain.

    `interaction` is the root mean square of the spreads, `interaction_p` the p of none in any factor. `noise` is the
    standard deviation of the log ratio of one pair of processes, with `freedom` degrees of freedom.
    """

    factors: tuple[FactorShare, ...]
    direct: Bounded
    unexplained: Bounded
    interaction: float
    interaction_p: float
    noise: float
    freedom: int
    orders: int


def orders(factors: int, seed: int) -> Iterator[tuple[Order, Order]]:
    """Yield blocks without end: an order and its reverse. The first block has the given order, the others are drawn.

    An order is repeated only after all others.

    >>> next(orders(3, seed=0))
    ((0, 1, 2), (2, 1, 0))
    """
    draw = random.Random(seed)
    # Of an order and its reverse, one has a smaller first element.
    halves = [order for order in itertools.permutations(range(factors)) if order <= order[::-1]]
    while True:
        rest = halves[1:]
        draw.shuffle(rest)
        yield from ((order, order[::-1]) for order in (halves[0], *rest))


def shares(blocks: Sequence[tuple[Walk, Walk]]) -> Shares:
    """Return the shares of all factors. Each block has an order and its reverse.

    The noise of a pair is taken to be the same for all factors. It comes from the direct pairs and from the means of
    the blocks, where interactions of two factors cancel. Raises ValueError without a block.
    """
    if not blocks:
        raise ValueError("no order was measured")
    switched = np.array([[walk.switched for walk in block] for block in blocks])  # [blocks, 2, factors]
    direct = np.array([[walk.direct for walk in block] for block in blocks]).ravel()
    count, _, factors = switched.shape
    means, halves = switched.mean(axis=1), (switched[:, 0] - switched[:, 1]) / 2
    freedom = factors * (count - 1) + len(direct) - 1
    squares = 2 * _squares(means) + _squares(direct)  # a mean of two pairs has half of the variance
    variance = squares / freedom
    estimates, single = means.mean(axis=0), variance / (2 * count)
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    halves_squared = (halves**2).mean(axis=0) if factors > 1 else np.zeros(1)
    spreads = np.maximum(0.0, halves_squared - variance / 2)
    whole = float(direct.mean())
    return Shares(
        factors=tuple(
            FactorShare(
                log_speed_up=_around(float(estimate), reach * math.sqrt(single)),
                share=_share(float(estimate), float(estimates.sum()), single, factors, reach),
                spread=math.sqrt(spread),
                spread_p=_p_of_spread(float(half), variance, count, freedom),
            )
            for estimate, spread, half in zip(estimates, spreads, halves_squared, strict=True)
        ),
        direct=_around(whole, reach * math.sqrt(single)),
        unexplained=_around(whole - float(estimates.sum()), reach * math.sqrt((1 + factors) * single)),
        interaction=math.sqrt(float(spreads.mean())),
        interaction_p=_p_of_spread(float(halves_squared.mean()), variance, count * factors, freedom),
        noise=math.sqrt(variance),
        freedom=freedom,
        orders=2 * count,
    )


def _squares(values: NDArray[Any]) -> float:
    return float(((values - values.mean(axis=0)) ** 2).sum())


def _around(value: float, half: float) -> Bounded:
    return Bounded(value=value, low=value - half, high=value + half)


def _share(part: float, whole: float, variance: float, factors: int, reach: float) -> Bounded | None:
    """Return part ÷ whole with Fieller's interval (Fieller 1954); None if the interval of the whole contains zero.

    `variance` is that of the part; the whole is a sum of `factors` such parts, this one included.
    """
    square = reach**2 * variance
    a, b, c = whole**2 - factors * square, part * whole - square, part**2 - square
    if a <= 0:
        return None
    half = math.sqrt(max(0.0, b**2 - a * c))
    return Bounded(value=part / whole, low=(b - half) / a, high=(b + half) / a)


def _p_of_spread(squared: float, variance: float, count: int, freedom: int) -> float:
    """Return the p of an F test that `count` half differences with this mean square are noise alone."""
    if not variance:
        return float(not squared)
    return float(scipy.stats.f.sf(squared / (variance / 2), count, freedom))
