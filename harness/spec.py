"""What is run, as data: stages, scenarios and cases. Nothing here has a side effect."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from harness import PROTOCOL

Part = Literal["backbone", "head"]
Precision = Literal["fp32", "bf16", "fp64"]


class Optimizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An update rule with torch's semantics; `eps` stands outside the square root, SGD's decay is coupled."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A factor on every learning rate, as a function of the optimizer step alone."""

    name: Literal["constant", "step", "cosine"] = "constant"
    every_epochs: int = 7
    factor: float = 0.1
    warmup_steps: int = 0


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One uninterrupted stretch of training. Optimizer state begins anew with each stage.

    `frozen` is the one way to freeze: `none`, `backbone`, or the first k blocks of the backbone. `norm` says which
    batch-norm layers use and update batch statistics: `auto` those that are not frozen, `batch` all, `frozen` none.
    `bn_momentum` is torch's convention: the weight of the new batch.
    """

    epochs: int
    head_lr: float
    backbone_lr: float
    frozen: Literal["none", "backbone"] | int = "none"
    norm: Literal["auto", "batch", "frozen"] = "auto"
    bn_momentum: float = 0.1
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 16
    keep: Literal["last", "best"] = "last"

    def is_frozen(self, part: Part, block: int) -> bool:
        """Whether a tensor of this part, in this block of the backbone (counted from 0), is fixed."""
        if part == "head" or self.frozen == "none":
            return False
        return True if self.frozen == "backbone" else block < self.frozen

    def uses_batch_statistics(self, part: Part, block: int) -> bool:
        """Whether batch norm there normalises by the batch and moves its running statistics."""
        return not self.is_frozen(part, block) if self.norm == "auto" else self.norm == "batch"

    def learning_rate(self, part: Part) -> float:
        """Base learning rate of a part, before the schedule's factor."""
        return self.head_lr if part == "head" else self.backbone_lr


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way of fine-tuning: a name, one line for people, where the backbone starts, and its stages in order."""

    name: str
    explanation: str
    stages: tuple[Stage, ...]
    start: Literal["checkpoint", "random"] = "checkpoint"
    head_init: Literal["default", "xavier"] = "default"


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One random change of a training image, by name, with its parameters."""

    name: str
    parameters: dict[str, float] = {}


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row: everything that changes what a number means. Paths and limits are no part of it (see `Job`)."""

    backend: str
    model: str
    scenario: Scenario
    dataset: str
    dataset_sha256: str
    image_size: int
    engine: str | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    augment: tuple[Augmentation, ...] = ()
    head: Literal["linear", "mlp"] = "linear"
    reuse_head: bool = False
    limit: int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Precision = "fp32"
    layout: Literal["channels-last", "channels-first"] = "channels-last"
    compile: bool = False
    dropout: bool = True
    """Whether stochastic layers drop at the model's rates; without, dropout and drop-connect are 0 everywhere."""
    input: Literal["arrays", "stream", "native"] = "arrays"
    workers: int = 0
    threads: int = 1
    warmup_steps: int = 3
    idiom: bool = False

    @property
    def backend_name(self) -> str:
        """Backend and engine as people read them: `pytorch`, `keras3-tensorflow`."""
        return self.backend if self.engine is None else f"{self.backend}-{self.engine}"

    @property
    def label(self) -> str:
        """A readable name; unique only together with `key`."""
        return f"{self.backend_name}/{self.model}/{self.scenario.name}/seed{self.seed}"


_NOT_IN_VERSION = ("seed",)


def version(case: Case) -> str:
    """Sixteen hex digits; two records are compared only if theirs are equal. The seed is a replicate, not a version."""
    fields = {k: v for k, v in msgspec.to_builtins(case).items() if k not in _NOT_IN_VERSION}
    return _digest({"protocol": PROTOCOL, **fields})


def key(case: Case) -> str:
    """Sixteen hex digits that identify the case, seed included: what `--resume` looks for."""
    return _digest({"protocol": PROTOCOL, **msgspec.to_builtins(case)})


def _digest(fields: object) -> str:
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()[:16]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A case with what a worker needs to run it here: places, limits and wishes that change no figure."""

    case: Case
    dataset_path: str
    checkpoint_path: str | None = None
    save_model: str | None = None
    plugins: tuple[str, ...] = ()
    strict: bool = False
    files_path: str | None = None
    train_sample: int | None = None
    """Training images that are evaluated after each epoch; None for `harness.running.evaluate.TRAIN_SAMPLE`."""
    evaluation_cores: tuple[int, ...] = ()
    """Cores that may be used while nothing is timed, where the backend can change its number of threads."""
