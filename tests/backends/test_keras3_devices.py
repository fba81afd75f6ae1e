"""Keras on JAX trains on two devices, parts of the CPU, as on one; this file is also the program that does."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends import keras3
from tests.backends.programs import answered
from tests.backends.test_keras3_engines import STAGES, _case, _feed, _open, _train

# Only this engine trains on several devices, and an installation may have another one.
pytestmark = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")


@cache
def probed() -> dict[str, Any]:
    return answered(__file__, "jax")


@pytest.mark.parametrize("stage", ["full", "live-norm"])
def test_losses_weights_and_statistics_on_two_devices_are_those_of_one(stage: str) -> None:
    found = probed()["stages"][stage]
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-12)
    assert found["losses"][0][0] != found["losses"][0][1]
    assert found["difference"] < 1e-12


def test_the_number_of_devices_is_read_back_and_a_batch_is_divided() -> None:
    assert probed()["devices"] == [2, None]


def test_what_jax_cannot_do_on_several_devices_is_declined() -> None:
    scoped, third = probed()["declined"]
    assert "use --backend pytorch with --norm-scope device" in scoped
    assert "batches of 32 images are evaluated on all devices" in third


def _probe() -> dict[str, Any]:
    found: dict[str, Any] = {"stages": {}, "devices": []}
    two = _case("jax", precision="fp64", devices=2)
    assert keras3.decline(two) is None
    found["declined"] = [
        keras3.decline(replace(two, **change)) for change in ({"norm_scope": "device"}, {"devices": 3})
    ]
    trained: dict[str, list[Any]] = {}
    for case in (two, replace(two, devices=1)):
        for name in ("full", "live-norm"):
            session = _open(case)
            losses = _train(session, STAGES[name], _feed(session, STAGES[name]), _look(session)).losses
            trained.setdefault(name, []).append((losses, {t.name: t.array for t in session.state()}))
        found["devices"].append(session.effective().settings.get("devices"))
    for name, ((losses, arrays), (others, other)) in trained.items():
        difference = max(float(np.abs(arrays[tensor] - other[tensor]).max()) for tensor in arrays)
        found["stages"][name] = {"losses": [losses, others], "difference": difference}
    return found


def _look(session: Any) -> Any:
    return lambda epoch: session.predict(np.zeros((32, 32, 32, 3), np.float32))


if __name__ == "__main__":
    print(json.dumps(_probe()))  # noqa: T201
