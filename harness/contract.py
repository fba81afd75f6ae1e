"""The seam between harness and backend: a backend is a module, a session is one built model on one device.

A backend module has `MODELS`, `decline` and `open_session` (see `Backend`) and imports its framework only inside
functions or in submodules that `open_session` imports, so that naming a model costs nothing. Everything a session
hands out is NumPy, under canonical names (torchvision's, or efficientnet_pytorch's) and layout (OIHW, [out, in]).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.clock import Clock
from harness.data.checkpoint import Published
from harness.data.feed import Feed
from harness.spec import Case, Part, Stage

Role = Literal["weight", "bias", "norm_scale", "norm_bias", "norm_mean", "norm_var", "counter"]
BUFFERS: frozenset[Role] = frozenset({"norm_mean", "norm_var", "counter"})


class Tensor(NamedTuple):
    """One parameter or buffer. `block` counts the backbone's blocks from 0 (the unit of `frozen = k`); head: -1."""

    name: str
    array: NDArray[Any]
    part: Part
    block: int
    role: Role


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a backend offers it. `build` is the backend's own business; the rest are facts about the weights."""

    name: str
    build: Callable[..., Any]
    classifier: str
    """Prefix of the source classifier's tensors in a checkpoint, such as `fc.`; they are not backbone."""
    initialisation: Literal["kaiming-normal-fan-out", "torch-default"] = "kaiming-normal-fan-out"
    blocks: int = 0
    minimum_size: int = 32
    gmacs: float = 1.0
    """Multiply-accumulates of one image at 224 px, in billions; used only to guess how long a run will take."""
    about: str = ""
    published: Mapping[str, Published] = {}
    """Files of weights that `import_weights` reads, by the name that `--checkpoint` takes, such as `imagenet`."""


class Layer(NamedTuple):
    """One layer as `show` lists it. `output` is its shape without the batch, `macs` are for one image."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What really ran, read back from the framework, not copied from the case."""

    device: str
    device_name: str
    precision: str
    layout: str
    compile: str
    threads: int
    settings: dict[str, str | int | float | bool] = {}


class Session(Protocol):
    """One built model on one device. Made by `open_session`; used by one thread.

    Two methods are optional. `observed(stage)` returns an `Observed` of the stage just trained, for the audit. `work()`
    returns a `Work` of everything done so far, which shows that a step is one step (V07).
    """

    batch_layout: Literal["nhwc", "nchw"]
    """Memory layout in which the session wants its float32 batches."""
    head_features: int
    """Width of the features that the head receives."""
    wall_part: str
    """What lies between two ticks: `fetch+transfer+step` where a ready batch is drawn and placed there too (V43)."""

    def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
        """Run the framework's idiomatic loop over `stage.epochs` epochs of the feed.

        Per epoch: `batches = feed.epoch(i)`, `clock.epoch_begin()`, then for each batch one optimizer step and one
        `clock.tick(loss)`, then `clock.epoch_end()`, in which the worker evaluates by calling `predict` and may read
        `state`. A stage starts with fresh optimizer state; learning rates follow `harness.schedule.factors`.
        """
        ...

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n, classes] of normalised images in `batch_layout`, in inference mode. n is always the same.

        float32, or float64 in a case of precision `fp64`."""
        ...

    def state(self) -> Iterator[Tensor]:
        """Every parameter and buffer, backbone first, in a fixed order."""
        ...

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite the tensors named; raises KeyError for an unknown name, ValueError for another shape."""
        ...

    def slots(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Optimizer state of the stage just trained: canonical parameter name to slot name to array.

        From a stage's first `epoch_begin` on it is that stage's own, all zeros or nothing (V17)."""
        ...

    def sync(self) -> None:
        """Return when the device has done all work given to it."""
        ...

    def compile_events(self) -> int:
        """How often anything was traced or compiled so far in this process."""
        ...

    def device_memory(self) -> int | None:
        """Peak bytes allocated on an accelerator so far, or None on a CPU."""
        ...

    def effective(self) -> Effective:
        """What really ran."""
        ...

    def layers(self) -> list[Layer]:
        """The layers that hold parameters or do arithmetic, in the order of computation, for the case's image size."""
        ...

    def save_native(self, folder: str) -> str:
        """Write the whole network, head included, in the framework's own format; returns the file's name."""
        ...

    def load_native(self, path: str) -> None:
        """Load what `save_native` wrote into this session."""
        ...


class Norm(NamedTuple):
    """Constants of one normalisation layer; `momentum` is torch's convention, None for a cumulative mean."""

    name: str
    eps: float
    momentum: float | None


class Stochastic(NamedTuple):
    """A layer that drops: its declared rate, whether it is on in the stage asked for, and what it made of ones.

    `draws` [n, 3, 2, 2] are its own outputs for ones in training mode; `name`: the tensors' prefix of what it follows,
    or of the block that it closes."""

    name: str
    part: Part
    block: int
    rate: float
    active: bool
    draws: NDArray[Any]


class Probe(Protocol):
    """What a certificate asks of a session and training does not; by canonical name, in the case's precision.

    Probing changes the session: weights, statistics and modes are afterwards whatever the last question left. Load
    again before asking the next."""

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Activations after each block of the backbone, [n, c, h, w] or [n, c], then logits, in inference mode."""
        ...

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """Loss and the gradient of every tensor that the stage trains, from one backward pass in training mode.

        The stage's freezing, norm mode and label smoothing hold as in `Session.train`; nothing is updated but batch
        statistics."""
        ...

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Feed given gradients to the very optimizer that `Session.train` makes for the stage.

        Step i uses `factors[i]` on the learning rates and `tape[i]`, which names every tensor that the stage trains;
        yields the values of these tensors after each step."""
        ...

    def rates(self) -> dict[Part, float]:
        """Learning rate of each part that trains, as the optimizer applied it in its latest step."""
        ...

    def norms(self) -> list[Norm]:
        """Every normalisation layer, in the order of `state`, named by its tensors' prefix."""
        ...

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Every layer that drops, in the order of computation, at the model's own rate."""
        ...

    def stand_ins(self) -> dict[str, str]:
        """The framework's own layers, and optimizer of the latest stage, by dotted name: to what replaces them."""
        ...


class Backend(Protocol):
    """The names a backend module must have. `open_probe(session)` is wanted for certificates and may be missing.

    So may `probe_numerics(session)`, which returns `Numerics`: how exactly its operations compute (V32).
    """

    MODELS: Mapping[str, Model]
    PACKAGES: tuple[str, ...]
    """Distributions whose versions belong in the record. `ENGINE_PACKAGES`, which may be missing, maps an engine to
    those that only this engine uses: a certificate for another engine does not depend on them."""
    ENGINES: tuple[str, ...]
    """Values of `--engine`, the default first; empty for a backend without engines."""

    FORMATS: tuple[str, ...]
    """File name endings that `import_weights` reads and `export_weights` writes; empty if none."""

    def import_weights(self, path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        """Read a file of the framework's own format: tensors by canonical name (source classifier included, under the
        model's `classifier` prefix), and names in the file that could not be mapped. Runs no code from the file.
        Raises `Refused` for a file that is unreadable, unsafe, or plainly of another model."""
        ...

    def export_weights(self, arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
        """Write such a file, readable by the framework's own loader, with identical arrays."""
        ...

    def decline(self, case: Case) -> str | None:
        """Why this case cannot run here (device, precision, layout, compile, input), or None. May import."""
        ...

    def open_session(self, case: Case, model: Model, classes: int) -> Session:
        """Build the model with any weights, place it, set threads and precision. The worker loads the weights.

        `model` is one of MODELS or a plugin's."""
        ...
