"""Two arms' answers held against each other, level by level. Pure functions over arrays; limits are those of the rules.

Level P0: same architecture. P1: same function. P2: same gradients. P3: same training. P4: same conventions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from harness.spec import Scenario
from results.arm_answers import Pair, at_most, both, differ, none_of, relative_max, some, worst
from results.certificate import Check
from results.convention_proof import conventions
from results.training_proof import training

LOGITS_FP32 = 1e-4
FEATURES_FP64 = 1e-9
LOSS_FP64 = 1e-9
GRADIENT = 1e-6
GRADIENT_SMALL = 1e-7
MACS = 0.01


def prove(pair: Pair, scenarios: Sequence[Scenario]) -> list[Check]:
    """Every check of every level, P0 first."""
    checks = [*_architecture(pair), *_function(pair), *_gradients(pair)]
    for scenario in scenarios:
        checks.extend(training(pair, scenario))
    return [*checks, *conventions(pair)]


def _architecture(pair: Pair) -> Iterator[Check]:
    one, other = (answers.facts for answers in pair.wide)
    ours, theirs = ({t.name: t for t in facts.tensors if t.role != "counter"} for facts in (one, other))
    yield none_of(0, "V01", "tensors that only one of them has", sorted(set(ours) ^ set(theirs)))
    odd = [f"{name}: {ours[name].shape} and {theirs[name].shape}" for name in ours if differ(name, ours, theirs)]
    yield none_of(0, "V01", "tensors of another shape, part, block or role", odd)
    sizes = [sum(math.prod(t.shape) for t in tensors.values() if t.part == "backbone") for tensors in (ours, theirs)]
    yield at_most(0, "V01", "difference in backbone parameters", abs(sizes[0] - sizes[1]), 0)
    layers, others = ({layer.name: layer for layer in facts.layers} for facts in (one, other))
    yield none_of(0, "V01", "layers that only one of them has", sorted(set(layers) ^ set(others)))
    shapes = [
        f"{name}: {layers[name].output} and {others[name].output}"
        for name in layers
        if name in others and layers[name].output != others[name].output
    ]
    yield none_of(0, "V06", "layers with another output", shapes)
    macs = [sum(layer.macs for layer in facts.layers) for facts in (one, other)]
    yield at_most(0, "V01", "relative difference in multiply-accumulates", abs(macs[0] / macs[1] - 1), MACS)
    for place, digests in one.start.items():
        found = other.start.get(place, {})
        odd = [name for name, digest in digests.items() if digest != found.get(name)]
        yield none_of(0, "V08", f"tensors with other first values, head included, {place}", odd)


def _function(pair: Pair) -> Iterator[Check]:
    ours, theirs = (answers.facts.images for answers in pair.wide)
    yield none_of(1, "V26", "normalised images differ", [place for place in ours if ours[place] != theirs.get(place)])
    for place in dict.fromkeys(name.rpartition("/")[0] for name in pair.wide[0].under("features/")):
        blocks = [f"features/{place}/{number}" for number in range(len(pair.wide[0].under(f"features/{place}/")))]
        errors = {f"block {n}": relative_max(*both(pair.wide, name)) for n, name in enumerate(blocks)}
        errors["logits"] = relative_max(*both(pair.wide, f"logits/{place}"))
        first = next((name for name, error in errors.items() if not error <= FEATURES_FP64), None)
        where = first or max(errors, key=lambda name: errors[name])
        yield at_most(1, "V03", f"features and logits in float64, {place}", errors[where], FEATURES_FP64, where)
    for place in pair.narrow[0].under("logits/"):
        one, other = both(pair.narrow, f"logits/{place}")
        limit = LOGITS_FP32 * max(1.0, float(np.abs(one).max()))
        yield at_most(1, "V03", f"logits, {place}", float(np.abs(one - other).max()), limit)
        flipped = [f"image {i}" for i in np.flatnonzero(one.argmax(1) != other.argmax(1))]
        yield none_of(1, "V03", f"images with another first class, {place}", flipped)


def _gradients(pair: Pair) -> Iterator[Check]:
    for place, loss in pair.wide[0].facts.losses.items():
        found = pair.wide[1].facts.losses.get(place, math.nan)
        yield at_most(2, "V04", f"loss in float64, {place}", abs(loss - found) / abs(loss), LOSS_FP64)
        prefix = f"gradients/{place}/"
        names = pair.wide[0].under(prefix)
        yield none_of(
            2, "V04", f"tensors without a gradient in one arm, {place}", set(names) ^ set(pair.wide[1].under(prefix))
        )
        sizes = {name: float(np.linalg.norm(pair.wide[0].arrays[prefix + name])) for name in names}
        total = math.hypot(*sizes.values())
        errors, small = {}, []
        for name in names:
            one, other = both(pair.wide, prefix + name)
            if sizes[name] < GRADIENT_SMALL * total:
                small.append(name)
            scale = max(sizes[name], GRADIENT_SMALL * total)
            errors[name] = float(np.linalg.norm(one - other)) / scale
        note = f"{len(small)} vanishing, compared absolutely: {some(small)}" if small else ""
        yield worst(2, "V04", f"gradients in float64, {place}", errors, GRADIENT, note=note)
