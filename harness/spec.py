"""The definition of a run, as data: stages, scenarios and cases. Nothing in this module has a side effect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_type_hints

import msgspec

from harness import PROTOCOL

Part = Literal["backbone", "head"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "fp64"]
Decoder = Literal["pillow", "simplejpeg"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
Layout = Literal["channels-last", "channels-first"]
WaitAfter = Literal["opening", "first step"]
Frozen = Literal["none", "backbone"] | int
"""The frozen part of a network: nothing, the backbone, or its first k blocks."""


class Optimizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An update rule with torch's semantics: `eps` is outside the square root, SGD's weight decay is coupled."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A factor on every learning rate that depends only on the optimizer step."""

    name: Literal["constant", "step", "cosine"] = "constant"
    every_epochs: int = 7
    factor: float = 0.1
    warmup_steps: int = 0


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One phase of training. Each stage starts with fresh optimizer state.

    `frozen` is the only way to freeze: `none`, `backbone`, or the first k blocks of the backbone. `norm` selects the
    batch-norm layers that use and update batch statistics: `auto` those not frozen, `batch` all, `frozen` none.
    `bn_momentum` follows torch's convention: the weight of the new batch.
    """

    epochs: int
    head_lr: float
    backbone_lr: float
    frozen: Frozen = "none"
    norm: Literal["auto", "batch", "frozen"] = "auto"
    bn_momentum: float = 0.1
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 16
    keep: Literal["last", "best"] = "last"

    def is_frozen(self, part: Part, block: int) -> bool:
        """Return whether a tensor of this part, in this block of the backbone (from 0), is frozen."""
        if part == "head" or self.frozen == "none":
            return False
        return True if self.frozen == "backbone" else block < self.frozen

    def uses_batch_statistics(self, part: Part, block: int) -> bool:
        """Return whether batch norm there normalises by the batch and updates its running statistics."""
        return not self.is_frozen(part, block) if self.norm == "auto" else self.norm == "batch"

    @property
    def fixed_part(self) -> Frozen:
        """The frozen part whose output depends on the image alone; `none` if its batch norm uses batch statistics."""
        return "none" if self.frozen == 0 or self.norm == "batch" else self.frozen

    def learning_rate(self, part: Part) -> float:
        """Return the base learning rate of a part, before the schedule's factor."""
        return self.head_lr if part == "head" else self.backbone_lr


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A way of fine-tuning: name, one-line explanation, start of the backbone, initial head, and stages in order."""

    name: str
    explanation: str
    stages: tuple[Stage, ...]
    start: Literal["checkpoint", "random"] = "checkpoint"
    head_init: Literal["default", "xavier"] = "default"


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One random change of a training image, by name, with its parameters."""

    name: str
    parameters: dict[str, float] = {}


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Everything that changes the meaning of a result; `SETTINGS` explains each field. Paths belong to a `Job`."""

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
    layout: Layout = "channels-last"
    compile: bool = False
    features: Literal["live", "kept"] = "live"
    fused: bool = False
    dropout: bool = True
    input: Literal["arrays", "stream", "native"] = "arrays"
    workers: int = 0
    threads: int = 1
    warmup_steps: int = 3
    idiom: bool = False
    devices: int = 1
    norm_scope: Literal["global", "device"] = "global"
    optimizer_rule: Literal["auto", "matched", "own"] = "auto"
    keep_memory: bool = False
    fold_norms: bool = False
    compile_mode: CompileMode = "default"
    decoder: Decoder = "pillow"

    @property
    def own_optimizer(self) -> bool:
        """Whether the framework's own rule updates the weights, with its own constants."""
        return self.idiom if self.optimizer_rule == "auto" else self.optimizer_rule == "own"

    @property
    def native(self) -> bool:
        """Whether the framework has defaults of its own in this case; such cases are never called equal work."""
        return self.idiom or self.own_optimizer

    @property
    def cores(self) -> int:
        """Number of cores of a measured worker on a CPU, with the processes that it starts."""
        return self.threads * self.devices

    @property
    def backend_name(self) -> str:
        """Backend and engine for display: `pytorch`, `keras3-tensorflow`."""
        return self.backend if self.engine is None else f"{self.backend}-{self.engine}"

    @property
    def label(self) -> str:
        """A readable name; unique only together with `key`."""
        return f"{self.backend_name}/{self.model}/{self.scenario.name}/seed{self.seed}"


class Setting(NamedTuple):
    """Facts about a field of `Case`; options, columns, hashes, scopes, labels and documentation follow from them.

    `option` is the name of its option if that differs from the field, None without an option. `several`: several values
    are combined as a product. `must_run`: if the user gives this option, a skipped case counts as a failure. `unproved`
    is the reason why a certificate does not depend on the field. `words` is its text in a table, where `shown` applies.
    `needs` is another field; this one means nothing while that has its default.
    A field `added` later is not in a digest while it has its default, so older digests stay valid.
    """

    text: str
    role: Literal["identity", "setting"] = "setting"
    option: str | None = ""
    several: bool = False
    must_run: bool = False
    unproved: str = ""
    shown: Literal["always", "other", "apart", "elsewhere"] = "other"
    """Always; if not the default; only if two rows are equal without it; in another column."""
    words: str = ""
    needs: str = ""
    added: bool = False
    exactness: Literal["", "exact", "rounding", "arithmetic"] = ""
    """What another value may change in a training that it makes faster: only the order of sums (`exact`), the order of
    operations (`rounding`), or the numbers (`arithmetic`)."""
    name: str = ""
    type: Any = None
    default: Any = msgspec.NODEFAULT

    @property
    def provable(self) -> bool:
        """Whether a certificate can prove that another value trains the same."""
        return self.exactness in ("exact", "rounding")

    @property
    def label(self) -> str:
        """The name for display; for a setting it is the name of its option."""
        return (self.option if self.option and self.role == "setting" else self.name).replace("_", " ")


def _settings(**facts: Setting) -> Mapping[str, Setting]:
    types, found = get_type_hints(Case), {}
    for field in msgspec.structs.fields(Case):
        setting = facts[field.name]
        option = field.name if setting.option == "" else setting.option
        setting = setting._replace(option=option, name=field.name, type=types[field.name], default=field.default)
        found[field.name] = setting._replace(words=setting.words or f"{setting.label}={{}}")
    return MappingProxyType(found)


_PIXELS = "the pixels of both rows are compared by their digests (V28)"
_named = partial(Setting, role="identity", shown="elsewhere")
_shown = partial(Setting, shown="always", several=True, must_run=True, words="{}")

SETTINGS = _settings(
    backend=_named("adapter of a framework", must_run=True, unproved="an arm of the certificate"),
    model=_named("architecture", must_run=True),
    scenario=_named("way of fine-tuning"),
    dataset=Setting("images", "identity", "data", unproved="proved for any images", shown="always", words="{}"),
    dataset_sha256=_named("digest of the images", option=None, unproved="a ratio needs equal data anyway"),
    image_size=_shown("side of the images in pixels", must_run=False, words="{} px"),
    engine=_named("engine of keras3", must_run=True, unproved="an arm of the certificate"),
    checkpoint=_named("initial weights", must_run=True, unproved="only the digest matters"),
    checkpoint_sha256=_named("digest of the initial weights", option=None),
    augment=Setting("random changes of training images", several=True, unproved=_PIXELS, shown="apart"),
    head=Setting("classifier: one layer, or three with dropout", several=True, words="{} head"),
    reuse_head=Setting(
        "start from the source classifier's rows for classes it knows", unproved="the initial heads are compared (V08)"
    ),
    limit=Setting("use that many images of each split", unproved="a subset of the same images", shown="apart"),
    seed=_named("seed of order, augmentation, dropout and new layers", option="seeds", unproved="a replicate"),
    device=_shown("where the network is trained"),
    precision=_shown("number format of training", exactness="arithmetic"),
    layout=_shown("memory layout of images and features", exactness="rounding"),
    compile=Setting("torch.compile, or XLA for Keras on TensorFlow", must_run=True, exactness="rounding"),
    features=Setting(
        "outputs of a frozen part: computed in each step, or once for each view of an image and kept", several=True,
        must_run=True, added=True, words="{} features", exactness="exact",
    ),
    fused=Setting(
        "optimizer updates all weights in one kernel", must_run=True, added=True, exactness="rounding"
    ),
    dropout=Setting("dropout and drop-connect at the model's rates, or at rate 0", unproved="P4 proves each rate"),
    input=_shown(
        "pixels ready in memory; streamed by the harness; the framework's own pipeline", unproved=_PIXELS
    ),
    workers=Setting("workers of a streamed or native pipeline", unproved="pixels are the same", shown="apart"),
    threads=_shown(
        "threads and cores of a measured worker, on each of its devices", must_run=False,
        unproved="both rows have the same number (V37)",
        words="{} threads",
    ),
    warmup_steps=Setting(
        "steps between the first and the throughput window", unproved="it only selects the timed steps", shown="apart"
    ),
    idiom=Setting("each framework's own defaults, never mixed with matched cases", option="native_defaults"),
    devices=Setting(
        "devices that share each batch of a training; on a CPU, each has --threads cores", several=True, must_run=True,
        added=True, exactness="rounding",
    ),
    norm_scope=Setting(
        "batch norm over the batch of all devices (global), or of each device, which is another training",
        must_run=True, added=True, words="norm over each {}",
    ),
    optimizer_rule=Setting(
        "whose rule updates the weights: torch's in every framework (matched), each framework's own, or as "
        "--native-defaults says (auto)",
        must_run=True, added=True, words="{} optimizer",
    ),
    keep_memory=Setting(
        "the process keeps memory that it frees, for its next step (glibc)", must_run=True, added=True,
        exactness="exact",
    ),
    fold_norms=Setting(
        "training steps compute fixed batch norms of a frozen part inside the convolutions before them", must_run=True,
        added=True, exactness="rounding",
    ),
    compile_mode=Setting(
        "mode of torch.compile, with --compile: reduce-overhead uses CUDA graphs, max-autotune measures kernels first",
        must_run=True, added=True, needs="compile", words="{}", exactness="rounding",
    ),
    decoder=Setting(
        "decoder of JPEG files, for --input native in PyTorch", must_run=True, added=True,
        unproved="its pixels are compared with Pillow's before training", words="decoded by {}",
    ),
)  # fmt: skip
"""Facts about each field of `Case`, by name, in the order of the fields."""


def version(case: Case) -> str:
    """Return 16 hexadecimal digits; records are compared only if theirs are equal. They do not depend on the seed."""
    return _digest(case, (name for name in hashed_fields(case) if name != "seed"))


def key(case: Case) -> str:
    """Return 16 hexadecimal digits that identify the case, seed included; `--resume` looks for them."""
    return _digest(case, hashed_fields(case))


def hashed_fields(case: Case) -> list[str]:
    """Return the fields of a case that its digests cover: all but fields added later that have their default."""
    return [name for name, fact in SETTINGS.items() if not fact.added or getattr(case, name) != fact.default]


def _digest(case: Case, fields: Iterable[str]) -> str:
    values = msgspec.to_builtins(case)
    content = {"protocol": PROTOCOL, **{name: values[name] for name in fields}}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A case with everything a worker needs to run it: paths and options that do not change the results."""

    case: Case
    dataset_path: str
    checkpoint_path: str | None = None
    save_model: str | None = None
    plugins: tuple[str, ...] = ()
    strict: bool = False
    files_path: str | None = None
    train_sample: int | None = None
    """Training images evaluated after each epoch; None means `harness.running.evaluate.TRAIN_SAMPLE`."""
    features_path: str | None = None
    """Folder of kept features, which later processes read; None keeps them in memory only."""
    evaluation_cores: tuple[int, ...] = ()
    """Cores for evaluation, which is not timed, if the backend can change its number of threads."""
    wait_after: WaitAfter | None = None
    """After what the worker reports `opened` and waits for an order; None means that it does not wait."""
