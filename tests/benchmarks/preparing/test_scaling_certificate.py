"""Certificates of two devices against one: they pass for the code that is timed, and find what is done wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends import pytorch
from benchmarks.datasets.writing import PreparedDataset
from harness.data.feed import Batch
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
        model="two-torch-blocks",
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


def statistics_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytorch.open_session

    def open_session(case: Case, *rest: Any) -> Any:
        return real(replace(case, norm_scope="device") if case.devices > 1 else case, *rest)

    monkeypatch.setattr(pytorch, "open_session", open_session)


def repeated_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.pytorch import session

    real = session.deal

    def deal(batches: Iterable[Batch], devices: int) -> Iterator[Batch]:
        """Every device gets the rows of the first one."""
        return real((Batch(*(_repeated(array, devices) for array in batch)) for batch in batches), devices)

    monkeypatch.setattr(session, "deal", deal)


def _repeated(array: np.ndarray, devices: int) -> np.ndarray:
    return np.concatenate([array[: len(array) // devices]] * devices)


def rate_times_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.pytorch.session import TorchSession

    real = TorchSession.train

    def train(self: Any, stage: Stage, *rest: Any) -> None:
        factor = self.case.devices
        scaled = replace(stage, head_lr=factor * stage.head_lr, backbone_lr=factor * stage.backbone_lr)
        real(self, scaled, *rest)

    monkeypatch.setattr(TorchSession, "train", train)


@pytest.mark.parametrize(
    ("sin", "found"),
    [
        (statistics_of_each_device, "P3 losses in float64"),
        (repeated_samples, "P3 losses in float64"),
        (rate_times_devices, "P3 learning rates relative to the schedule"),
    ],
)
def test_a_sin_of_data_parallelism_is_found(
    sin: Callable[[pytest.MonkeyPatch], None],
    found: str,
    one: tuple[ArmEvidence, ArmEvidence],
    tiny_dataset: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sin(monkeypatch)
    assert found in failed(checks(one, tiny_dataset, tmp_path))
