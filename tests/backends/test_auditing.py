"""The freeze audit of a user's torch model: each way in which frozen is not frozen is named, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - after the skip

from backends.pytorch import audit  # noqa: E402
from harness.auditing.auditor import Auditor, Breached  # noqa: E402
from harness.running.sensors import private_memory  # noqa: E402

BATCH = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 4


class Net(nn.Module):
    """A body of two blocks, dropping nothing by itself, and a head of four classes."""

    def __init__(self, drop: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), drop or nn.Identity(), nn.Conv2d(6, 5, 3)
        )
        self.head = nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


class DropConnect(nn.Module):
    """Drops by a function, as EfficientNet does: no child of it is random."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(features, 0.5, self.training)


BODY = ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "body.4.weight", "body.4.bias"]
STATISTICS = ["body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"]


def network(drop: nn.Module | None = None) -> Net:
    torch.manual_seed(0)
    return Net(drop).train()


def sgd(parameters: Any, **facts: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, **{"lr": 0.1, "momentum": 0.9, **facts})


def step(model: nn.Module, optimizer: torch.optim.Optimizer, before: Callable[[], None] = lambda: None) -> None:
    """Two optimizer steps on one batch; `before` is called between backward pass and step."""
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(BATCH), LABELS).backward()
        before()
        optimizer.step()


def freeze(model: Net, *, inference: bool = True) -> torch.optim.Optimizer:
    """As it should be done; without `inference`, as it mostly is."""
    model.body.requires_grad_(False)
    if inference:
        model.body.eval()
    return sgd(model.head.parameters())


def sentences(auditor: Auditor) -> set[str]:
    return set(auditor.audit.breaches)


@pytest.mark.parametrize("rule", [sgd, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_training_everything_breaches_nothing(rule: Any) -> None:
    model = network()
    with audit(model, batch=BATCH, classes=4) as auditor:
        step(model, rule(model.parameters()))
    assert auditor.report == "no breaches; 11 of 11 tensors moved"
    auditor.require()


@pytest.mark.parametrize("frozen", [["body."], ["body"], "body", lambda name: name.startswith("body")])
@pytest.mark.parametrize("norm", ["auto", "frozen"])
def test_v09_a_body_that_is_frozen_in_inference_mode_breaches_nothing(frozen: Any, norm: Any) -> None:
    model = network(nn.Dropout(0.5))
    optimizer = freeze(model)
    with audit(model, frozen=frozen, norm=norm, optimizer=optimizer, batch=BATCH, classes=4) as auditor:
        step(model, optimizer)
    assert auditor.report == "no breaches; 2 of 11 tensors moved"
    figures = auditor.audit
    assert (figures.parameters.total, figures.parameters.frozen, figures.parameters.moved) == (8, 6, 2)
    assert (figures.parameters.paid, figures.buffers.frozen, figures.slots.total, figures.slots.frozen) == (2, 3, 2, 0)


def test_v09_statistics_that_move_in_training_mode_are_named_although_no_gradient_is_computed() -> None:
    model = network()
    optimizer = freeze(model, inference=False)
    with audit(model, frozen=["body."], norm="frozen") as auditor:
        step(model, optimizer)
    assert auditor.audit.breaches == tuple(f'{name} moved although norm="frozen"' for name in STATISTICS)
    with audit(model, frozen=["body."]) as auditor:
        step(model, optimizer)
    assert auditor.audit.breaches == tuple(f"{name} moved although it is frozen" for name in STATISTICS)
    with audit(model, frozen=["body."], norm="batch") as auditor:
        step(model, optimizer)
    assert auditor.audit.breaches == ()


def test_v09_statistics_that_should_move_and_do_not_are_named() -> None:
    model = network()
    optimizer = freeze(model)
    with audit(model, frozen=["body."], norm="batch") as auditor:
        step(model, optimizer)
    assert sentences(auditor) == {f'{name} did not move although norm="batch"' for name in STATISTICS[:2]}


def zeroed(model: Net) -> Callable[[], None]:
    def zero() -> None:
        for parameter in model.body.parameters():
            parameter.grad.zero_()

    return zero


@pytest.mark.parametrize("decay", [1e-1, 1e-4])
def test_v15_decay_of_frozen_tensors_by_an_optimizer_that_got_all_is_named(decay: float) -> None:
    model = network()
    model.body.eval()
    optimizer = sgd(model.parameters(), momentum=0.0, weight_decay=decay)
    with audit(model, frozen=["body."]) as auditor:
        step(model, optimizer, zeroed(model))
    cause = "its gradient was 0, weight decay moved it"
    moved = {name for name in BODY if name != "body.1.bias"}  # zero decays to zero
    assert {f"{name} moved although it is frozen: {cause}" for name in moved} <= sentences(auditor)
    assert not any("body.1.bias moved" in sentence for sentence in sentences(auditor))


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("rule", [sgd, torch.optim.Adam])
def test_v15_stale_momentum_is_named_and_so_is_its_state(rule: Any, scale: float) -> None:
    model = network()
    optimizer = rule(model.parameters(), lr=0.1 * scale)
    step(model, optimizer)
    model.body.eval()
    with audit(model, frozen=["body."], optimizer=optimizer) as auditor:
        step(model, optimizer, zeroed(model))
    cause = "its gradient was 0, momentum from before moved it"
    assert f"body.0.weight moved although it is frozen: {cause}" in sentences(auditor)
    assert {f"{name} has optimizer state although it is frozen" for name in BODY} <= sentences(auditor)
    assert auditor.audit.slots.frozen == len(BODY) * (1 if rule is sgd else 3)


def test_v15_state_that_is_merely_kept_is_named_too() -> None:
    model = network()
    optimizer = sgd(model.parameters())
    step(model, optimizer)
    model.body.requires_grad_(False).eval()
    with audit(model, frozen=["body."], optimizer=optimizer) as auditor:
        step(model, optimizer)
    assert sentences(auditor) == {f"{name} has optimizer state although it is frozen" for name in BODY}
    assert auditor.audit.slots.moved == 2


def test_v16_gradients_that_are_computed_and_thrown_away_are_paid_for() -> None:
    model = network()
    model.body.eval()
    optimizer = sgd(model.head.parameters())
    with audit(model, frozen=["body."]) as auditor:
        step(model, optimizer, lambda: model.body.zero_grad(set_to_none=True))
    paid = "got a gradient although it is frozen: a backward pass computed it"
    assert sentences(auditor) == {f"{name} {paid}" for name in BODY}


def test_v16_a_learning_rate_of_zero_is_paid_for() -> None:
    model = network()
    model.body.eval()
    groups = [{"params": model.body.parameters(), "lr": 0.0}, {"params": model.head.parameters()}]
    with audit(model, frozen=["body."]) as auditor:
        step(model, sgd(groups, momentum=0.0))
    paid = "got a gradient although it is frozen: a backward pass computed it, at learning rate 0"
    assert sentences(auditor) == {f"{name} {paid}" for name in BODY}


def test_v16_what_is_made_to_require_gradients_inside_the_block_is_seen() -> None:
    model = network()
    freeze(model)
    with audit(model, frozen=["body."]) as auditor:
        model.body[0].weight.requires_grad_(True)
        step(model, sgd(model.head.parameters()))
    assert sentences(auditor) == {
        "body.0.weight got a gradient although it is frozen: a backward pass computed it",
    }


def test_v16_no_gradient_is_paid_for_where_none_reaches() -> None:
    model = network().eval()
    model.forward = lambda images: model.head(with_no_grad(model.body, images).mean((2, 3)))  # type: ignore[method-assign]
    with audit(model, frozen=["body."]) as auditor:
        step(model, sgd(model.head.parameters()))
    assert auditor.audit.breaches == ()


def with_no_grad(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(images)


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), nn.Dropout2d(0.2), DropConnect()])
def test_v13_what_is_random_in_the_frozen_part_is_named_by_what_it_does(drop: nn.Module) -> None:
    model = network(drop)
    optimizer = freeze(model, inference=False)
    model.body[1].eval()
    with audit(model, frozen=["body."], batch=BATCH) as auditor:
        step(model, optimizer)
        model.eval()  # as for an evaluation: how the layer trained counts, not how it is left
    assert auditor.audit.breaches == ("body.3 is random although it is frozen",)


def test_v13_what_is_random_outside_the_frozen_part_is_no_breach_even_if_it_feeds_it() -> None:
    model = network()
    optimizer = freeze(model)
    model.body.eval()
    whole = nn.Sequential(nn.Dropout(0.5), model)
    with audit(whole, frozen=["1.body"], batch=BATCH) as auditor:
        step(whole, optimizer)
    assert (auditor.audit.breaches, auditor.audit.random) == ((), ())


def test_v13_without_a_batch_the_report_says_that_nobody_looked() -> None:
    model = network(nn.Dropout(0.5))
    with audit(model, frozen=["body."], norm="batch") as auditor:
        step(model, freeze(model, inference=False))
    assert auditor.report.endswith("not checked: whether the frozen part is random (V13)")


def test_layers_that_write_into_their_inputs_are_not_called_random() -> None:
    model = network(nn.SiLU(inplace=True))
    with audit(model, frozen=["body."], batch=BATCH) as auditor:
        step(model, freeze(model))
    assert auditor.audit.random == ()


def test_training_is_the_same_bit_for_bit_whether_or_not_it_is_audited() -> None:
    after = []
    for audited in (True, False):
        model = network(nn.Dropout(0.5))
        optimizer = freeze(model, inference=False)
        if audited:
            with audit(model, frozen=["body."], norm="batch", batch=BATCH, classes=4):
                step(model, optimizer)
        else:
            step(model, optimizer)
        after.append(model.state_dict())
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_a_head_that_was_replaced_in_name_only_is_named() -> None:
    model = network()
    model.head.out_features = 10
    with audit(model, classes=10) as auditor:
        step(model, sgd(model.parameters()))
    assert auditor.audit.breaches == (
        "the output has width 4 although there are 10 classes",
        "head was replaced in name only: out_features is 10, its weight has 4",
    )


def test_a_width_that_nobody_saw_is_not_checked_and_the_report_says_so() -> None:
    model = network()
    with audit(model, classes=4) as auditor:
        features = model.body(BATCH).mean((2, 3))
        nn.functional.cross_entropy(model.head(features), LABELS).backward()
        sgd(model.parameters()).step()
    assert auditor.report.endswith("not checked: the output's width: the model was not called")


def untrainable(model: Net, optimizer: torch.optim.Optimizer, why: str) -> None:
    if why == "requires_grad is False":
        model.head.weight.requires_grad_(False)
    elif why == "no optimizer that stepped holds it":
        del optimizer.param_groups[0]["params"][-2]
    elif why == "its learning rate is 0":
        weight = optimizer.param_groups[0]["params"].pop(-2)
        optimizer.add_param_group({"params": [weight], "lr": 0.0})
    elif why == "it got no gradient":
        model.head.forward = lambda features: nn.functional.linear(  # type: ignore[method-assign]
            features, model.head.weight.detach(), model.head.bias
        )


@pytest.mark.parametrize(
    "why",
    [
        "requires_grad is False", "no optimizer that stepped holds it", "its learning rate is 0", "it got no gradient",
    ],
)  # fmt: skip
def test_v14_what_should_train_and_does_not_is_named_with_the_reason(why: str) -> None:
    model = network()
    optimizer = sgd(model.parameters(), momentum=0.0)
    untrainable(model, optimizer, why)
    with audit(model) as auditor:
        step(model, optimizer)
    assert auditor.audit.breaches == (f"head.weight did not move although it is not frozen: {why}",)


def test_v14_without_a_step_everything_is_named() -> None:
    model = network().eval()
    with audit(model, norm="frozen") as auditor:
        model(BATCH)
    names = [*BODY, "head.weight", "head.bias"]
    why = "did not move although it is not frozen: no optimizer stepped"
    assert sentences(auditor) == {f"{name} {why}" for name in names}


def test_a_shift_whose_gradient_is_zero_may_stand_still_and_is_listed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].bias.fill_(1e6)  # what batch norm subtracts has a gradient of rounding noise only
    optimizer = sgd(model.parameters(), lr=1e-6)
    with audit(model) as auditor:
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(BATCH.flatten(1)), LABELS).backward()
            optimizer.step()
    assert auditor.audit.still == ("0.bias",)
    assert auditor.audit.breaches == ()


def test_a_tied_weight_is_frozen_under_neither_name_if_it_moves() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(4, 4, bias=False), "decoder": nn.Linear(4, 4, bias=False)})
    model["decoder"].weight = model["encoder"].weight
    optimizer = sgd(model.parameters(), momentum=0.0)
    with audit(model, frozen=["encoder"]) as auditor:
        model["decoder"](torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert sentences(auditor) == {
        "encoder.weight moved although it is frozen: an optimizer holds it and it got gradients",
        "encoder.weight got a gradient although it is frozen: a backward pass computed it",
    }


def test_a_frozen_tensor_that_no_optimizer_moved_is_named() -> None:
    model = network()
    optimizer = freeze(model)
    with audit(model, frozen=["body"]) as auditor:
        step(model, optimizer)
        with torch.no_grad():
            model.body[0].weight[0, 0, 0, 0] += 1e-6
    assert auditor.audit.breaches == ("body.0.weight moved although it is frozen: no optimizer updated it",)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_every_type_of_number_is_watched(kind: torch.dtype) -> None:
    model = network().to(kind)
    with audit(model, frozen=["body"], norm="batch") as auditor, torch.no_grad():
        model(BATCH.to(kind))
        model.body[4].bias[0] += 1
    assert "body.4.bias moved although it is frozen: no optimizer updated it" in sentences(auditor)
    assert not any("body.0" in sentence for sentence in sentences(auditor))


def test_memory_layout_is_no_movement() -> None:
    model = network()
    with audit(model, frozen=lambda name: True, norm="frozen") as auditor:
        model.to(memory_format=torch.channels_last)
    assert auditor.audit.breaches == ()


def test_modules_say_what_is_frozen_too_even_without_tensors() -> None:
    model = network(nn.Dropout(0.5))
    optimizer = freeze(model, inference=False)
    model.body[1].eval()
    parts = [model.body[0], model.body[1], "body.3"]
    with audit(model, frozen=parts, batch=BATCH) as auditor:
        step(model, optimizer)
    names = {line.name for line in auditor.ledger if line.declared.frozen}
    assert names == {*BODY[:4], *STATISTICS}
    assert "body.3 is random although it is frozen" in sentences(auditor)


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        (
            ["bod"],
            "frozen: 'bod' matches none of the model's 11 tensors (body.0.weight, body.0.bias, body.1.weight, …)",
        ),
        ([""], "frozen: '' matches none"),
        (lambda name: False, "frozen() is true for none of"),
        ([nn.Linear(1, 1)], "this Linear is not part of the model"),
        ([3], "frozen: 3 matches none"),
    ],
)
def test_what_freezes_nothing_is_an_error(frozen: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        audit(network(), frozen=frozen)


def test_an_unknown_norm_is_an_error() -> None:
    with pytest.raises(ValueError, match="norm='eval' is not one of"):
        audit(network(), norm="eval")  # type: ignore[arg-type]


def test_an_exception_passes_through_and_nothing_is_judged_or_left_hooked() -> None:
    model = network()
    with pytest.raises(KeyError), audit(model, frozen=["body"], classes=4) as auditor:
        raise KeyError
    with pytest.raises(RuntimeError, match="before its block has ended"):
        auditor.report  # noqa: B018 - the property raises
    assert hooks(model) == 0


def test_nothing_stays_hooked_and_the_next_stage_begins_anew() -> None:
    model = network()
    auditor = audit(model, frozen=["body"], batch=BATCH, classes=4)
    for _ in range(2):
        with auditor:
            step(model, sgd(model.parameters()))
        assert hooks(model) == 0
        assert len([s for s in auditor.audit.breaches if "body.0.weight moved" in s]) == 1
    with auditor:
        step(model, freeze(model))
    assert auditor.audit.breaches == ()


def hooks(model: nn.Module) -> int:
    of_modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    from torch.optim.optimizer import _global_optimizer_pre_hooks

    of_tensors = sum(len(p._backward_hooks or ()) for p in model.parameters())
    return of_modules + of_tensors + len(_global_optimizer_pre_hooks)


def test_require_raises_with_the_report() -> None:
    model = network()
    with audit(model, frozen=["body"]) as auditor:
        step(model, sgd(model.parameters()))
    with pytest.raises(Breached, match=r"body\.0\.weight moved although it is frozen") as raised:
        auditor.require()
    assert str(raised.value) == auditor.report
    assert isinstance(raised.value, AssertionError)


@contextmanager
def growth() -> Iterator[list[int]]:
    """Largest growth of this process's own memory inside the block, in bytes, sampled every half millisecond."""
    found, over = [0], threading.Event()
    before = private_memory()

    def sample() -> None:
        while not over.is_set():
            found[0] = max(found[0], private_memory() - before)
            time.sleep(0.0005)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_resnet18_is_audited_in_two_seconds_and_a_fifth_of_its_memory(layout: Any) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    if not private_memory():
        pytest.skip("this system does not tell a process's own memory")
    model = torchvision.models.resnet18().to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    body = [child for name, child in model.named_children() if name != "fc"]
    with audit(model, frozen=body, optimizer=optimizer) as warm:
        pass
    assert len(warm.audit.breaches) == 62, "60 with optimizer state, and a head that stands still"
    auditor = audit(model, frozen=body, optimizer=optimizer)
    started = time.thread_time()  # of this process alone, whatever else the machine does
    with growth() as grown, auditor:
        pass
    assert time.thread_time() - started < 2
    assert grown[0] < 0.2 * size


EXAMPLES = re.findall(
    r"<!-- example: (\w+) -->\n```python\n(.*?)```\n\n```text\n(.*?)```",
    (Path(__file__).parents[2] / "docs" / "audit.md").read_text(),
    re.DOTALL,
)


def test_the_page_has_an_example_for_each_framework() -> None:
    assert [name for name, _, _ in EXAMPLES] == ["pytorch", "keras3"]


@pytest.mark.parametrize(("name", "code", "printed"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_the_examples_of_the_page_print_what_it_says(name: str, code: str, printed: str) -> None:
    if name == "keras3" and find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit, gc; atexit.register(gc.freeze)\n{code}"],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == printed
