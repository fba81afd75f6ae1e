"""The interface between harness and backend: a backend is a module, a session is one built model.

A session is on one device, or on several that train as one. A backend module has the names of `Backend`. It imports its
framework only inside functions, or in submodules that `open_session` imports, so that listing models is fast. All
arrays of a session are NumPy arrays with canonical names (those of torchvision or efficientnet_pytorch) and canonical
layout (OIHW, [out, in]).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.clock import Clock
from harness.data.checkpoint import Published
from harness.data.feed import Feed
from harness.spec import Case, Frozen, Part, Stage

Role = Literal["weight", "bias", "norm_scale", "norm_bias", "norm_mean", "norm_var", "counter"]
BUFFERS: frozenset[Role] = frozenset({"norm_mean", "norm_var", "counter"})


class Tensor(NamedTuple):
    """One parameter or buffer. `block` is its block of the backbone, counted from 0 (see `frozen = k`); head: -1."""

    name: str
    array: NDArray[Any]
    part: Part
    block: int
    role: Role


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a backend offers. Only the backend calls `build`; the other fields are facts about the weights."""

    name: str
    build: Callable[..., Any]
    classifier: str
    """Prefix of the tensors of the original classifier in a checkpoint, such as `fc.`; not part of the backbone."""
    initialisation: Literal["kaiming-normal-fan-out", "torch-default"] = "kaiming-normal-fan-out"
    blocks: int = 0
    minimum_size: int = 32
    gmacs: float = 1.0
    """Multiply-accumulates of one image at 224 px, in billions; used only to estimate the duration of a run."""
    about: str = ""
    published: Mapping[str, Published] = {}
    """Weight files that `import_weights` reads, by their name for `--checkpoint`, such as `imagenet`."""


class Layer(NamedTuple):
    """One layer in the list of `show`. `output` is a shape without the batch axis; `macs` are for one image."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in effect, read back from the framework, not copied from the case."""

    device: str
    device_name: str
    precision: str
    layout: str
    compile: str
    threads: int
    settings: dict[str, str | int | float | bool] = {}


class Session(Protocol):
    """One built model on one device. `open_session` creates it; one thread uses it.

    Two methods are optional. `observed(stage)` returns an `Observed` of the stage just trained, for the audit. `work()`
    returns a `Work` with the counts so far, which show that a step is one forward, backward and update (V07).
    `ceiling.measure.Layered` is a further optional part.
    """

    batch_layout: Literal["nhwc", "nchw"]
    """Memory layout of the float32 batches that the session takes."""
    head_features: int
    """Width of the features that the head receives."""
    wall_part: str
    """Name of the time between two ticks: `fetch+transfer+step` if it includes fetching and placing a batch (V43)."""

    def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
        """Run the framework's idiomatic loop over `stage.epochs` epochs of the feed.

        Per epoch: `batches = feed.epoch(i)`, `clock.epoch_begin()`, then for each batch one optimizer step and one
        `clock.tick(loss)`, then `clock.epoch_end()`, in which the worker evaluates by calling `predict` and may read
        `state`. A stage starts with fresh optimizer state; learning rates follow `harness.schedule.factors`.
        """

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits [n, classes] of normalised images in `batch_layout`, in inference mode.

        `n` is the same in every call. The type is float32, or float64 in a case of precision `fp64`.
        """

    def state(self) -> Iterator[Tensor]:
        """Yield every parameter and buffer, backbone first, in a fixed order."""

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite the named tensors. Raise KeyError for an unknown name, ValueError for a wrong shape."""

    def slots(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Return the optimizer state of the current or last stage: arrays by canonical parameter name and slot name.

        At the first `epoch_begin` of a stage, it is empty or all zeros (V17).
        """

    def sync(self) -> None:
        """Return when the device has done all its work."""

    def compile_events(self) -> int:
        """Return the number of traces or compilations so far in this process."""

    def device_memory(self) -> int | None:
        """Return the peak of bytes allocated on an accelerator so far, or None on a CPU."""

    def effective(self) -> Effective:
        """Return the settings in effect."""

    def layers(self) -> list[Layer]:
        """Return the layers with parameters or arithmetic, in the order of computation, for the case's image size."""

    def save_native(self, folder: str) -> str:
        """Write the whole network with its head in the framework's own format; return the file name."""

    def load_native(self, path: str) -> None:
        """Load a file of `save_native` into this session."""


@runtime_checkable
class Dividing(Protocol):
    """A session that can compute the fixed part of its network apart from the rest, in inference mode.

    `part` is `backbone` or a number of blocks; both raise `Declined` for a part that cannot be computed apart. If
    `feed.kept` is set, `Session.train` begins after the part `feed.kept.part`: the inputs are its features.
    """

    def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
        """Return the features [n, ...] of images for `predict`, contiguous, in the layout that the session prefers."""

    def predict_kept(self, features: NDArray[Any], part: Frozen) -> NDArray[np.float32]:
        """Return the logits [n, classes] of features, bit-equal to those of `predict` for their images."""


class Norm(NamedTuple):
    """Constants of one normalisation layer; `momentum` follows torch's convention, None for a cumulative mean."""

    name: str
    eps: float
    momentum: float | None


class Stochastic(NamedTuple):
    """A dropout or drop-connect layer: its declared rate, whether the stage uses it, and its outputs.

    `draws` [n, 3, 2, 2] are its outputs for ones in training mode. `name` is the tensor prefix of the layer before it,
    or of the block that it ends.
    """

    name: str
    part: Part
    block: int
    rate: float
    active: bool
    draws: NDArray[Any]


class Probe(Protocol):
    """The methods that only certificates need; results have canonical names and the case's precision.

    A call may change weights, statistics and modes of the session, so load the session again before the next call.
    """

    def features(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return activations [n, c, h, w] or [n, c] after each backbone block, then logits, in inference mode."""

    def gradients(
        self, stage: Stage, images: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """Return the loss and the gradient of every tensor that the stage trains, in training mode.

        Freezing, norm mode and label smoothing are those of `Session.train`. Only batch statistics are updated.
        """

    def play(
        self, stage: Stage, factors: Sequence[float], tape: Sequence[Mapping[str, NDArray[Any]]]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Feed given gradients to the optimizer that `Session.train` creates for the stage.

        Step i uses `factors[i]` on the learning rates and the gradients `tape[i]` of all tensors that the stage trains.
        Yields the values of these tensors after each step.
        """

    def rates(self) -> dict[Part, float]:
        """Return the learning rate of each trained part in the optimizer's latest step."""

    def norms(self) -> list[Norm]:
        """Return every normalisation layer, in the order of `state`, with the prefix of its tensors as name."""

    def stochastic(self, stage: Stage, draws: int) -> list[Stochastic]:
        """Return every dropout or drop-connect layer, in the order of computation, at the model's own rate."""

    def stand_ins(self) -> dict[str, str]:
        """Return the replacement of each replaced layer and of the latest optimizer, both as dotted names."""


class Backend(Protocol):
    """The names of a backend module.

    Three more functions are optional: `open_probe(session)` returns a `Probe`, which certificates need;
    `probe_numerics(session)` returns `Numerics`, the precision of its operations (V32); and a worker calls
    `prepare_process()` of a backend of this project before it imports a plugin or the framework.
    """

    MODELS: Mapping[str, Model]
    PACKAGES: tuple[str, ...]
    """Distributions whose versions are recorded. The optional `ENGINE_PACKAGES` maps an engine to those that only this
    engine uses; a certificate for another engine does not depend on them."""
    ENGINES: tuple[str, ...]
    """Values of `--engine`, the default first; empty for a backend without engines."""
    FORMATS: tuple[str, ...]
    """File name extensions that `import_weights` reads and `export_weights` writes; may be empty."""

    def import_weights(self, path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        """Read a file in the framework's own format: tensors by canonical name, and names without a place in the model.

        The original classifier is included under the model's `classifier` prefix. Runs no code from the file. Raises
        `Refused` for a file that is unreadable, unsafe, or of another model.
        """

    def export_weights(self, arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
        """Write such a file with identical arrays, readable by the framework's own loader."""

    def decline(self, case: Case) -> str | None:
        """Return why this case cannot run here (device, precision, layout, …), or None. May import the framework."""

    def open_session(self, case: Case, model: Model, classes: int) -> Session:
        """Build and place the model, set threads and precision. The worker loads the weights afterwards.

        `model` is one of MODELS or a plugin's.
        """
