"""The audit of the harness's own stages: what a session tells of gradients and randomness goes into the record."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from torch import nn  # noqa: E402 - after the skip
from torchvision.ops import StochasticDepth  # noqa: E402

from backends import pytorch  # noqa: E402
from backends.pytorch.models import Parts  # noqa: E402
from benchmarks.datasets.writing import PreparedDataset  # noqa: E402
from harness.auditing.audit import Audit  # noqa: E402
from harness.contract import Model  # noqa: E402
from harness.data.checkpoint import NORMALISATIONS  # noqa: E402
from harness.data.dataset import open_dataset  # noqa: E402
from harness.running.evaluate import Evaluator  # noqa: E402
from harness.running.initial_weights import random_arrays  # noqa: E402
from harness.running.sensors import Wall  # noqa: E402
from harness.running.stage import StageRun  # noqa: E402
from harness.spec import Case, Scenario, Stage  # noqa: E402

FREEZE = Stage(epochs=1, head_lr=0.01, backbone_lr=0.0, frozen="backbone", norm="batch", batch_size=8)
FULL = Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=8)


class Restless(nn.Module):
    """Drops in every mode."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(features, 0.1, training=True)


def parts(drop: nn.Module) -> Parts:
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), drop)
    last = nn.Sequential(nn.Conv2d(6, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Parts(backbone=nn.Sequential(stem, last), features=5, blocks=((stem,), (last,)))


def run(drop: nn.Module, *stages: Stage, data: PreparedDataset) -> tuple[list[Audit], dict[str, Any]]:
    scenario = Scenario(name="probe", explanation="", stages=stages)
    facts = {"model": "small", "dataset": "tiny", "dataset_sha256": "0", "image_size": 32, "warmup_steps": 1}
    case = Case(backend="pytorch", scenario=scenario, **facts)
    model = Model(name="small", build=lambda size: parts(drop), classifier="x.", blocks=2)
    session = pytorch.open_session(case, model, 3)
    session.load(random_arrays(session.state(), "torch-default", 0))
    dataset = open_dataset(data.folder)
    evaluator = Evaluator(session, dataset, 32, NORMALISATIONS["imagenet"])
    wall = Wall(0.0)
    records = [
        StageRun(session, case, number, dataset, evaluator).run(wall, lambda event: None)
        for number in range(len(stages))
    ]
    return [record.audit for record in records], {t.name: t.array for t in session.state()}


@pytest.mark.parametrize("frozen", ["backbone", 1])
def test_v13_a_frozen_block_that_stays_random_is_named_in_the_record(
    frozen: Any, tiny_dataset: PreparedDataset
) -> None:
    stage = Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, frozen=frozen, batch_size=8)
    (found,), _ = run(Restless(), stage, data=tiny_dataset)
    assert found.breaches == ("0.2 is random although it is frozen",)


def test_v13_a_frozen_block_that_drops_one_image_in_250_is_named(tiny_dataset: PreparedDataset) -> None:
    class Deep(StochasticDepth):
        def train(self, mode: bool = True) -> Deep:
            return super().train(True)

    (found,), _ = run(Deep(0.004, "row"), FREEZE, data=tiny_dataset)
    assert found.breaches == ("0.2 is random although it is frozen",)


def test_what_a_stage_paid_for_and_looked_at_is_in_the_record(tiny_dataset: PreparedDataset) -> None:
    (frozen, full), _ = run(nn.Dropout(0.1), FREEZE, FULL, data=tiny_dataset)
    assert (frozen.breaches, frozen.random, frozen.unchecked) == ((), (), ())
    assert (frozen.parameters.total, frozen.parameters.frozen, frozen.parameters.paid) == (8, 6, 2)
    assert (frozen.buffers.total, frozen.buffers.frozen, frozen.buffers.moved) == (3, 3, 3)
    assert (frozen.slots.total, full.slots.total, full.parameters.paid) == (2, 8, 8)


def test_asking_the_frozen_part_leaves_no_trace_in_what_is_trained_afterwards(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, with_looking = run(nn.Dropout(0.1), FREEZE, FULL, data=tiny_dataset)
    monkeypatch.delattr("backends.pytorch.session.TorchSession.observed")
    blind, without = run(nn.Dropout(0.1), FREEZE, FULL, data=tiny_dataset)
    assert all((with_looking[name] == without[name]).all() for name in without)
    assert [audit.frozen_sha256 for audit in looked] == [audit.frozen_sha256 for audit in blind]
    assert blind[0].unchecked == (
        "whether gradients of the frozen part were computed (V16)",
        "whether the frozen part is random (V13)",
    )
