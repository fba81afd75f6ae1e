"""Level P4: the conventions of optimizers, norm layers and dropping layers, each probed by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.stochastic import Dropping
from results.arm_answers import Pair, both, none_of, relative_max, worst
from results.certificate import Check

UPDATES = 1e-5
RATIO = 0.01
SIGMAS = 5.0
SCALE = 1e-6


def conventions(pair: Pair) -> Iterator[Check]:
    one, other = pair.wide
    for rule in dict.fromkeys(name.split("/")[0] for name in one.under("tape/")):
        errors = {
            f"step {int(rest.split('/')[0]) + 1}, {rest.split('/')[1]}": relative_max(
                *both(pair.wide, f"tape/{rule}/{rest}")
            )
            for rest in one.under(f"tape/{rule}/")
        }
        yield worst(4, "V18, V19, V20", f"updates of {rule} on a tape of gradients", errors, UPDATES)
    for arm, answers in (("first arm", one), ("second arm", other)):
        head, backbone = answers.arrays["ratio/head"], answers.arrays["ratio/backbone"]
        spread = {"head": abs(head / 0.01 - 1).max(), "backbone": abs(backbone / 0.001 - 1).max()}
        yield worst(4, "V22", f"step of each part against its rate, {arm}", spread, RATIO)
    for name, stages in one.facts.stages.items():
        pairs = zip(stages, other.facts.stages[name], strict=True)
        odd = [f"{a} and {b}" for s, t in pairs for a, b in zip(s.norms, t.norms, strict=True) if a != b]
        yield none_of(4, "V11", "norm layers with other constants", odd, scenario=name)
    odd = [name for name, digest in one.facts.augmented.items() if digest != other.facts.augmented.get(name)]
    yield none_of(4, "V28", "augmentations whose batches differ", odd)
    yield from _dropping(one.facts.dropping, other.facts.dropping)


def _dropping(ours: Sequence[Dropping], theirs: Sequence[Dropping]) -> Iterator[Check]:
    declared = [
        [(d.scenario, d.part, d.block, round(d.rate, 12), d.active, d.granularity) for d in drops]
        for drops in (ours, theirs)
    ]
    odd = sorted(set(declared[0]) ^ set(declared[1]), key=str)
    yield none_of(4, "V13", "dropping layers with another place, rate or granularity", [str(one) for one in odd])
    sigmas, scales = {}, {}
    for arm, drops in (("first arm", ours), ("second arm", theirs)):
        for drop in drops:
            name = f"{arm}, {drop.scenario}, block {drop.block}"
            rate = drop.rate if drop.active else 0.0
            deviation = math.sqrt(rate * (1 - rate) / drop.units)
            off = abs(drop.dropped - rate)
            sigmas[name] = off / deviation if deviation else (0.0 if off == 0 else math.inf)
            scales[name] = abs(drop.survivor * (1 - rate) - 1)
    yield worst(4, "V13", "share dropped against the rate, in standard deviations", sigmas, SIGMAS)
    yield worst(4, "V13", "scale of what is kept", scales, SCALE)
