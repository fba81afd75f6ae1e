"""The comparison of two arms, level by level. Pure functions over arrays.

P0: same architecture. P1: same function. P2: same gradients. P3: same training; both arms train a scenario with the
timed code and are compared after every step. P4: same conventions of optimizers, norm layers and dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec.structs import replace

from harness.certifying.answers import StageFacts
from harness.certifying.dropout_probe import Dropping
from harness.schedule import factors
from harness.spec import Scenario, Stage
from results.certificates.certificate import Check
from results.certificates.evidence import ArmEvidence, EvidencePair, at_most, both, none_of, relative_max, some, worst

LOGITS_FP32 = 1e-4
FEATURES_FP64 = 1e-9
LOSS_FP64 = 1e-9
GRADIENT = 1e-6
GRADIENT_SMALL = 1e-7
MACS = 0.01


def prove(pair: EvidencePair, scenarios: Sequence[Scenario]) -> list[Check]:
    """Return every check of every level, P0 first."""
    return [check for level in LEVELS for check in level(pair, scenarios)]


def architecture(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Check]:
    """Check P0: the same tensors, layers, output shapes, multiply-accumulates and initial values."""
    one, other = (answers.facts for answers in pair.wide)
    ours, theirs = ({t.name: t for t in facts.tensors if t.role != "counter"} for facts in (one, other))
    yield none_of(0, "V01", "tensors in only one arm", sorted(set(ours) ^ set(theirs)))
    common = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    odd = [f"{name}: {ours[name].shape} and {theirs[name].shape}" for name in common]
    yield none_of(0, "V01", "tensors of different shape, part, block or role", odd)
    sizes = [sum(math.prod(t.shape) for t in tensors.values() if t.part == "backbone") for tensors in (ours, theirs)]
    yield at_most(0, "V01", "difference in backbone parameters", abs(sizes[0] - sizes[1]), 0)
    layers, others = ({layer.name: layer for layer in facts.layers} for facts in (one, other))
    yield none_of(0, "V01", "layers in only one arm", sorted(set(layers) ^ set(others)))
    outputs = [(name, layers[name].output, others[name].output) for name in layers if name in others]
    odd = [
        f"{name}: {one_shape} and {other_shape}" for name, one_shape, other_shape in outputs if one_shape != other_shape
    ]
    yield none_of(0, "V06", "layers with different output shapes", odd)
    macs = [sum(layer.macs for layer in facts.layers) for facts in (one, other)]
    yield at_most(0, "V01", "relative difference in multiply-accumulates", abs(macs[0] / macs[1] - 1), MACS)
    for place, digests in one.start.items():
        found = other.start.get(place, {})
        odd = [name for name, digest in digests.items() if digest != found.get(name)]
        yield none_of(0, "V08", f"tensors with different initial values, head included, {place}", odd)


def function(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Check]:
    """Check P1: the same normalised images, features and logits."""
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
        yield none_of(1, "V03", f"images with a different top class, {place}", flipped)


def gradients(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Check]:
    """Check P2: the same loss and gradients."""
    for place, loss in pair.wide[0].facts.losses.items():
        found = pair.wide[1].facts.losses.get(place, math.nan)
        yield at_most(2, "V04", f"loss in float64, {place}", abs(loss - found) / abs(loss), LOSS_FP64)
        prefix = f"gradients/{place}/"
        names = pair.wide[0].under(prefix)
        odd = set(names) ^ set(pair.wide[1].under(prefix))
        yield none_of(2, "V04", f"tensors without a gradient in one arm, {place}", odd)
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


UPDATES = 1e-5
RATIO = 0.01
SIGMAS = 5.0
SCALE = 1e-6


def conventions(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Check]:
    """Check P4: the same optimizer updates, rates, norm constants, augmentation and dropout."""
    one, other = pair.wide
    for rule in dict.fromkeys(name.split("/")[0] for name in one.under("tape/")):
        errors = {}
        for rest in one.under(f"tape/{rule}/"):
            step, tensor, *_ = rest.split("/")
            errors[f"step {int(step) + 1}, {tensor}"] = relative_max(*both(pair.wide, f"tape/{rule}/{rest}"))
        yield worst(4, "V18, V19, V20", f"updates of {rule} on given gradients", errors, UPDATES)
    for arm, answers in (("first arm", one), ("second arm", other)):
        head, backbone = answers.arrays["ratio/head"], answers.arrays["ratio/backbone"]
        spread = {"head": abs(head / 0.01 - 1).max(), "backbone": abs(backbone / 0.001 - 1).max()}
        yield worst(4, "V22", f"step of each part relative to its rate, {arm}", spread, RATIO)
    for name, stages in one.facts.stages.items():
        pairs = zip(stages, other.facts.stages[name], strict=True)
        odd = [f"{a} and {b}" for s, t in pairs for a, b in zip(s.norms, t.norms, strict=True) if a != b]
        yield none_of(4, "V11", "norm layers with different constants", odd, scenario=name)
    odd = [name for name, digest in one.facts.augmented.items() if digest != other.facts.augmented.get(name)]
    yield none_of(4, "V28", "augmentations with different batches", odd)
    yield from _dropping(one.facts.dropping, other.facts.dropping)


def _dropping(ours: Sequence[Dropping], theirs: Sequence[Dropping]) -> Iterator[Check]:
    declared = [
        [(d.scenario, d.part, d.block, round(d.rate, 12), d.active, d.granularity) for d in drops]
        for drops in (ours, theirs)
    ]
    odd = sorted(set(declared[0]) ^ set(declared[1]), key=str)
    yield none_of(4, "V13", "dropout layers with different position, rate or granularity", [str(one) for one in odd])
    sigmas, scales = {}, {}
    for arm, drops in (("first arm", ours), ("second arm", theirs)):
        for drop in drops:
            name = f"{arm}, {drop.scenario}, block {drop.block}"
            rate = drop.rate if drop.active else 0.0
            deviation = math.sqrt(rate * (1 - rate) / drop.units)
            off = abs(drop.dropped - rate)
            sigmas[name] = off / deviation if deviation else (0.0 if off == 0 else math.inf)
            scales[name] = abs(drop.survivor * (1 - rate) - 1)
    yield worst(4, "V13", "dropped share minus the rate, in standard deviations", sigmas, SIGMAS)
    yield worst(4, "V13", "scale of the values that are kept", scales, SCALE)


LOSS = 1e-6
"""Largest relative difference at every step."""
TENSOR = 1e-6
"""Largest difference, relative to the largest change of any tensor of its kind."""
STEADY_STEPS, LAST_BITS, EARLY = 5, 1e-13, 1e-10
"""Rounding errors: the number of steps with a difference, and the largest one in step 1 and in steps 1 to 3."""
FLOOR_FACTOR = 10.0
"""Largest difference between the arms, in units of the larger difference of an arm from its float64 run."""


def training(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Check]:
    """Check P3: the same learning rates, losses, buffers and weights in every stage, up to rounding errors."""
    for scenario in scenarios:
        for number, stage in enumerate(scenario.stages):
            where = f" stage {number + 1}" if len(scenario.stages) > 1 else ""
            yield from _stage(pair, scenario.name, number, stage, where)
            yield from _narrow(pair, scenario.name, number, where)


def _stage(pair: EvidencePair, name: str, number: int, stage: Stage, where: str) -> Iterator[Check]:
    one, other = (answers.facts.stages[name][number] for answers in pair.wide)
    wide = {
        ("V21", "learning rates relative to the schedule"): _rates(stage, one, other),
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
    """Return a sentence if the losses diverge from the last bit on by a steady factor per step; else nothing."""
    seen = [difference for difference in differences if difference > 0]
    if len(seen) < STEADY_STEPS or seen[0] > LAST_BITS or max(seen[:3]) > EARLY:
        return ""
    factor = (seen[-1] / seen[0]) ** (1 / (len(seen) - 1))
    return (
        f"rounding errors grow {factor:.0f}-fold per step, too fast for a proof over ten steps" if factor >= 2 else ""
    )


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
    fields = ["order_sha256", "kept_epoch"]
    if one.pixels_sha256 and other.pixels_sha256:  # kept features have none; their losses show other pixels
        fields.append("pixels_sha256")
    odd = [field for field in fields if getattr(one, field) != getattr(other, field)]
    yield none_of(3, "V24", f"batches or selected epoch differ{where}", odd, scenario=name)
    breaches = [*one.breaches, *other.breaches]
    yield none_of(3, "V09", f"tensors that changed against the declaration{where}", breaches, scenario=name)


def _drift(arms: tuple[ArmEvidence, ArmEvidence], place: str, kind: str) -> dict[str, float]:
    """Return the largest difference per tensor over all steps, relative to the largest change of a tensor."""
    buffers = {t.name for t in arms[0].facts.tensors if t.role in ("norm_mean", "norm_var")}
    moved = [
        float(arms[0].arrays[f"moved/{place}/{name}"])
        for name in arms[0].under(f"moved/{place}/")
        if (name in buffers) == (kind == "buffers")
    ]
    scale = max(moved, default=0.0) or 1.0
    names = [n for n in arms[0].under(f"{kind}/{place}/") if kind == "buffers" or n not in buffers]
    return {name: float(np.abs(np.subtract(*both(arms, f"{kind}/{place}/{name}"))).max()) / scale for name in names}


def _narrow(pair: EvidencePair, name: str, number: int, where: str) -> Iterator[Check]:
    """Check the differences between the arms, relative to their differences from float64."""
    precision = pair.narrow[0].facts.precision
    runs = [answers.facts.stages[name][number] for answers in (*pair.narrow, *pair.wide)]
    a, b, wide_a, wide_b = (np.array([*run.losses, *run.val_losses]) for run in runs)
    floors = [float(np.abs(a - wide_a).max()), float(np.abs(b - wide_b).max())]
    yield _over_floor(f"losses{where}", name, precision, float(np.abs(a - b).max()), floors)
    buffers = {t.name for t in pair.wide[0].facts.tensors if t.role in ("norm_mean", "norm_var")}
    for kind in ("buffers", "weights"):
        prefix = f"weights/{name}/{number}/"
        names = [n for n in pair.wide[0].under(prefix) if (n in buffers) == (kind == "buffers")]
        totals = np.zeros(3)
        for tensor in names:
            a, b = both(pair.narrow, prefix + tensor)
            wide_a, wide_b = both(pair.wide, prefix + tensor)
            totals += [float(((x - y).astype(np.float64) ** 2).sum()) for x, y in ((a, b), (a, wide_a), (b, wide_b))]
        difference, *floors = np.sqrt(totals).tolist()
        if names:
            yield _over_floor(f"{kind}{where}", name, precision, difference, floors)


def _over_floor(what: str, name: str, precision: str, difference: float, floors: Sequence[float]) -> Check:
    floor = max(floors)
    note = f"difference {difference:.2g}; differences of the arms from float64 {floors[0]:.2g} and {floors[1]:.2g}"
    ratio = difference / floor if floor else (0.0 if difference == 0 else math.inf)
    what = f"{what} in {precision}, in units of its rounding"
    return at_most(3, "V05", what, ratio, FLOOR_FACTOR, scenario=name, note=note)


LEVELS = (architecture, function, gradients, training, conventions)
"""The comparisons of P0 to P4."""
