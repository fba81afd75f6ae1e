"""The script of a case: readable, of its framework alone, and the same training. The program is `script_training`."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks.choosing.scenarios import FIVE, RECIPES, SCENARIOS
from benchmarks.preparing.script_weights import export_backbone
from harness.data.augment import parse_augment
from harness.data.checkpoint import NORMALISATIONS
from harness.errors import Declined
from harness.process.ask import ask
from harness.running.record import Record
from harness.spec import Augmentation, Optimizer
from results.exports.scripts import keras_script, torch_script
from results.exports.scripts.case_script import case_script, weights_name
from results.exports.scripts.settings import Described
from tests.backends.programs import answered
from tests.results.exports import script_training
from tests.results.records import build

BACKENDS = ("pytorch", "keras3")
AUGMENTATIONS = {"embedded": "flip", "tutorial": "random-resized-crop,flip"}
OURS = ("harness", "backends", "benchmarks", "results", "finetune")


def record(backend: str, name: str = "full", recipe: str = "embedded", **facts: Any) -> Record:
    fields = {"model": script_training.MODEL, "augment": parse_augment(AUGMENTATIONS[recipe]), **facts}
    made = build(backend=backend, engine="tensorflow" if backend == "keras3" else None, **fields)
    return replace(made, case=replace(made.case, scenario=SCENARIOS[name](RECIPES[recipe])))


def text_of(made: Record) -> str:
    return case_script(Described(made, NORMALISATIONS["imagenet"], weights_name(made.case)))


CASES = [
    (backend, model, name, recipe)
    for backend, models in (("pytorch", torch_script.MODELS), ("keras3", keras_script.MODELS))
    for model in models
    for name in FIVE
    for recipe in AUGMENTATIONS
]


def test_scripts_are_short_formatted_and_free_of_faults_and_of_this_project(tmp_path: Path) -> None:
    for place, (backend, model, name, recipe) in enumerate(CASES):
        text = text_of(record(backend, name, recipe, model=model))
        assert 80 <= len(text.splitlines()) <= 150, (backend, model, name, recipe)
        assert not [word for word in OURS if word in text]
        framework = {"torch", "torchvision", "efficientnet_pytorch"} if backend == "pytorch" else {"keras"}
        assert imported(text) - sys.stdlib_module_names - {"PIL", "numpy"} <= framework
        (tmp_path / f"script{place}.py").write_text(text)
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    for words in (("check", "--isolated"), ("format", "--isolated", "--check")):
        done = subprocess.run([ruff, *words, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def imported(text: str) -> set[str]:
    tree = ast.parse(text)
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain} | {
        str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_other_scenario_is_valid_code_or_declined_by_name(backend: str) -> None:
    for name in SCENARIOS:
        try:
            compile(text_of(record(backend, name)), name, "exec")
        except Declined as reason:
            assert (backend, name) == ("keras3", "freeze-conv-lr0"), reason


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"precision": "bf16"}, "precision bf16"),
        ({"idiom": True}, "--native-defaults"),
        ({"optimizer_rule": "own"}, "--optimizer-rule own"),
        ({"head": "mlp"}, "mlp head"),
        ({"reuse_head": True}, "--reuse-head"),
        ({"limit": 8}, "--limit"),
        ({"augment": (Augmentation(name="views"),)}, "views"),
        ({"model": "alexnet"}, "no PyTorch script for alexnet"),
        ({"image_size": 100}, "multiple of 32"),
    ],
)
def test_what_a_script_cannot_reproduce_is_declined_in_one_line(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(Declined, match=words):
        text_of(record("pytorch", **facts))


def test_a_backend_without_scripts_and_stages_with_two_rules_are_declined() -> None:
    with pytest.raises(Declined, match="backend reference, only for pytorch, keras3"):
        text_of(record("reference"))
    made = record("pytorch", "two-stage")
    first, second = made.case.scenario.stages
    scenario = replace(made.case.scenario, stages=(first, replace(second, optimizer=Optimizer())))
    with pytest.raises(Declined, match="stages differ in optimizer"):
        text_of(replace(made, case=replace(made.case, scenario=scenario)))


# TensorFlow traces two stages for minutes on a slow processor, so one stage stands for the five of Keras.
EACH = pytest.mark.parametrize(
    ("backend", "scenarios"),
    [
        ("pytorch", ("two-stage",)),
        ("keras3", ("freeze-conv",)),
        *(pytest.param(backend, FIVE, marks=pytest.mark.long) for backend in BACKENDS),
    ],
    ids=["pytorch", "keras3", "pytorch-all", "keras3-all"],
)


@EACH
@pytest.mark.timeout(1800)
def test_on_the_same_batches_a_script_has_the_losses_and_the_accuracy_of_the_run(
    backend: str, scenarios: tuple[str, ...], tmp_path: Path
) -> None:
    found: Any = answered(
        script_training.__file__, "tensorflow", backend, str(tmp_path), *scenarios,
        keras=backend == "keras3", timeout_s=1700,
    )  # fmt: skip
    assert [one["scenario"] for one in found] == list(scenarios)
    for one in found:
        for ours, theirs in zip(one["record"], one["script"], strict=True):
            assert len(ours) == len(theirs) == 12
            np.testing.assert_allclose(theirs[:10], ours[:10], rtol=1e-6)
        accuracy, of_script = one["accuracy"]
        assert of_script == pytest.approx(accuracy, abs=1e-3 if backend == "pytorch" else 0.1)


ALONE = """
import runpy, sys
sys.path.append(sys.argv[1])
for name in ("harness", "backends", "benchmarks", "results"):
    sys.modules[name] = None  # an import of it fails, wherever it is installed
for script in sys.argv[2:]:
    sys.argv = [script, "--data", "images", "--out", f"{script}.out.keras"]
    runpy.run_path(script, run_name="__main__")
"""


@EACH
@pytest.mark.timeout(1800)
def test_the_scripts_run_where_this_project_cannot_be_imported(
    backend: str, scenarios: tuple[str, ...], tmp_path: Path
) -> None:
    folders = [tmp_path / "images" / split / name for split in ("train", "val") for name in ("dark", "light")]
    for place, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (70, 64), (100 * (place % 2) + number,) * 3).save(folder / f"{number}.png")
    scripts = []
    for name in scenarios:
        made = record(backend, name)
        stages = tuple(replace(stage, epochs=1, batch_size=4) for stage in made.case.scenario.stages)
        case = replace(made.case, scenario=replace(made.case.scenario, stages=stages))
        (tmp_path / f"{name}.py").write_text(text_of(replace(made, case=case)))
        scripts.append(f"{name}.py")
    case = record(backend).case
    target = {"case": case, "checkpoint": str(script_training.NETWORK), "target": str(tmp_path / weights_name(case))}
    ask(export_backbone, target, NoneType, engine=case.engine)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, sysconfig.get_path("purelib"), *scripts],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("val accuracy") == len(scenarios)
    assert len(list(tmp_path.glob("*.out.keras"))) == len(scenarios)
