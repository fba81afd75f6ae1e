from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from harness import plugins
from harness.errors import Refused
from harness.plugins import ModelFacts

SCENARIO = """
from harness.spec import Scenario, Stage
SCENARIOS = [Scenario(name="{name}", explanation="mine", stages=(Stage(epochs=1, head_lr=0.1, backbone_lr=0.1),))]
"""
MODEL = """
from backends.reference.network import tiny_cnn
from harness.contract import Model
MODELS = {{"reference": [Model(name="{name}", build=tiny_cnn, classifier="fc.", blocks=3, about="mine")]}}
"""
DATASET = """
import numpy as np
def dots():
    images = np.arange(6 * 32 * 32 * 3, dtype=np.int64).reshape(6, 32, 32, 3).astype(np.uint8)
    return ("a", "b"), {"train": (images, np.arange(6) % 2)}
DATASETS = {"dots": dots}
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_plugin_is_described_by_the_names_it_brings(tmp_path: Path) -> None:
    first = written(tmp_path / "one.py", MODEL.format(name="mine") + SCENARIO.format(name="gentle"))
    second = written(tmp_path / "two.py", MODEL.format(name="other") + DATASET)
    names = plugins.describe([first, second])
    assert names.models == {"reference": {"mine": ModelFacts(gmacs=1.0), "other": ModelFacts(gmacs=1.0)}}
    assert [scenario.name for scenario in names.scenarios] == ["gentle"]
    assert names.datasets == {"dots": second}


def test_a_plugin_may_import_what_lies_beside_it_and_nothing_is_hidden_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    written(tmp_path / "my_layers.py", "NAME = 'mine'")
    written(tmp_path / "json.py", "raise RuntimeError('not this one')")
    path = written(tmp_path / "three.py", "import json\nfrom my_layers import NAME\n" + SCENARIO.format(name="gentle"))
    assert [scenario.name for scenario in plugins.describe([path]).scenarios] == ["gentle"]


def test_a_plugin_that_brings_nothing_is_no_error(tmp_path: Path) -> None:
    assert plugins.describe([written(tmp_path / "empty.py", "")]) == plugins.Names()


def test_a_plugin_s_model_is_found_beside_the_backend_s_own_and_before_it(tmp_path: Path) -> None:
    path = written(tmp_path / "one.py", MODEL.format(name="mine"))
    module, model = plugins.find_model("reference", "mine", [path])
    assert (module.__name__, model.name, model.about) == ("backends.reference", "mine", "mine")
    assert plugins.find_model("reference", "tiny-cnn", [path])[1].about.startswith("three strided")
    shadow = written(tmp_path / "two.py", MODEL.format(name="tiny-cnn"))
    assert plugins.find_model("reference", "tiny-cnn", [shadow])[1].about == "mine"


def test_a_model_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="reference has no model nothing; choose one of tiny-cnn"):
        plugins.find_model("reference", "nothing", [])


def test_a_backend_of_one_s_own_is_described_and_found(tmp_path: Path) -> None:
    text = "from types import ModuleType\nimport backends.reference as base\nown = ModuleType('own')\n"
    text += (
        "vars(own).update({k: v for k, v in vars(base).items() if not k.startswith('__')})\nBACKENDS = {'mine': own}\n"
    )
    path = written(tmp_path / "backend.py", text)
    assert list(plugins.describe([path]).backends["mine"].models) == ["tiny-cnn"]
    assert plugins.describe([path]).backends["mine"].formats == (".npz",)
    assert plugins.find_model("mine", "tiny-cnn", [path])[0].__name__ == "own"


@pytest.mark.parametrize("name", ["own", "of.two-words", "reference"])
def test_a_backend_that_has_nothing_to_prepare_is_no_error(name: str) -> None:
    plugins.prepare_process(name)


def test_a_plugin_is_run_once_in_a_process(tmp_path: Path) -> None:
    path = written(tmp_path / "once.py", SCENARIO.format(name="gentle"))
    assert plugins.load(path) is plugins.load(path)


def test_a_plugin_s_dataset_is_what_its_function_returns(tmp_path: Path) -> None:
    classes, splits = plugins.dataset(written(tmp_path / "data.py", DATASET), "dots")
    assert classes == ("a", "b")
    assert splits["train"][0].shape == (6, 32, 32, 3)


def test_a_missing_plugin_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"--plugin .*nothing\.py: no such file"):
        plugins.load(str(tmp_path / "nothing.py"))


def test_two_plugins_of_one_file_name_do_not_meet(tmp_path: Path) -> None:
    for folder, name in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder / "plugin.py", SCENARIO.format(name=name))
    names = plugins.describe([str(tmp_path / "a/plugin.py"), str(tmp_path / "b/plugin.py")])
    assert [scenario.name for scenario in names.scenarios] == ["first", "second"]


def test_a_plugin_can_define_classes_that_look_up_their_module(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int = 0\n"
    )
    module = plugins.load(written(tmp_path / "points.py", text))
    assert module.Point().x == 0


def test_installed_plugins_are_named_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "someones_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nmine = someones_plugin.models\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [entry.value for entry in metadata.entry_points(group=plugins.GROUP)] == ["someones_plugin.models"]
    assert plugins.installed() == ("someones_plugin.models",)
