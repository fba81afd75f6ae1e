"""The reference network against torch itself, step for step, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.reference import MODELS
from backends.reference.layers import Variable
from backends.reference.optimizers import Updates
from backends.reference.session import ReferenceSession
from harness.clock import Clock
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.running.initial_weights import head_arrays, random_arrays
from harness.schedule import factors
from harness.spec import Case, Optimizer, Scenario, Schedule, Stage

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

RULES = [
    Optimizer(name="sgd", momentum=0.9),
    Optimizer(name="sgd", momentum=0.0),
    Optimizer(name="adam", eps=1e-6),
    Optimizer(name="adamw", betas=(0.8, 0.99)),
]


def torch_optimizer(groups: list[dict[str, Any]], rule: Optimizer, decay: float) -> Any:
    if rule.name == "sgd":
        return torch.optim.SGD(groups, momentum=rule.momentum, weight_decay=decay)
    kind = torch.optim.Adam if rule.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=rule.betas, eps=rule.eps, weight_decay=decay)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_twenty_steps_on_a_gradient_tape_with_a_drop_of_the_rate_are_those_of_torch(
    rule: Optimizer, decay: float
) -> None:
    draw = np.random.default_rng(0)
    tape = draw.normal(size=(20, 6)) * np.logspace(-6, 1, 6)
    start = draw.normal(size=6)
    variable = Variable("head.weight", start.copy(), "weight", "head")
    updates = Updates(Stage(epochs=1, head_lr=0.05, backbone_lr=1.0, optimizer=rule, weight_decay=decay), [variable])
    weight = torch.nn.Parameter(torch.tensor(start))
    theirs = torch_optimizer([{"params": [weight], "lr": 0.05}], rule, decay)
    for step, gradient in enumerate(tape):
        factor = 1.0 if step < 10 else 0.1
        variable.gradient = gradient
        updates.step(factor)
        theirs.param_groups[0]["lr"] = 0.05 * factor
        weight.grad = torch.tensor(gradient)
        theirs.step()
        np.testing.assert_allclose(variable.array, weight.detach().numpy(), rtol=1e-11, atol=1e-14)


SIDE, BATCH, CLASSES = 19, 4, 3


def torch_twin(arrays: dict[str, np.ndarray]) -> Any:
    blocks = [
        torch.nn.Sequential(
            torch.nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), torch.nn.BatchNorm2d(o), torch.nn.ReLU()
        )
        for i, o in ((3, 8), (8, 16), (16, 32))
    ]
    modules = {
        "features": torch.nn.Sequential(*blocks),
        "pool": torch.nn.AdaptiveAvgPool2d(1),
        "flat": torch.nn.Flatten(),
        "head": torch.nn.Linear(32, CLASSES),
    }
    twin = torch.nn.Sequential()
    for name, module in modules.items():
        twin.add_module(name, module)
    twin.double()
    loaded = twin.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()}, strict=False)
    assert not loaded.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in loaded.missing_keys)
    return twin


def train_twin(twin: Any, stage: Stage, batches: list[Any]) -> list[float]:
    """The same stage in torch: what is frozen has no gradient, what keeps its statistics is in eval mode."""
    groups = []
    twin.train()
    for block, sequence in enumerate(twin.features):
        sequence[1].momentum = stage.bn_momentum
        sequence[1].train(stage.uses_batch_statistics("backbone", block))
        if stage.is_frozen("backbone", block):
            sequence.requires_grad_(False)
        else:
            groups.append({"params": list(sequence.parameters()), "lr": stage.backbone_lr})
    groups.append({"params": list(twin.head.parameters()), "lr": stage.head_lr})
    optimizer = torch_optimizer(groups, stage.optimizer, stage.weight_decay)
    base, losses = [group["lr"] for group in groups], []
    for batch, factor in zip(batches, factors(stage.schedule, 1, len(batches)), strict=True):
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * factor
        optimizer.zero_grad()
        logits = twin(torch.tensor(batch.inputs.astype(np.float64).transpose(0, 3, 1, 2)))
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(batch.labels), label_smoothing=stage.label_smoothing
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    twin.eval()
    return losses


@pytest.mark.parametrize("rule", [RULES[0], RULES[2], RULES[3]], ids=str)
@pytest.mark.parametrize(
    ("frozen", "norm"),
    [("none", "auto"), ("none", "frozen"), (1, "auto"), (2, "batch"), ("backbone", "auto"), ("backbone", "batch")],
)
def test_three_steps_of_a_stage_give_torchs_losses_gradients_statistics_weights_and_logits(
    frozen: Any, norm: Any, rule: Optimizer
) -> None:
    stage = Stage(
        epochs=1,
        head_lr=0.02,
        backbone_lr=0.005,
        frozen=frozen,
        norm=norm,
        bn_momentum=0.3,
        optimizer=rule,
        schedule=Schedule(name="cosine"),
        weight_decay=0.01,
        label_smoothing=0.1,
        batch_size=BATCH,
    )
    scenario = Scenario(name="s", explanation="", stages=(stage,))
    case = Case(
        backend="reference", model="tiny-cnn", scenario=scenario, dataset="d", dataset_sha256="", image_size=SIDE
    )
    session = ReferenceSession(case, MODELS["tiny-cnn"], CLASSES, np.float64)
    start = random_arrays(session.state(), "kaiming-normal-fan-out", 1)
    start |= head_arrays("linear", 32, CLASSES, "default", 1)
    session.load(start)
    twin = torch_twin(start)

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (3 * BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    split = Split(pixels, draw.integers(0, CLASSES, len(pixels)), np.arange(len(pixels)))

    def feed() -> Feed:
        return Feed(
            split,
            batch_size=BATCH,
            epochs=1,
            seed=0,
            image_size=SIDE,
            normalisation=NORMALISATIONS["imagenet"],
            augmentations=(),
            layout="nhwc",
        )

    clock = Clock(
        steps=3,
        batch_size=BATCH,
        warmup_steps=1,
        sync=session.sync,
        compile_events=session.compile_events,
        on_epoch_end=lambda epoch: None,
    )
    session.train(stage, feed(), clock)
    batches = list(feed().epoch(0))
    np.testing.assert_allclose(clock.losses, train_twin(twin, stage, batches), rtol=1e-10)

    theirs = {name: array.numpy() for name, array in twin.state_dict().items()}
    for tensor in session.state():
        np.testing.assert_allclose(tensor.array, theirs[tensor.name], rtol=1e-8, atol=1e-10, err_msg=tensor.name)
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for variable in session.network.variables:
        gradient = gradients.get(variable.name)
        if gradient is None:
            assert variable.gradient is None, variable.name
        else:
            np.testing.assert_allclose(variable.gradient, gradient, rtol=1e-6, atol=1e-10, err_msg=variable.name)
    with torch.no_grad():
        logits = twin(torch.tensor(batches[0].inputs.astype(np.float64).transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(session.predict(batches[0].inputs), logits, rtol=1e-5, atol=1e-6)
