"""TF32 and fp16 in PyTorch: where a case is declined, what is set, and the updates that a scaled loss skips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends import pytorch
from tests.backends.test_pytorch import make_case, make_stage, open_session, small_network, train

torch = pytest.importorskip("torch")

from backends.pytorch import requirements  # noqa: E402
from backends.pytorch.recipe import CountingScaler  # noqa: E402

MODEL = small_network.MODEL.name


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Planted facts about a CUDA device, which is only asked about, never used."""
    facts = {"capability": (8, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: facts["capability"])
    yield facts


@pytest.fixture
def tf32_switches() -> Iterator[None]:
    backends = torch.backends
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark
    yield
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark = before


def test_a_processor_has_no_tf32() -> None:
    assert "CPU has no TF32 arithmetic" in str(pytorch.decline(make_case(precision="tf32")))


def test_fp16_is_for_processors_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (False, True):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda has=has: has)
        assert (pytorch.decline(make_case(precision="fp16")) is None) == has


def test_tf32_is_declined_on_a_gpu_from_before_ampere(gpu: dict[str, Any]) -> None:
    case = make_case(precision="tf32", device="cuda")
    assert pytorch.decline(case) is None
    gpu["capability"] = (7, 5)
    assert pytorch.decline(case) == "this GPU has no TF32 arithmetic that torch can use"


def test_cuda_graphs_need_a_gpu(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(requirements.shutil, "which", lambda name: name)
    graphs = {"compile": True, "compile_mode": "reduce-overhead"}
    assert pytorch.decline(make_case(device="cuda", **graphs)) is None
    reason = "CUDA graphs need a CUDA device; leave out --compile-mode reduce-overhead"
    assert pytorch.decline(make_case(device="cpu", **graphs)) == reason


@pytest.mark.parametrize(
    ("fields", "mode"),
    [({}, None), ({"compile_mode": "max-autotune"}, "max-autotune")],
    ids=["default", "max-autotune"],
)
def test_the_mode_of_the_compiler_reaches_it(
    fields: dict[str, Any], mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    open_session(make_case(MODEL, compile=True, **fields))
    assert asked == [{"dynamic": False, "mode": mode}]


@pytest.mark.usefixtures("tf32_switches")
@pytest.mark.parametrize(
    ("precision", "idiom", "allowed"), [("tf32", False, True), ("fp32", False, False), ("tf32", True, True)]
)
def test_tf32_is_used_only_where_the_case_says_so(precision: str, idiom: bool, allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not allowed
    requirements.configure(make_case(precision=precision, idiom=idiom))
    assert requirements.uses_tf32() == allowed


@pytest.mark.usefixtures("tf32_switches")
def test_native_defaults_keep_torchs_own_switches() -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    requirements.configure(make_case(idiom=True))
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, True)


def test_fp16_trains_as_fp32_does_but_for_rounding_and_says_so() -> None:
    # A CPU without fp16 instructions converts for each operation, so this case is only opened here.
    losses = {}
    for precision in ("fp32", "fp16"):
        case = make_case(MODEL, precision=precision)
        session = open_session(case)
        losses[precision] = train(session, case, make_stage(epochs=2)).clock.losses
        assert session.effective().precision == precision
        assert ("skipped_updates" in session.effective().settings) == (precision == "fp16")
    np.testing.assert_allclose(losses["fp16"], losses["fp32"], rtol=2e-3)
    assert losses["fp16"] != losses["fp32"]


def test_an_update_with_an_infinite_gradient_is_skipped_and_counted() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = CountingScaler("cpu", enabled=True)
    values = []
    for factor in (1.0, float("inf"), 2.0, float("nan")):
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        values.append(weight.item())
    assert values == [0.0, 0.0, -2.0, -2.0]
    assert scaler.skipped == 2


def test_the_updates_that_training_skips_are_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(MODEL, precision="fp16")
    session = open_session(case)
    backward, calls = torch.Tensor.backward, []

    def overflow(loss: Any, *arguments: Any, **options: Any) -> None:
        backward(loss, *arguments, **options)
        calls.append(loss)
        if len(calls) == 2:
            next(entry.tensor for entry in session.network.parameters).grad.fill_(torch.inf)

    monkeypatch.setattr(torch.Tensor, "backward", overflow)
    train(session, case, make_stage())
    assert len(calls) == 3
    assert session.effective().settings["skipped_updates"] == 1
    assert all(np.isfinite(tensor.array).all() for tensor in session.state())
