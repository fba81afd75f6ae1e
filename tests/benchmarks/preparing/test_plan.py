from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.datasets.cache import ENVIRONMENT
from benchmarks.preparing.plan import PlannedCase, Preparation
from harness.data.dataset import open_dataset
from harness.errors import Refused
from harness.process.ask import ask
from tests.benchmarks.commanding import EXAMPLES


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue([str(EXAMPLES / "dataset.py")])


def plan(
    catalogue: Catalogue, events: list[Any] | None = None, *, strict: bool = False, **chosen: Any
) -> list[PlannedCase]:
    wanted = {"backend": ("reference",), "model": ("tiny-cnn",), "scenario": ("scratch",), "image_size": (32,),
              "batch_size": (8,), "epochs": 1, **chosen}  # fmt: skip
    preparation = Preparation(catalogue, (events if events is not None else []).append)
    return [preparation.plan(selected, strict=strict) for selected in expand(Selection(**wanted), catalogue)]


def test_a_planned_case_names_its_data_by_content(catalogue: Catalogue, images: Path) -> None:
    (planned,) = plan(catalogue, data=(str(images),))
    assert planned.job is not None
    meta = open_dataset(planned.job.dataset_path).meta
    assert (planned.case.dataset, planned.case.dataset_sha256) == ("three colours", meta.sha256)
    assert planned.job.case == planned.case
    assert planned.job.files_path == str(images)
    assert planned.job.checkpoint_path is None


def test_data_and_checkpoint_are_prepared_once_for_all_cases(
    catalogue: Catalogue, images: Path, checkpoint: Path
) -> None:
    events: list[Any] = []
    found = plan(
        catalogue, events, data=(str(images),), checkpoint=(str(checkpoint),), scenario=("full", "freeze-conv"), seeds=3
    )
    assert events.count({"preparing": str(images)}) == 1
    assert {p.job.checkpoint_path for p in found if p.job} == {str(checkpoint)}
    assert len({p.case.checkpoint_sha256 for p in found}) == 1


def test_scratch_takes_a_named_checkpoint_for_its_normalisation(
    catalogue: Catalogue, images: Path, checkpoint: Path
) -> None:
    (planned,) = plan(catalogue, data=(str(images),), checkpoint=(str(checkpoint),))
    assert planned.case.checkpoint == checkpoint.name


def test_scratch_on_the_embedded_task_needs_no_pretraining(catalogue: Catalogue) -> None:
    events: list[Any] = []
    (planned,) = plan(catalogue, events, image_size=(64,))
    assert planned.job is not None
    assert planned.job.checkpoint_path is None
    assert events == [{"preparing": "embedded"}]


def test_generated_data_in_the_cache_need_no_worker_and_are_the_same(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    asked: list[str] = []

    def counted(function: Any, arguments: Mapping[str, Any], *rest: Any, **options: Any) -> Any:
        asked.append(arguments["data"])
        return ask(function, arguments, *rest, **options)

    monkeypatch.setattr("benchmarks.preparing.plan.ask", counted)
    made, found, other_size, again = [plan(catalogue, image_size=(size,))[0] for size in (32, 32, 48, 32)]
    assert asked == ["embedded", "embedded"]
    assert found == made == again != other_size
    for path in (tmp_path / "datasets").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    assert plan(catalogue, image_size=(32,)) == [made]
    assert len(asked) == 3


def test_generated_data_in_the_cache_refuse_what_image_folders_have(catalogue: Catalogue) -> None:
    plan(catalogue)
    for division, option in (({"validation_split": 0.2}, "validation-split"), ({"splits": "train=a"}, "splits")):
        with pytest.raises(Refused, match=f"leave out --{option}"):
            plan(catalogue, **division)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"scenario": ("full",), "fold_norms": True}, "no stage of full .*; leave out --fold-norms$"),
        ({"scenario": ("freeze-conv-live-norm",), "fold_norms": True}, "no stage of .*; leave out --fold-norms$"),
        ({"scenario": ("full",), "features": ("kept",)}, "no stage of full .*; use --features live$"),
        ({"features": ("kept",), "fold_norms": True}, "compute no fixed part; leave out --fold-norms$"),
        ({"features": ("kept",), "input": ("stream",)}, "ready in memory, not with --input stream$"),
    ],
)
def test_settings_for_a_fixed_part_need_one(
    catalogue: Catalogue, chosen: dict[str, Any], reason: str, checkpoint: Path
) -> None:
    wanted = {"scenario": ("freeze-conv",), "checkpoint": (str(checkpoint),), "data": ("embedded",)}
    (planned,) = plan(catalogue, **wanted | chosen)
    assert planned.job is None
    assert re.search(reason, planned.skip_reason)
    (possible,) = plan(catalogue, **wanted, fold_norms=True)
    assert possible.job is not None


def test_a_setting_that_another_one_makes_meaningful_needs_it(catalogue: Catalogue) -> None:
    with pytest.raises(Refused, match=r"^--compile-mode max-autotune means nothing without --compile; use both$"):
        plan(catalogue, compile_mode="max-autotune")
    (planned,) = plan(catalogue, compile=True, compile_mode="max-autotune")
    assert planned.job is not None


def test_a_plugin_s_data_is_prepared_in_a_worker(catalogue: Catalogue) -> None:
    (planned,) = plan(catalogue, data=("light",))
    assert planned.job is not None
    assert planned.case.dataset == "light"
    assert open_dataset(planned.job.dataset_path).meta.classes == ("dark", "bright")
    assert planned.job.plugins == catalogue.plugins


def test_what_cannot_be_had_is_a_planned_case_with_the_reason(catalogue: Catalogue, images: Path) -> None:
    (planned,) = plan(catalogue, data=(str(images),), scenario=("full",))
    assert planned.job is None
    assert planned.skip_reason.startswith("tiny-cnn has no published imagenet weights")
    assert planned.case.dataset_sha256


def test_strict_and_the_folder_for_networks_go_with_the_job(catalogue: Catalogue, images: Path) -> None:
    (planned,) = plan(catalogue, data=(str(images),), strict=True)
    assert planned.job is not None
    assert planned.job.strict


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (
            {"batch_size": (49,)},
            r"a batch of 49 is larger than the training set; data: 48 training images of the classes blue",
        ),
        ({"batch_size": (16,)}, r"too few steps \(3\): the first step and 3 warm-up steps do not count"),
        ({"limit": 6}, "a batch of 8 is larger than the training set; data: 6 training images"),
        ({"warmup_steps": 5}, r"too few steps \(6\): the first step and 5 warm-up steps do not count"),
        (
            {"scenario": ("two-stage",), "batch_size": ()},
            "two-stage, stage 1 on three colours: a batch of 64 is larger",
        ),
    ],
)
def test_stages_that_cannot_be_measured_are_refused_before_anything_is_pretrained(
    catalogue: Catalogue, images: Path, chosen: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        plan(catalogue, data=(str(images),), **chosen)


def test_enough_steps_are_enough(catalogue: Catalogue, images: Path) -> None:
    (planned,) = plan(catalogue, data=(str(images),), warmup_steps=4)
    assert planned.job is not None
