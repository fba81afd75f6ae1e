"""A record in the words of experiment trackers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import results
from results.exports.training import Training, trainings
from tests.results.records import build, without_training_images
from tests.results.tables.test_load import store


def read(folder: Path) -> list[Training]:
    return list(trainings(results.load(folder)))


def test_curves_have_a_point_per_epoch_and_go_on_over_stages(tmp_path: Path) -> None:
    record = build(curve=(0.5, 0.7))
    store(tmp_path, msgspec.structs.replace(record, stages=record.stages * 2))
    (training,) = read(tmp_path)
    points = training.curves["val_accuracy"]
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.7), (3, 0.5), (4, 0.7)]
    assert [point.at - training.began for point in points] == pytest.approx([0.55, 2.55, 3.1, 5.1])
    assert set(training.curves) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}


def test_a_curve_that_was_not_measured_is_left_out(tmp_path: Path) -> None:
    store(tmp_path, without_training_images(build(curve=(0.5, 0.7))))
    (training,) = read(tmp_path)
    assert set(training.curves) == {"val_loss", "val_accuracy"}


def test_figures_are_those_of_the_frame_and_only_what_was_measured(tmp_path: Path) -> None:
    store(tmp_path, build(accuracy=0.8, step_us=50_000), build(status="skipped", reason="no CUDA"))
    measured, skipped = read(tmp_path)
    assert measured.figures["accuracy"] == 0.8
    assert measured.figures["throughput"] == pytest.approx(320)
    assert (skipped.figures, skipped.curves, skipped.status, skipped.reason) == ({}, {}, "skipped", "no CUDA")


def test_settings_and_tags_say_what_ran_where(tmp_path: Path) -> None:
    store(tmp_path, build(seed=7, stage={"keep": "best"}))
    (training,) = read(tmp_path)
    assert training.settings["seed"] == 7
    assert training.settings["scenario.stages.1.keep"] == "best"
    assert training.settings["scenario.stages.1.optimizer.name"] == "sgd"
    assert training.tags["machine"] == "m1"
    assert training.tags["version.pytorch"] == "1.0"


def test_the_same_record_has_the_same_identity_wherever_it_lies(tmp_path: Path) -> None:
    one, other = build(), build(seed=1)
    store(tmp_path / "a", one, other)
    store(tmp_path / "b", other)
    (first, second), (again,) = read(tmp_path / "a"), read(tmp_path / "b")
    assert again.identity == second.identity != first.identity
