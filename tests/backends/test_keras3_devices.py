"""Keras trains on two devices, parts of the CPU, as on one; this file is also the program that does."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends import keras3
from tests.backends.programs import answered
from tests.backends.test_keras3_engines import ENGINES, STAGES, _case, _feed, _open, _train

TRAININGS = {name: (name,) for name in ("full", "live-norm", "first-block", "small-lr")}
TRAININGS["in turn"] = ("first-block", "full", "live-norm")
"""The stages of each training; in turn, each stage has other frozen layers."""
PARALLEL = [engine for engine in ENGINES if engine.values[0] != "torch"]


@cache
def probed(engine: str) -> dict[str, Any]:
    return answered(__file__, engine, engine)


@pytest.mark.parametrize("engine", PARALLEL)
@pytest.mark.parametrize("stage", TRAININGS)
def test_losses_weights_and_statistics_on_two_devices_are_those_of_one(stage: str, engine: str) -> None:
    """The network has dropout: both devices together have the mask of one."""
    found = probed(engine)["stages"][stage]
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-12)
    assert found["losses"][0][0] != found["losses"][0][1]
    assert found["difference"] < 1e-12


@pytest.mark.parametrize("engine", PARALLEL)
def test_the_numbers_of_devices_and_threads_are_read_back(engine: str) -> None:
    assert probed(engine)["devices"] == [2, None]
    if engine == "tensorflow":  # JAX has the cores of the process, and the tests bind it to none
        assert probed(engine)["threads"] == [1, 2]  # the runtime keeps the pool of two devices


@pytest.mark.parametrize("engine", PARALLEL)
def test_what_an_engine_cannot_do_on_several_devices_is_declined(engine: str) -> None:
    scoped, third = probed(engine)["declined"]
    assert "use --backend pytorch with --norm-scope device" in scoped
    if engine == "jax":
        assert "batches of 32 images are evaluated on all devices" in third
    else:
        assert third == "TensorFlow runs in this process already, so that it cannot have 3 devices"


def _probe(engine: str) -> dict[str, Any]:
    found: dict[str, Any] = {"stages": {}, "devices": [], "threads": []}
    two = _case(engine, precision="fp64", devices=2)
    assert keras3.decline(two) is None
    trained: dict[str, list[Any]] = {}
    for case in (two, replace(two, devices=1)):
        for name, stages in TRAININGS.items():
            session = _open(case)
            losses = []
            for stage in (STAGES[one] for one in stages):
                losses += _train(session, stage, _feed(session, stage), _look(session)).losses
            trained.setdefault(name, []).append((losses, {t.name: t.array for t in session.state()}))
        found["devices"].append(session.effective().settings.get("devices"))
        found["threads"].append(session.effective().threads)
    found["declined"] = [
        keras3.decline(replace(two, **change)) for change in ({"norm_scope": "device"}, {"devices": 3})
    ]
    for name, ((losses, arrays), (others, other)) in trained.items():
        difference = max(float(np.abs(arrays[tensor] - other[tensor]).max()) for tensor in arrays)
        found["stages"][name] = {"losses": [losses, others], "difference": difference}
    return found


def _look(session: Any) -> Any:
    return lambda epoch: session.predict(np.zeros((32, 32, 32, 3), np.float32))


if __name__ == "__main__":
    print(json.dumps(_probe(sys.argv[1])))  # noqa: T201
