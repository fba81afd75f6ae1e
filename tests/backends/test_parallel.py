"""A training on two devices is the training of one; here the devices are two processes on the CPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
from msgspec.structs import replace

from backends import pytorch
from harness.clock import Clock, NotFinite
from harness.plugins import load
from harness.running.initial_weights import head_arrays, random_arrays
from harness.spec import Case, Optimizer, Schedule, Stage
from tests.backends.test_pytorch import CLASSES, make_case, make_feed, make_stage

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_pytorch")

PLUGIN = Path(pytorch.__file__).parent / "probing" / "small_network.py"


class Trained(NamedTuple):
    """The mean loss of each step, and the tensors after training."""

    losses: list[float]
    arrays: dict[str, np.ndarray]


def train(
    case: Case, *stages: Stage, on_epoch_end: Callable[[int], object] = lambda epoch: None, images: int = 24
) -> Trained:
    model = load(str(PLUGIN)).MODEL if case.model == "small-network" else pytorch.MODELS[case.model]
    session: Any = pytorch.open_session(case, model, CLASSES)
    session.load(random_arrays(session.state(), model.initialisation, case.seed))
    session.load(head_arrays(case.head, session.head_features, CLASSES, "default", case.seed))
    losses: list[float] = []
    for stage in stages:
        feed = make_feed(session, case, stage, images)
        clock = Clock(
            steps=feed.steps_per_epoch * stage.epochs,
            batch_size=stage.batch_size,
            warmup_steps=0,
            sync=session.sync,
            compile_events=session.compile_events,
            on_epoch_end=lambda epoch: (session.predict(np.zeros((2, 32, 32, 3), np.float32)), on_epoch_end(epoch)),
        )
        session.train(stage, feed, clock)
        losses += clock.losses
    return Trained(losses, {tensor.name: tensor.array for tensor in session.state()})


def own(**fields: Any) -> Case:
    return make_case("small-network", precision="fp64", head="mlp", **fields)


FULL = make_stage(epochs=2, batch_size=8)


def assert_same(one: Trained, other: Trained) -> None:
    assert other.losses == pytest.approx(one.losses, rel=1e-12)
    for name, array in one.arrays.items():
        assert other.arrays[name] == pytest.approx(array, rel=1e-10, abs=1e-12), name


@pytest.mark.parametrize(
    "stages",
    [
        (FULL,),
        (replace(FULL, frozen="backbone", norm="batch"), replace(FULL, optimizer=Optimizer(name="adam"))),
        (replace(FULL, frozen=1, backbone_lr=0.001, weight_decay=0.01, schedule=Schedule(name="cosine")),),
    ],
    ids=["full", "live norm, then adam", "one block frozen"],
)
def test_losses_weights_statistics_and_masks_on_two_devices_are_those_of_one(stages: tuple[Stage, ...]) -> None:
    one, two = train(own(), *stages), train(own(devices=2), *stages)
    assert_same(one, two)
    assert one.losses[0] != one.losses[1]


def test_drop_connect_on_two_devices_is_that_of_one() -> None:
    case = make_case("efficientnet-b0", precision="fp64")
    short = make_stage(epochs=1, batch_size=8)
    one, two = train(case, short, images=16), train(replace(case, devices=2), short, images=16)
    assert two.losses == pytest.approx(one.losses, rel=1e-9)
    assert train(replace(case, dropout=False), short, images=16).losses[0] != pytest.approx(one.losses[0], rel=1e-6)


def test_statistics_of_each_device_are_another_training() -> None:
    plain, scoped = own(dropout=False), own(dropout=False, devices=2, norm_scope="device")
    one, two = train(plain, FULL), train(scoped, FULL)
    assert two.losses[0] != pytest.approx(one.losses[0], rel=1e-6)
    assert np.isfinite(two.losses).all()


def others() -> list[psutil.Process]:
    # A zombie of a killed test process belongs to nobody.
    return [
        child for child in psutil.Process().children(recursive=True) if "parallel.rank" in " ".join(child.cmdline())
    ]


def test_a_killed_process_ends_the_training_with_one_line_and_no_process_is_left() -> None:
    def kill(epoch: int) -> None:
        (other,) = others()
        os.kill(other.pid, signal.SIGKILL)

    with pytest.raises(RuntimeError, match=r"^rank 1 of 2 was killed \(SIGKILL\)$"):
        train(own(devices=2), FULL, on_epoch_end=kill)
    assert not others()
    assert not torch.distributed.is_initialized()


def test_a_training_that_ends_early_leaves_no_process() -> None:
    def diverge(epoch: int) -> None:
        raise NotFinite("loss is not finite")

    with pytest.raises(NotFinite):
        train(own(devices=2), FULL, on_epoch_end=diverge)
    assert not others()


def test_a_process_that_cannot_begin_is_named_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"^rank 1 of 2 failed: .*small-network"):
        train_without_plugin()
    assert "rank 1 of 2:" in capfd.readouterr().err
    assert not others()


def train_without_plugin() -> None:
    session: Any = pytorch.open_session(own(devices=2), load(str(PLUGIN)).MODEL, CLASSES)
    session.network.name = "no-small-network"  # the other process looks for the model by this name
    session.train(FULL, make_feed(session, session.case, FULL, 24), None)


def test_a_batch_norm_with_code_of_its_own_is_declined() -> None:
    from backends.pytorch.parallel.norm import over_all_devices
    from harness.errors import Declined

    class Own(torch.nn.BatchNorm2d):  # type: ignore[misc]
        def forward(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(Declined, match="Own is a batch norm with code of its own"), over_all_devices(Own(3), 2):
        pass
