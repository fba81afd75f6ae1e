from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.scenarios import FIVE
from benchmarks.choosing.selection import SelectedCase, Selection, expand, in_turns, read_suite
from harness.errors import Refused
from harness.process.machine import measuring_threads
from harness.spec import Augmentation, Scenario, Stage


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


def cases(catalogue: Catalogue, **chosen: Any) -> list[SelectedCase]:
    wanted = {"backend": ("reference",), "model": ("tiny-cnn",), "scenario": ("scratch",), **chosen}
    return expand(Selection(**wanted), catalogue)


def test_lists_are_combined_as_a_product_in_their_order(catalogue: Catalogue) -> None:
    found = cases(catalogue, scenario=("full", "scratch"), head=("linear", "mlp"), input=("arrays", "stream"), seeds=2)
    assert len(found) == 2 * 2 * 2 * 2
    assert [(d.case.scenario.name, d.case.head, d.case.input, d.case.seed) for d in found[:5]] == [
        ("full", "linear", "arrays", 0), ("full", "linear", "arrays", 1), ("full", "linear", "stream", 0),
        ("full", "linear", "stream", 1), ("full", "mlp", "arrays", 0)]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "field", "values"),
    [
        ({"image_size": (32, 64)}, "image_size", [32, 64]),
        ({"device": ("cpu", "cuda")}, "device", ["cpu", "cuda"]),
        ({"precision": ("fp32", "bf16")}, "precision", ["fp32", "bf16"]),
        ({"layout": ("channels-last", "channels-first")}, "layout", ["channels-last", "channels-first"]),
        ({"threads": (1, 3)}, "threads", [1, 3]),
        ({"compile": True}, "compile", [True]),
        ({"limit": 9}, "limit", [9]),
        ({"workers": 2}, "workers", [2]),
        ({"warmup_steps": 5}, "warmup_steps", [5]),
        ({"native_defaults": True}, "idiom", [True]),
        ({"dropout": False}, "dropout", [False]),
        ({"reuse_head": True}, "reuse_head", [True]),
    ],
)
def test_what_is_chosen_is_in_the_case(
    catalogue: Catalogue, chosen: dict[str, Any], field: str, values: list[Any]
) -> None:
    assert [getattr(selected.case, field) for selected in cases(catalogue, **chosen)] == values


@pytest.mark.parametrize(
    ("chosen", "field", "value"),
    [
        ({"epochs": 4}, "epochs", 4),
        ({"batch_size": (5,)}, "batch_size", 5),
        ({"bn_momentum": 0.3}, "bn_momentum", 0.3),
        ({"bn_mode": "batch"}, "norm", "batch"),
        ({"select_epoch": "best"}, "keep", "best"),
    ],
)
def test_what_is_chosen_is_in_every_stage(catalogue: Catalogue, chosen: dict[str, Any], field: str, value: Any) -> None:
    (selected,) = cases(catalogue, scenario=("two-stage",), **chosen)
    assert [getattr(stage, field) for stage in selected.case.scenario.stages] == [value, value]


def test_batch_sizes_are_combined_with_the_rest(catalogue: Catalogue) -> None:
    found = cases(catalogue, batch_size=(8, 16), threads=(1, 2))
    assert [(d.case.scenario.stages[0].batch_size, d.case.threads) for d in found] == [(8, 1), (8, 2), (16, 1), (16, 2)]


def test_a_file_of_scenarios_stands_for_all_that_are_in_it(catalogue: Catalogue, tmp_path: Path) -> None:
    stages = "[[scenario.stages]]\nepochs = 1\nhead_lr = 1.0\nbackbone_lr = 0.0\n"
    tables = [f"[[scenario]]\nname = '{name}'\nexplanation = ''\n{stages}" for name in ("one", "two")]
    (tmp_path / "mine.toml").write_text("[[case]]\nmodel = ['resnet18']\n" + "".join(tables))
    found = cases(catalogue, scenario=("scratch", str(tmp_path / "mine.toml")))
    assert [selected.case.scenario.name for selected in found] == ["scratch", "one", "two"]
    assert found[1].case.scenario.stages[0].head_lr == 1.0


def test_a_learning_rate_is_the_recipe_s_and_a_scenario_keeps_its_ratio(catalogue: Catalogue) -> None:
    (selected,) = cases(catalogue, scenario=("small-lr-conv",), lr=0.2)
    assert selected.case.scenario.stages[0].head_lr == 0.2
    assert selected.case.scenario.stages[0].backbone_lr == pytest.approx(0.02)


def test_the_embedded_task_has_its_own_recipe_size_augmentation_and_checkpoint(catalogue: Catalogue) -> None:
    (embedded,), (folder,) = cases(catalogue), cases(catalogue, data=("some/folder",))
    assert (embedded.case.image_size, embedded.checkpoint) == (64, "embedded")
    assert (folder.case.image_size, folder.checkpoint) == (224, "imagenet")
    assert [a.name for a in embedded.case.augment] == ["flip"]
    assert [a.name for a in folder.case.augment] == ["random-resized-crop", "flip"]
    assert embedded.case.scenario.stages[0].epochs == 9
    assert folder.case.scenario.stages[0].epochs == 25
    (other,) = cases(catalogue, data=("some/folder",), recipe="embedded")
    assert other.case.scenario.stages[0].epochs == 9


def test_by_default_one_core_is_left_to_the_rest(catalogue: Catalogue) -> None:
    assert cases(catalogue)[0].case.threads == measuring_threads()


def test_without_names_the_default_models_run_on_every_backend_but_the_reference(catalogue: Catalogue) -> None:
    found = expand(Selection(), catalogue)
    assert {(d.case.backend, d.case.engine, d.case.model) for d in found} >= {
        ("pytorch", None, "resnet18"), ("pytorch", None, "efficientnet-b0"),
        ("keras3", "tensorflow", "mobilenet-v2-0.35")}  # fmt: skip
    assert "reference" not in {d.case.backend for d in found}
    assert [d.case.scenario.name for d in found[:5]] == list(FIVE)


def test_a_model_runs_on_every_backend_that_has_it(catalogue: Catalogue) -> None:
    found = expand(Selection(model=("mobilenet-v2-0.35", "resnet18"), scenario=("full",)), catalogue)
    assert [(d.case.backend, d.case.model) for d in found] == [
        (backend, model) for backend in ("pytorch", "keras3") for model in ("mobilenet-v2-0.35", "resnet18")
        if model in catalogue.backends[backend].models]  # fmt: skip


def test_engines_belong_to_the_backend_that_has_them(catalogue: Catalogue) -> None:
    backends, models = ("keras3", "reference"), ("mobilenet-v2-0.35", "tiny-cnn")
    wanted = Selection(backend=backends, engine=("jax", "torch"), model=models, scenario=("full",))
    assert [(d.case.backend, d.case.engine) for d in expand(wanted, catalogue)] == [
        ("keras3", "jax"), ("keras3", "torch"), ("reference", None)]  # fmt: skip


def test_checkpoints_and_their_input_scalings_can_be_given_per_model(catalogue: Catalogue) -> None:
    wanted = Selection(
        backend=("pytorch",),
        model=("resnet18", "mobilenet-v2-0.35"),
        scenario=("full",),
        checkpoint=("resnet18=a.pth", "b.h5"),
        input_scaling=("imagenet", "mobilenet-v2-0.35=minus-one-to-one"),
    )
    found = {one.case.model: (one.checkpoint, one.input_scaling) for one in expand(wanted, catalogue)}
    assert found == {"resnet18": ("a.pth", "imagenet"), "mobilenet-v2-0.35": ("b.h5", "minus-one-to-one")}


@pytest.mark.parametrize(
    ("option", "values", "words"),
    [
        ("checkpoint", ("a.pth", "b.pth"), "--checkpoint is given twice for all models; write MODEL=VALUE"),
        ("checkpoint", ("resnet18=a.pth", "resnet18=b.pth"), "--checkpoint is given twice for resnet18"),
        ("checkpoint", ("resnt18=a.pth",), r"no model resnt18 \(did you mean resnet18"),
        ("checkpoint", ("runs/lr=0.1/last.pth",), "no model runs/lr"),
        ("input_scaling", ("imagenet", "zero-to-one"), "--input-scaling is given twice for all models"),
        ("input_scaling", ("resnet=imagenet",), "no model resnet"),
    ],
)
def test_a_value_of_no_model_or_of_one_twice_is_refused(
    catalogue: Catalogue, option: str, values: tuple[str, ...], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        cases(catalogue, **{option: values})


def test_a_file_whose_path_has_an_equals_sign_is_that_file(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "lr=0.1" / "last.pth"
    file.parent.mkdir()
    file.touch()
    assert {one.checkpoint for one in cases(catalogue, checkpoint=(str(file),))} == {str(file)}


def test_augmentations_are_alternatives_each_a_sequence(catalogue: Catalogue) -> None:
    found = cases(catalogue, augment=("none", "rotation:degrees=10,flip"))
    assert found[0].case.augment == ()
    assert [a.name for a in found[1].case.augment] == ["rotation", "flip"]
    assert isinstance(found[1].case.augment[0], Augmentation)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"backend": ("tensorflow",), "model": ()}, "no backend tensorflow"),
        ({"backend": ("reference",), "model": ("resnet18",)}, "reference has no model resnet18; known: tiny-cnn"),
        ({"backend": ("reference", "pytorch"), "model": ("tiny-cnn",)}, "pytorch has none of the models tiny-cnn"),
        ({"engine": ("tensorflow",)}, "no engine tensorflow"),
        ({"scenario": ("ful",)}, "did you mean full"),
        ({"recipe": "tutorail"}, "did you mean tutorial"),
        ({"augment": ("flp",)}, "flip"),
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
        ({"workers": -1}, "--workers -1: must be at least 0"),
        ({"batch_size": (8, 0)}, "--batch-size 0: must be at least 1"),
        ({"scenario": ("nowhere.toml",)}, r"nowhere\.toml: "),
        ({"image_size": (64, 2)}, "--image-size 2: must be at least 8"),
        ({"validation_split": 0.0}, "--validation-split 0.0: must be between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused(catalogue: Catalogue, chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        cases(catalogue, **chosen)


def test_a_suite_s_file_holds_selections_and_scenarios(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "[[case]]\nmodel = ['resnet18']\nseeds = 2\n[[case]]\nscenario = ['own']\n"
        "[[scenario]]\nname = 'own'\nexplanation = 'x'\n"
        "[[scenario.stages]]\nepochs = 1\nhead_lr = 1.0\nbackbone_lr = 0.0\n"
    )
    selections, scenarios = read_suite(tmp_path / "mine.toml")
    assert selections == [Selection(model=("resnet18",), seeds=2), Selection(scenario=("own",))]
    stage = Stage(epochs=1, head_lr=1.0, backbone_lr=0.0)
    assert scenarios == {"own": Scenario(name="own", explanation="x", stages=(stage,))}


def test_a_suite_s_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match=r"mine\.toml"):
        read_suite(tmp_path / "mine.toml")


def test_two_seeds_of_one_backend_are_followed_by_the_same_two_of_the_next_and_nothing_is_lost(
    catalogue: Catalogue,
) -> None:
    chosen = Selection(
        backend=("pytorch", "keras3"), model=("mobilenet-v2-0.35",), scenario=("scratch", "full"), seeds=3
    )
    expanded = expand(chosen, catalogue)
    found = in_turns(expanded)
    assert [(one.case.scenario.name, one.case.backend, one.case.seed) for one in found] == [
        (scenario, backend, seed)
        for scenario in ("scratch", "full")
        for seeds in ((0, 1), (2,))
        for backend in ("pytorch", "keras3")
        for seed in seeds
    ]
    assert sorted(map(id, found)) == sorted(map(id, expanded))
