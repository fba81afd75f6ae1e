from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.choosing.scenarios import (
    FIVE,
    PRETRAINING,
    RECIPES,
    SCENARIOS,
    check_scenario,
    find_scenario,
    read_scenarios,
)
from harness.errors import Refused
from harness.spec import Optimizer, Scenario, Schedule, Stage

TUTORIAL = RECIPES["tutorial"]


def stages(name: str, recipe: str = "tutorial") -> tuple[Stage, ...]:
    return find_scenario(name, RECIPES[recipe], {}).stages


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_of_every_recipe_can_be_run_and_explains_itself(name: str, recipe: str) -> None:
    scenario = find_scenario(name, RECIPES[recipe], {})
    assert scenario.name == name
    assert len(scenario.explanation) > 20
    assert check_scenario(scenario) == scenario
    assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


def test_the_tutorial_s_recipe_is_the_tutorial_s() -> None:
    (stage,) = stages("full")
    assert (stage.epochs, stage.head_lr, stage.backbone_lr, stage.batch_size) == (25, 0.001, 0.001, 16)
    assert (stage.optimizer, stage.bn_momentum) == (Optimizer(name="sgd", momentum=0.9), 0.1)
    assert (stage.schedule.name, stage.schedule.every_epochs, stage.schedule.factor) == ("step", 7, 0.1)


def test_scratch_differs_from_full_in_its_start_alone() -> None:
    scratch, full = (find_scenario(name, TUTORIAL, {}) for name in ("scratch", "full"))
    assert replace(scratch, name="full", explanation=full.explanation, start="checkpoint") == full


def test_there_are_three_ways_to_hold_the_backbone() -> None:
    (fixed,), (rate_0,), (live,) = (
        stages(f"freeze-conv{end}") for end in ("", "-lr0", "-live-norm")
    )  # fmt: skip
    assert (fixed.frozen, fixed.norm) == ("backbone", "auto")
    assert (rate_0.frozen, rate_0.backbone_lr, rate_0.norm) == ("none", 0.0, "frozen")
    assert (live.frozen, live.norm) == ("backbone", "batch")


def test_rates_stand_in_the_declared_ratio() -> None:
    (small,), (tenfold,) = stages("small-lr-conv"), stages("head-10x")
    assert small.backbone_lr == pytest.approx(0.1 * small.head_lr)
    assert small.head_lr == stages("full")[0].head_lr
    assert tenfold.head_lr == pytest.approx(10 * tenfold.backbone_lr)
    assert tenfold.weight_decay == 1e-3
    assert find_scenario("head-10x", TUTORIAL, {}).head_init == "xavier"


def test_two_stages_begin_with_the_head_and_go_on_from_its_best_epoch() -> None:
    first, second = stages("two-stage")
    assert (first.frozen, first.head_lr, first.batch_size, first.keep) == ("backbone", 1e-3, 64, "best")
    assert (second.frozen, second.head_lr, second.backbone_lr, second.batch_size) == ("none", 1e-4, 1e-4, 16)
    assert second.weight_decay == 1e-4
    assert first.optimizer == second.optimizer == Optimizer(name="adam")
    assert first.schedule == second.schedule == Schedule()


@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_any_number_of_blocks_can_be_fixed(blocks: int) -> None:
    scenario = find_scenario(f"freeze-blocks-{blocks}", TUTORIAL, {})
    assert (scenario.name, scenario.stages[0].frozen) == (f"freeze-blocks-{blocks}", blocks)


def test_the_five_of_the_default_suite_are_scenarios() -> None:
    assert len(FIVE) == 5
    assert set(FIVE) < set(SCENARIOS)


@pytest.mark.parametrize("name", PRETRAINING)
def test_every_pretraining_starts_at_random_and_can_be_run(name: str) -> None:
    assert PRETRAINING[name].start == "random"
    check_scenario(PRETRAINING[name])


def test_a_user_s_scenario_goes_before_one_of_ours() -> None:
    mine = Scenario(name="full", explanation="mine", stages=(Stage(epochs=1, head_lr=1, backbone_lr=1),))
    assert find_scenario("full", TUTORIAL, {"full": mine}) == mine


@pytest.mark.parametrize("name", ["ful", "freeze-blocks-x", ""])
def test_an_unknown_scenario_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(Refused, match=rf"no scenario {name}.*known: scratch, full"):
        find_scenario(name, TUTORIAL, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "stage 1: epochs must be at least 1"),
        ({"batch_size": 0}, "stage 1: batch_size must be at least 1"),
        ({"head_lr": -0.1}, "stage 1: head_lr must not be negative"),
        ({"backbone_lr": -1}, "stage 1: backbone_lr must not be negative"),
        ({"weight_decay": -1}, "stage 1: weight_decay must not be negative"),
        ({"bn_momentum": 0}, "bn_momentum"),
        ({"bn_momentum": 1.1}, "bn_momentum"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"head_lr": float("nan")}, "head_lr"),
        ({"backbone_lr": float("inf")}, "backbone_lr"),
        ({"frozen": -1}, "frozen"),
        ({"schedule": Schedule(name="step", every_epochs=0)}, "every_epochs"),
        ({"schedule": Schedule(warmup_steps=-1)}, "warmup_steps"),
    ],
)
def test_a_stage_that_cannot_be_run_is_refused_with_its_number_and_field(change: dict[str, object], words: str) -> None:
    stage = replace(Stage(epochs=1, head_lr=0.1, backbone_lr=0.1), **change)
    with pytest.raises(Refused, match=words):
        check_scenario(Scenario(name="mine", explanation="", stages=(stage,)))


def test_a_file_of_scenarios_is_read_with_every_field(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("""
[[scenario]]
name = "gentle"
explanation = "AdamW, cosine with warm-up"
head_init = "xavier"

[[scenario.stages]]
epochs = 3
head_lr = 1e-3
backbone_lr = 1e-4
frozen = 2
norm = "frozen"
keep = "best"
optimizer = { name = "adamw", betas = [0.9, 0.99] }
schedule = { name = "cosine", warmup_steps = 5 }
""")
    found = read_scenarios(tmp_path / "mine.toml")["gentle"]
    assert found.head_init == "xavier"
    assert found.stages == (
        Stage(
            epochs=3, head_lr=1e-3, backbone_lr=1e-4, frozen=2, norm="frozen", keep="best",
            optimizer=Optimizer(name="adamw", betas=(0.9, 0.99)), schedule=Schedule(name="cosine", warmup_steps=5),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("text", [b"[[scenario]]\nnme = 'x'", b"[scenario", b"name = 'x'", b"\xff\xfe\x00"])
def test_a_file_with_a_slip_is_refused_with_its_path(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(Refused, match=r"mine\.toml: "):
        read_scenarios(tmp_path / "mine.toml")
