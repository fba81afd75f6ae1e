"""The scenarios, as data. A recipe sets the optimizer, epochs and learning rates; a scenario sets which parts train."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from harness.errors import Refused, unknown
from harness.spec import Optimizer, Scenario, Schedule, Stage


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The common settings of all scenarios: the stage that trains everything, and the epochs of `two-stage`."""

    name: str
    explanation: str
    stage: Stage
    two_stage_epochs: tuple[int, int]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="embedded",
            explanation="short, for the embedded task: SGD 0.006 with momentum, cosine, 9 epochs, batch 16",
            stage=Stage(
                epochs=9,
                head_lr=0.006,
                backbone_lr=0.006,
                bn_momentum=0.25,
                schedule=Schedule(name="cosine", warmup_steps=6),
                weight_decay=1e-4,
                batch_size=16,
            ),
            two_stage_epochs=(10, 8),
        ),
        Recipe(
            name="tutorial",
            explanation="as in the tutorials: SGD 0.001 with momentum, x 0.1 every 7 epochs, 25 epochs, batch 16",
            stage=Stage(epochs=25, head_lr=0.001, backbone_lr=0.001, schedule=Schedule(name="step"), batch_size=16),
            two_stage_epochs=(10, 15),
        ),
    )
}


def _one_stage(
    name: str, explanation: str, changes: Callable[[Stage], Mapping[str, Any]], **facts: Any
) -> Callable[[Recipe], Scenario]:
    def make(recipe: Recipe) -> Scenario:
        stage = replace(recipe.stage, **changes(recipe.stage))
        return Scenario(name=name, explanation=explanation, stages=(stage,), **facts)

    return make


def _two_stage(recipe: Recipe) -> Scenario:
    first, second = recipe.two_stage_epochs
    adam = replace(recipe.stage, optimizer=Optimizer(name="adam"), schedule=Schedule())
    return Scenario(
        name="two-stage",
        explanation="head alone (Adam 1e-3, batch 64), then everything (Adam 1e-4, batch 16) from its best epoch",
        stages=(
            replace(adam, epochs=first, head_lr=1e-3, backbone_lr=1e-3, frozen="backbone", batch_size=64, keep="best"),
            replace(adam, epochs=second, head_lr=1e-4, backbone_lr=1e-4, weight_decay=1e-4, batch_size=16),
        ),
    )


def _freeze_blocks(recipe: Recipe, blocks: int = 2) -> Scenario:
    name = "freeze-blocks" if blocks == 2 else f"freeze-blocks-{blocks}"
    text = f"the first {blocks} blocks of the backbone fixed, the rest trains (freeze-blocks-K for K blocks)"
    return _one_stage(name, text, lambda stage: {"frozen": blocks})(recipe)


SCENARIOS: Mapping[str, Callable[[Recipe], Scenario]] = {
    "scratch": _one_stage(
        "scratch", "random initialisation, otherwise the recipe of full", lambda stage: {}, start="random"
    ),
    "full": _one_stage("full", "pretrained, everything trains at one learning rate", lambda stage: {}),
    "freeze-conv": _one_stage(
        "freeze-conv",
        "pretrained backbone fixed, batch norm in inference mode; only the head trains",
        lambda stage: {"frozen": "backbone"},
    ),
    "freeze-conv-lr0": _one_stage(
        "freeze-conv-lr0",
        "backbone held by learning rate 0: same result as freeze-conv, still paying for gradients",
        lambda stage: {"backbone_lr": 0.0, "norm": "frozen"},
    ),
    "freeze-conv-live-norm": _one_stage(
        "freeze-conv-live-norm",
        "backbone weights fixed, batch-norm statistics moving: what the tutorials really do",
        lambda stage: {"frozen": "backbone", "norm": "batch"},
    ),
    "small-lr-conv": _one_stage(
        "small-lr-conv",
        "everything trains, the backbone at 0.1 x the head's learning rate",
        lambda stage: {"backbone_lr": stage.head_lr * 0.1},
    ),
    "head-10x": _one_stage(
        "head-10x",
        "everything trains, a Xavier head at 10 x the learning rate, weight decay 1e-3",
        lambda stage: {"head_lr": stage.head_lr * 10, "weight_decay": 1e-3},
        head_init="xavier",
    ),
    "two-stage": _two_stage,
    "freeze-blocks": _freeze_blocks,
}
"""How each scenario follows from a recipe. A record's version depends on the texts: a new text is a new version."""


def _pretraining(epochs: int, lr: float, **facts: Any) -> Scenario:
    schedule = Schedule(name="cosine", warmup_steps=20)
    return Scenario(
        name="pretraining",
        explanation="the embedded source task, from random initialisation",
        stages=(Stage(epochs=epochs, head_lr=lr, backbone_lr=lr, schedule=schedule, **facts),),
        start="random",
    )


_SGD = {"weight_decay": 5e-4, "batch_size": 32}
_ADAMW = {"optimizer": Optimizer(name="adamw"), "weight_decay": 1e-2, "batch_size": 64}
PRETRAINING: Mapping[str, Scenario] = {
    "efficientnet-b0": _pretraining(12, 3e-3, **_ADAMW),
    "mobilenet-v2-0.35": _pretraining(24, 4e-3, **_ADAMW),
    "resnet18": _pretraining(8, 0.04, **_SGD),
    "*": _pretraining(4, 0.04, **_SGD),
}
"""How each model is pretrained on the embedded source task; `*` is for all other models.

The networks of the package train until another processor, whose rounding differs, makes an equally good one. The others
are pretrained by their users, so they train for a shorter time.
"""
PRETRAINING_AUGMENT = "flip"
FIVE = ("scratch", "full", "freeze-conv", "small-lr-conv", "two-stage")
"""The scenarios of the default suite."""


def find_scenario(name: str, recipe: Recipe, users: Mapping[str, Scenario]) -> Scenario:
    """Return the scenario of a name; the user's scenarios come first. Raises `Refused` with the nearest names."""
    if name in users:
        return users[name]
    if match := re.fullmatch(r"freeze-blocks-(\d+)", name):
        return _freeze_blocks(recipe, int(match[1]))
    if name not in SCENARIOS:
        raise Refused(unknown("scenario", name, (*SCENARIOS, *users)))
    return SCENARIOS[name](recipe)


def with_files(names: Iterable[str], users: Mapping[str, Scenario]) -> tuple[tuple[str, ...], dict[str, Scenario]]:
    """Replace each `.toml` file by the names of its scenarios; return the names and all scenarios of the user.

    Raises `Refused` for a file that cannot be read.
    """
    found: list[str] = []
    scenarios = dict(users)
    for name in names:
        of_file = read_scenarios(Path(name)) if name.endswith(".toml") else {}
        scenarios.update(of_file)
        found.extend(of_file or (name,))
    return tuple(found), scenarios


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    scenario: tuple[Scenario, ...]
    case: tuple[dict[str, Any], ...] = ()


def read_scenarios(path: Path) -> dict[str, Scenario]:
    """Read the `[[scenario]]` tables of a TOML file; `[[case]]` tables are ignored. Raises `Refused`."""
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=_File).scenario
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from error
    return {scenario.name: check_scenario(scenario) for scenario in found}


def check_scenario(scenario: Scenario) -> Scenario:
    """Return the scenario if it is valid. Raises `Refused` with the stage and field."""
    if not scenario.stages:
        raise Refused(f"scenario {scenario.name} has no stages")
    for number, stage in enumerate(scenario.stages, 1):
        for problem in _problems(stage):
            raise Refused(f"scenario {scenario.name}, stage {number}: {problem}")
    return scenario


def _problems(stage: Stage) -> Iterator[str]:
    schedule = stage.schedule
    counts = {"epochs": stage.epochs, "batch_size": stage.batch_size, "every_epochs": schedule.every_epochs}
    yield from (f"{field} must be at least 1" for field, count in counts.items() if count < 1)
    for field in ("head_lr", "backbone_lr", "weight_decay"):
        if not 0 <= getattr(stage, field) < math.inf:
            yield f"{field} must not be negative or infinite"
    if not 0 < stage.bn_momentum <= 1:
        yield "bn_momentum must be above 0 and at most 1"
    if not 0 <= stage.label_smoothing < 1:
        yield "label_smoothing must be at least 0 and below 1"
    if isinstance(stage.frozen, int) and stage.frozen < 0:
        yield "frozen must be none, backbone, or a number of blocks"
    if schedule.warmup_steps < 0:
        yield "warmup_steps must not be negative"
