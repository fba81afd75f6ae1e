"""The arithmetic that a ceiling counts is what a training step really computes, for every freezing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.ceiling.ceiling import LayerTimes
from harness.ceiling.measure import LayerWork
from harness.errors import Declined
from harness.spec import Frozen
from tests.backends.test_pytorch import make_case, make_stage, open_session

torch = pytest.importorskip("torch")
TorchDispatchMode = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
BATCH = 2


def layer_times(session: Any) -> Iterator[LayerTimes]:
    for work in session.layer_work(BATCH):
        fields = {name: getattr(work, name) for name in LayerTimes.__struct_fields__ if name != "seconds"}
        yield LayerTimes(seconds={}, **fields)


class Counter(TorchDispatchMode):  # type: ignore[misc]
    macs = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.convolution.default:
            self.macs += output.numel() * args[1][0].numel()
        elif function is torch.ops.aten.convolution_backward.default:
            gradient, _, weight, *_, mask = args
            self.macs += gradient.numel() * weight[0].numel() * sum(mask[:2])
        elif function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.macs += output.numel() * args[-1].shape[0]
        return output


def counted_flops(session: Any, frozen: Frozen) -> int:
    """FLOPs of one real training step. (torch's own counter is wrong for the weights of grouped convolutions.)"""
    session.begin(make_stage(frozen=frozen))
    image = session.black_image()
    images = torch.cat([image] * BATCH).contiguous(memory_format=session.memory_format)
    session.network.module.train()
    with Counter() as counter:
        session.loss(session.forward, images, torch.zeros(BATCH, dtype=torch.int64), 0.0).backward()
    return 2 * counter.macs


@pytest.mark.parametrize("model", ["resnet18", "efficientnet-b0", "mobilenet-v2-0.35"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_flops_of_a_step_are_those_that_torch_counts(model: str, head: str) -> None:
    session = open_session(make_case(model, head=head))
    layers = list(layer_times(session))
    blocks = 1 + max(layer.block for layer in layers)
    parts: dict[Frozen, int] = {"none": 0, 1: 1, 2: 2, "backbone": blocks}
    for frozen, count in parts.items():
        flops = sum(2 * layer.macs * len(list(layer.passes(count, 0))) for layer in layers)
        assert BATCH * flops == counted_flops(session, frozen), frozen


def test_asking_for_the_layers_leaves_the_session_as_it_was() -> None:
    session = open_session(make_case())
    session.begin(make_stage(frozen="backbone"))
    before = [entry.tensor.requires_grad for entry in session.network.parameters]
    session.network.module.train()
    list(session.layer_work(BATCH))
    assert [entry.tensor.requires_grad for entry in session.network.parameters] == before
    assert False in before
    assert session.network.module.training


@pytest.mark.parametrize(("precision", "type_"), [("fp32", "float32"), ("fp64", "float64"), ("bf16", "bfloat16")])
def test_passes_compute_in_the_precision_of_the_case_and_give_gradients_of_its_shapes(
    precision: str, type_: str
) -> None:
    session = open_session(make_case(precision=precision))
    work = next(work for work in session.layer_work(BATCH) if work.name == "layer1.0.conv1")
    assert set(work.layouts) == {"channels-last", "channels-first"}
    for passes in work.layouts.values():
        (output,), (backward,), (other,) = (call() for call in passes().values())
        to_input, to_weight = backward[0], other[1]
        assert output.shape == (BATCH, 64, 8, 8)
        assert to_input.shape == (BATCH, 64, 8, 8)
        assert to_weight.shape == (64, 64, 3, 3)
        assert {str(one.dtype) for one in (output, to_input, to_weight)} == {f"torch.{type_}"}


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("fp64", 8), ("bf16", 2)])
def test_the_bytes_of_a_pass_are_those_of_its_tensors(precision: str, size: int) -> None:
    session = open_session(make_case(precision=precision))
    works = {work.name: work for work in session.layer_work(BATCH)}
    conv, norm = works["layer2.0.conv1"], works["layer2.0.bn1"]
    (output,), _, _ = (call() for call in conv.layouts["channels-last"]().values())
    inputs = BATCH * 64 * (2 * output.shape[2]) ** 2
    assert conv.tensor_bytes == size * (inputs + output.numel() + 128 * 64 * 3 * 3)
    assert norm.tensor_bytes == size * 2 * output.numel()


def test_equal_layers_are_alike_and_others_are_not() -> None:
    works: dict[str, LayerWork] = {work.name: work for work in open_session(make_case()).layer_work(BATCH)}
    assert works["layer1.0.conv1"].alike == works["layer1.1.conv2"].alike
    assert works["layer1.0.conv1"].alike != works["layer2.1.conv1"].alike
    assert works["layer1.0.bn1"].alike != works["layer2.0.bn1"].alike


def test_a_network_with_other_arithmetic_declines_by_the_name_of_the_layer() -> None:
    session = open_session(make_case())
    session.network.module.head = Attention(session.head_features)
    with pytest.raises(Declined, match=r"head of resnet18 \(Attention\) has arithmetic"):
        list(session.layer_work(BATCH))


class Attention(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        rows = (x * self.scale).unsqueeze(1)
        return torch.bmm(rows, rows.transpose(1, 2)).flatten(1)
