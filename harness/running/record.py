"""What one process said about one case. Raw figures only: medians, throughputs and spreads are made in `results`."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.auditing.audit import Audit
from harness.clock import Window
from harness.contract import Effective
from harness.running.initial_weights import LoadReport
from harness.running.numerics import Numerics
from harness.running.observer import StageObservations
from harness.spec import Case

Status = Literal["ok", "skipped", "failed", "timeout", "oom", "killed", "interrupted"]
STATUSES: tuple[Status, ...] = ("ok", "skipped", "failed", "timeout", "oom", "killed", "interrupted")


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch: seconds of training, then loss and accuracy of passes made after it, in inference mode."""

    seconds: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One stage. `step_us` holds every step; `windows`, in order, say how many of them are of which kind.

    A throughput window's steps are the times between dispatches, a latency window's are synchronised. `losses` are the
    training losses of the steps, as the backend reported them. `kept_epoch` is the epoch whose weights were kept.
    `colours` are means and standard deviations of the channels of the first batch; `drained_s` is for how long losses
    were waited for after the device had said that it was done.
    """

    epochs: tuple[Epoch, ...]
    step_us: tuple[int, ...]
    windows: tuple[Window, ...]
    losses: tuple[float, ...]
    audit: Audit
    kept_epoch: int
    trainable_parameters: int
    norm_steps: int
    """Optimizer steps in which batch-norm statistics moved; 0 if they never did."""
    order_sha256: str
    pixels_sha256: str | None
    samples_seen: tuple[int, int]
    labels_sha256: str | None = None
    colours: tuple[float, ...] | None = None
    drained_s: float = 0.0
    seen: StageObservations | None = None
    train_sample: int | None = None
    """Training images that the epochs' `train_loss` and `train_accuracy` are of; None for all."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Final quality on one split: fraction right, mean cross-entropy in nats, images judged."""

    accuracy: float
    loss: float
    images: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes. `process_peak` is resident, `anonymous_peak` without the pages of mapped files, `framework` what was
    resident before the model was built."""

    process_peak: int
    private_peak: int
    framework: int
    device_peak: int | None = None
    anonymous_peak: int | None = None


class GpuSensors(msgspec.Struct, frozen=True, kw_only=True):
    """What an NVIDIA driver said of the GPU before and after: clock, power, why it was slowed, who else was there."""

    sm_mhz: tuple[float, float]
    watts: tuple[float, float]
    throttled: tuple[str, ...]
    other_processes: int


class Sensors(msgspec.Struct, frozen=True, kw_only=True):
    """How undisturbed the process was in the `seconds` it was watched, while it trained.

    `stolen` is the share of its cores' time that a hypervisor gave to others, `pressure` the share of time in which
    something on the machine waited for a processor, `mhz` its cores' clock before and after. `absent` says in sentences
    which sensors this platform lacks; their figures are None.
    """

    cpu_over_wall: float
    involuntary_switches: int
    voluntary_switches: int
    seconds: float = 0.0
    stolen: float | None = None
    pressure: float | None = None
    mhz: tuple[float, float] | None = None
    gpu: GpuSensors | None = None
    absent: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One `process` row. Everything after `reason` is present only as far as the process came.

    `wall_s` splits the process's life into named parts that do not overlap and add up to `total_s`. `logits` names an
    object with float32 logits and labels of the test set, `skipped` one with the data's skipped files, why, and its
    files of the same content; `artefacts` are paths of what `--save-model` kept. `images` are those of each split;
    `subnormals` are weights too small to be normal numbers; `empty_step_us` is what the clock itself costs per step.
    """

    case: Case
    key: str
    version: str
    status: Status
    reason: str = ""
    started: str = ""
    machine: str = ""
    total_s: float = 0.0
    wall_s: dict[str, float] = {}
    stages: tuple[StageRecord, ...] = ()
    test: Quality | None = None
    val: Quality | None = None
    test_is_val: bool = False
    classes: tuple[str, ...] = ()
    images: dict[str, int] = {}
    load: LoadReport | None = None
    head_sha256: str = ""
    start_sha256: str = ""
    parameters: dict[str, int] = {}
    memory: Memory | None = None
    sensors: Sensors | None = None
    effective: Effective | None = None
    numerics: Numerics | None = None
    subnormals: int | None = None
    empty_step_us: float | None = None
    versions: dict[str, str] = {}
    logits: str | None = None
    skipped: str | None = None
    notes: tuple[str, ...] = ()
    artefacts: dict[str, str] = {}
