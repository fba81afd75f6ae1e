"""The record of one process about one case. It holds raw values; `results` computes medians and throughputs."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.auditing.audit import Audit
from harness.clock import Kind, Window
from harness.contract import Effective
from harness.running.initial_weights import LoadReport
from harness.running.numerics import Numerics
from harness.running.observer import StageObservations
from harness.spec import Case, Frozen

Status = Literal["ok", "skipped", "failed", "timeout", "oom", "killed", "interrupted"]
STATUSES: tuple[Status, ...] = ("ok", "skipped", "failed", "timeout", "oom", "killed", "interrupted")


class Epoch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One epoch: seconds of training, then loss and accuracy of evaluations after it, None without images."""

    seconds: float
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float
    val_accuracy: float


class FeaturesRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The kept features of a stage: of which part of the network, the number of views, and their cost.

    `seconds` is the time to compute all views on this machine, `reused` the number of views that an earlier process
    had computed. `views_of_epoch` counts the views that each epoch used first.
    """

    part: Frozen
    views: int
    reused: int
    seconds: float
    size_bytes: int
    views_of_epoch: tuple[int, ...]


class EnergyUsed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the counters of `Energy` counted in an interval: its seconds, and the joules by counter, idle included."""

    seconds: float
    joules: tuple[float, ...]


class StageEnergy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The energy of a stage by kind of step (all its epochs together), and of each epoch, without evaluation."""

    kinds: dict[Kind, EnergyUsed]
    epochs: tuple[EnergyUsed, ...]


class EnergyCounter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A counter of energy: the power of the idle machine, its standard deviation, and the seconds between updates."""

    name: str
    idle_w: float
    idle_spread_w: float
    update_s: float


class Energy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The counters of energy that the process read, and a sentence for each that the machine does not offer."""

    counters: tuple[EnergyCounter, ...] = ()
    absent: tuple[str, ...] = ()


class StageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stage. `step_us` holds every step; `windows`, in order, hold the number of steps of each kind.

    Step times of a throughput window lie between dispatches, those of a latency window are synchronised. `losses` are
    the training losses of the steps, as reported by the backend. `kept_epoch` is the epoch whose weights were kept.
    `colours` are means and standard deviations of the channels of the first batch. `drained_s` is the time to read the
    losses after the device reported that it was idle.
    """

    epochs: tuple[Epoch, ...]
    step_us: tuple[int, ...]
    windows: tuple[Window, ...]
    losses: tuple[float, ...]
    audit: Audit
    kept_epoch: int
    trainable_parameters: int
    norm_steps: int
    """Number of optimizer steps with moving batch-norm statistics."""
    order_sha256: str
    pixels_sha256: str | None
    samples_seen: tuple[int, int]
    labels_sha256: str | None = None
    colours: tuple[float, ...] | None = None
    drained_s: float = 0.0
    seen: StageObservations | None = None
    train_sample: int | None = None
    """Number of training images behind `train_loss` and `train_accuracy` of the epochs; None for all."""
    features: FeaturesRecord | None = None
    """What the stage trained from, if not from images."""
    features_difference: float | None = None
    """Difference between logits from kept features and from images, relative to the largest logit; None without."""
    energy: StageEnergy | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Final quality on one split: fraction of correct predictions, mean cross-entropy in nats, number of images."""

    accuracy: float
    loss: float
    images: int


class Memory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Memory in bytes. `process_peak` is resident memory, `anonymous_peak` the same without mapped files.

    `framework` is the private memory before the model was built.
    """

    process_peak: int
    private_peak: int
    framework: int
    device_peak: int | None = None
    anonymous_peak: int | None = None


class GpuSensors(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Readings of an NVIDIA driver before and after training: clock, power, slowdowns, other processes."""

    sm_mhz: tuple[float, float]
    watts: tuple[float, float]
    throttled: tuple[str, ...]
    other_processes: int


class Sensors(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Readings about disturbance during the observed `seconds` of training.

    `stolen` is the share of its cores' time that a hypervisor took, `pressure` the share of time in which any process
    waited for a processor, `mhz` the clock of its cores before and after. `absent` has a sentence for each sensor that
    the platform lacks; the value of that sensor is None.
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
    """One `process` row. Fields after `reason` are filled as far as the process ran.

    `wall_s` splits the wall time into named parts that do not overlap and add up to `total_s`. `logits` names an object
    with float32 logits and labels of the test set; `skipped` names one with the skipped files, the reasons, and files
    with equal content. `artefacts` are paths of files that `--save-model` wrote, `images` the number of images of each
    split, `subnormals` the number of subnormal weights, `empty_step_us` the clock's own cost per step.
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
    energy: Energy | None = None
    effective: Effective | None = None
    numerics: Numerics | None = None
    subnormals: int | None = None
    empty_step_us: float | None = None
    versions: dict[str, str] = {}
    logits: str | None = None
    skipped: str | None = None
    notes: tuple[str, ...] = ()
    artefacts: dict[str, str] = {}
