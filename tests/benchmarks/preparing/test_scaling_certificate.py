"""Certificates of two devices against one: they pass for the code that is timed, and find what is done wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends import pytorch
from benchmarks.datasets.writing import PreparedDataset
from benchmarks.selftest.several_devices.mistakes import MISTAKES, DeviceMistake
from benchmarks.selftest.sin import SinPlace
from harness.spec import Case, Job, Scenario, Stage
from results.certificates.certificate import Check
from results.certificates.evidence import ArmEvidence, EvidencePair
from results.certificates.proof import prove
from tests.backends.test_parallel import PLUGIN
from tests.benchmarks.preparing.test_certify import answer

pytest.importorskip("torch")
pytest.importorskip("efficientnet_pytorch")

FULL = Scenario(
    name="full",
    explanation="",
    stages=(Stage(epochs=10, head_lr=0.05, backbone_lr=0.05, batch_size=8),),
    start="random",
)


def jobs(data: PreparedDataset, devices: int) -> list[Job]:
    case = Case(
        backend="pytorch",
        model="small-network",
        scenario=FULL,
        dataset=data.meta.name,
        dataset_sha256=data.meta.sha256,
        image_size=32,
        dropout=False,
        devices=devices,
    )
    return [Job(case=case, dataset_path=str(data.folder), plugins=(str(PLUGIN),))]


@pytest.fixture(scope="module")
def one(tiny_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArmEvidence, ArmEvidence]:
    return answer(jobs(tiny_dataset, 1), tmp_path_factory.mktemp("one"))


def checks(one: tuple[ArmEvidence, ArmEvidence], data: PreparedDataset, folder: Path) -> list[Check]:
    two = answer(jobs(data, 2), folder)
    return prove(EvidencePair((one[0], two[0]), (one[1], two[1])), [FULL])


def failed(found: list[Check]) -> set[str]:
    return {f"P{check.level} {check.what}" for check in found if not check.passed}


def test_two_devices_train_as_one(
    one: tuple[ArmEvidence, ArmEvidence], tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    found = checks(one, tiny_dataset, tmp_path)
    assert failed(found) == set()
    assert max(check.worst for check in found if check.what == "losses in float64") < 1e-9


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (MISTAKES[0], "P3 losses in float64"),
        (MISTAKES[1], "P3 losses in float64"),
        (MISTAKES[2], "P3 learning rates relative to the schedule"),
    ],
    ids=[mistake.name for mistake in MISTAKES],
)
def test_a_mistake_of_data_parallelism_is_found(
    mistake: DeviceMistake,
    found: str,
    one: tuple[ArmEvidence, ArmEvidence],
    tiny_dataset: PreparedDataset,
    tmp_path: Path,
) -> None:
    with mistake.plant(pytorch, SinPlace(True, np.random.default_rng(0))):
        assert found in failed(checks(one, tiny_dataset, tmp_path))
