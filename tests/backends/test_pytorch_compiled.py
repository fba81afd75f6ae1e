"""torch.compile in a process of its own, as a worker has it: beside other tests the process was seen to abort."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends import pytorch
from backends.pytorch.models import Parts
from harness.contract import Model
from tests.backends.programs import answered
from tests.backends.test_pytorch import CLASSES, STAGES, make_case, train

torch = pytest.importorskip("torch")


def test_a_compiled_case_trains_like_an_uncompiled_one_and_says_so_or_is_declined() -> None:
    reason = pytorch.decline(make_case(compile=True))
    if reason is not None:
        assert "torch.compile needs" in reason
        return
    found = answered(__file__, "torch", keras=False)
    assert found["breaches"] == []
    assert found["compile"] == ["none", "inductor"]
    assert found["late_compile_events"] == 0
    np.testing.assert_allclose(found["losses"], found["uncompiled_losses"], rtol=1e-4)


def _small(size: int) -> Parts:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    network.append(torch.nn.Flatten())
    return Parts(backbone=network, features=4, blocks=((network[0],),))


def _trained_with_and_without() -> dict[str, Any]:
    case, model = make_case(compile=True), Model(name="small", build=_small, classifier="fc.", blocks=1)
    plain, session = (pytorch.open_session(replace(case, compile=wanted), model, CLASSES) for wanted in (False, True))
    session.load({tensor.name: tensor.array for tensor in plain.state()})
    uncompiled, compiled = (train(one, case, STAGES["full"]) for one in (plain, session))
    windows = compiled.clock.windows()
    return {
        "breaches": list(compiled.audit.breaches),
        "compile": [plain.effective().compile, session.effective().compile],
        "late_compile_events": sum(window.compile_events for window in windows if window.kind != "first"),
        "losses": compiled.clock.losses,
        "uncompiled_losses": uncompiled.clock.losses,
    }


if __name__ == "__main__":
    print(json.dumps(_trained_with_and_without()))  # noqa: T201
