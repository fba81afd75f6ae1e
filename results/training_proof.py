"""Level P3: a scenario trained by both arms through the code that is timed, and looked at after every step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec.structs import replace

from harness.arm import StageFacts
from harness.schedule import factors
from harness.spec import Scenario, Stage
from results.arm_answers import Answers, Pair, at_most, both, none_of, worst
from results.certificate import Check

LOSS = 1e-6
"""Relative, at every step."""
TENSOR = 1e-6
"""Of the largest movement of any tensor of its kind."""
STEADY_STEPS, LAST_BITS, EARLY = 5, 1e-13, 1e-10
"""Rounding alone: so many steps with a difference, so small in the first of them and in the first three."""
FLOOR_FACTOR = 10.0
"""Times the larger of the two arms' own differences from their float64 selves."""


def training(pair: Pair, scenario: Scenario) -> Iterator[Check]:
    """Learning rates, losses, buffers and weights of every stage, then the precision's own distance."""
    for number, stage in enumerate(scenario.stages):
        where = f" stage {number + 1}" if len(scenario.stages) > 1 else ""
        yield from _stage(pair, scenario.name, number, stage, where)
        yield from _narrow(pair, scenario.name, number, where)


def _stage(pair: Pair, name: str, number: int, stage: Stage, where: str) -> Iterator[Check]:
    one, other = (answers.facts.stages[name][number] for answers in pair.wide)
    wide = {
        ("V21", "learning rates against the schedule"): _rates(stage, one, other),
        ("V05", "losses in float64"): _relative(one.losses, other.losses),
        ("V05", "validation losses in float64"): _relative(one.val_losses, other.val_losses),
    }
    growth = _growth(list(wide["V05", "losses in float64"].values()))
    for (rule, what), errors in wide.items():
        yield _explained(worst(3, rule, what + where, errors, LOSS, scenario=name), growth)
    for kind in ("buffers", "weights"):
        drift = _drift(pair.wide, f"{name}/{number}", kind)
        yield _explained(worst(3, "V05", f"{kind} in float64{where}", drift, TENSOR, scenario=name), growth)
    yield from _same_batches(name, where, one, other)


def _growth(differences: Sequence[float]) -> str:
    """A sentence if the losses part from the last bit on by a steady factor a step, as rounding does; else nothing."""
    seen = [difference for difference in differences if difference > 0]
    if len(seen) < STEADY_STEPS or seen[0] > LAST_BITS or max(seen[:3]) > EARLY:
        return ""
    factor = (seen[-1] / seen[0]) ** (1 / (len(seen) - 1))
    return f"rounding grows {factor:.0f}-fold a step, too fast for a proof over ten steps" if factor >= 2 else ""


def _explained(check: Check, note: str) -> Check:
    return check if check.passed or check.rule != "V05" else replace(check, note=note)


def _rates(stage: Stage, one: StageFacts, other: StageFacts) -> dict[str, float]:
    expected = factors(stage.schedule, stage.epochs, 1)
    return {
        f"{arm}, step {i + 1}, {part}": abs(rate / (stage.learning_rate(part) * expected[i]) - 1)
        for arm, facts in (("first arm", one), ("second arm", other))
        for i, step in enumerate(facts.rates)
        for part, rate in step.items()
        if stage.learning_rate(part) * expected[i]
    }


def _relative(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    return {f"step {i + 1}": abs(a - b) / abs(a) for i, (a, b) in enumerate(zip(ours, theirs, strict=True))}


def _same_batches(name: str, where: str, one: StageFacts, other: StageFacts) -> Iterator[Check]:
    odd = [f for f in ("order_sha256", "pixels_sha256", "kept_epoch") if getattr(one, f) != getattr(other, f)]
    yield none_of(3, "V24", f"batches or kept epoch differ{where}", odd, scenario=name)
    breaches = [*one.breaches, *other.breaches]
    yield none_of(3, "V09", f"what moved against what was declared{where}", breaches, scenario=name)


def _drift(arms: tuple[Answers, Answers], place: str, kind: str) -> dict[str, float]:
    """Largest difference per tensor, of all steps, over the largest movement of any tensor of the kind."""
    buffers = {t.name for t in arms[0].facts.tensors if t.role in ("norm_mean", "norm_var")}
    moved = [
        float(arms[0].arrays[f"moved/{place}/{name}"])
        for name in arms[0].under(f"moved/{place}/")
        if (name in buffers) == (kind == "buffers")
    ]
    scale = max(moved, default=0.0) or 1.0
    names = [n for n in arms[0].under(f"{kind}/{place}/") if kind == "buffers" or n not in buffers]
    return {name: float(np.abs(np.subtract(*both(arms, f"{kind}/{place}/{name}"))).max()) / scale for name in names}


def _narrow(pair: Pair, name: str, number: int, where: str) -> Iterator[Check]:
    """Differences between the arms, over the larger of the arms' own differences from their float64 selves."""
    precision = pair.narrow[0].facts.precision
    runs = [answers.facts.stages[name][number] for answers in (*pair.narrow, *pair.wide)]
    a, b, wide_a, wide_b = (np.array([*run.losses, *run.val_losses]) for run in runs)
    own = [float(np.abs(a - wide_a).max()), float(np.abs(b - wide_b).max())]
    yield _over_floor(f"losses{where}", name, precision, float(np.abs(a - b).max()), own)
    buffers = {t.name for t in pair.wide[0].facts.tensors if t.role in ("norm_mean", "norm_var")}
    for kind in ("buffers", "weights"):
        prefix = f"weights/{name}/{number}/"
        names = [n for n in pair.wide[0].under(prefix) if (n in buffers) == (kind == "buffers")]
        totals = np.zeros(3)
        for tensor in names:
            a, b = both(pair.narrow, prefix + tensor)
            wide_a, wide_b = both(pair.wide, prefix + tensor)
            totals += [float(((x - y).astype(np.float64) ** 2).sum()) for x, y in ((a, b), (a, wide_a), (b, wide_b))]
        difference, *own = np.sqrt(totals).tolist()
        if names:
            yield _over_floor(f"{kind}{where}", name, precision, difference, own)


def _over_floor(what: str, name: str, precision: str, difference: float, own: Sequence[float]) -> Check:
    floor = max(own)
    note = f"difference {difference:.2g}; the arms' own from float64 {own[0]:.2g} and {own[1]:.2g}"
    ratio = difference / floor if floor else (0.0 if difference == 0 else math.inf)
    what = f"{what} in {precision}, in units of its rounding"
    return at_most(3, "V05", what, ratio, FLOOR_FACTOR, scenario=name, note=note)
