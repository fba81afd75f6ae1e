"""One model on one device, trained with the loop of a PyTorch tutorial."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from backends.pytorch import layers, native, randomness, recipe, requirements
from backends.pytorch.layer_work import TensorKind, layer_work
from backends.pytorch.network import TorchNetwork, Undrawn, drop_nothing, new_head
from backends.pytorch.parallel import processes
from backends.pytorch.parallel.share import DeviceShare, deal
from backends.pytorch.parallel.training import SharedClock, Ticking, data_parallel
from backends.pytorch.weights.convert import read_state, write_state
from harness.auditing.audit import Observed
from harness.auditing.ledger import OnDemand
from harness.ceiling.measure import LayerWork
from harness.clock import Clock
from harness.contract import Effective, Layer, Model, Tensor
from harness.data.feed import Batch, Feed
from harness.errors import Refused
from harness.schedule import factors
from harness.spec import Case, Frozen, Stage

NATIVE_FILE = "model.pt"
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PRECISIONS = {torch.float32: "fp32", torch.float64: "fp64", **{dtype: name for name, dtype in _AUTOCAST.items()}}
Pair = tuple[torch.Tensor, torch.Tensor]
Forward = Callable[[torch.Tensor], torch.Tensor]


class TorchSession:
    """A `harness.contract.Session`. With `compile`, training steps are compiled and `predict` runs eagerly."""

    batch_layout: Literal["nhwc", "nchw"]
    wall_part = "fetch+transfer+step"

    def __init__(self, case: Case, model: Model, classes: int) -> None:
        requirements.configure(case)
        self.case, self._classes = case, classes
        cuda = case.device == "cuda" or (case.device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        channels_last = case.layout == "channels-last" and not case.idiom
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.dtype = torch.float64 if case.precision == "fp64" else torch.float32
        self.batch_layout = "nhwc" if channels_last else "nchw"
        with self.arithmetic():  # threads that start in this block keep its mode
            with nullcontext() if case.idiom else Undrawn():
                parts = model.build(case.image_size)
                head = new_head(case.head, parts.features, classes)
            self.network = TorchNetwork(model.name, parts, head, self.device, self.memory_format, self.dtype)
            if not case.dropout:
                drop_nothing(self.network.module)
            self._channels_first = self._use_channels_first()
            torch.manual_seed(case.seed)  # after the build, so that dropout does not depend on its random numbers
        self.head_features = parts.features
        self.forward = self._compiled(self.network.module)
        self.optimizer: torch.optim.Optimizer | None = None
        self._ran: torch.dtype | None = None
        self._group: tuple[int, str] | None = None
        self._most_folded = self._skipped_updates = 0

    def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
        """Train a stage. Raise `Refused` if it freezes more blocks than the model has.

        With several devices this process is the first of them, and it starts a process for each of the others.
        """
        if self.case.devices == 1:
            forward = self._compiled(self.network.divided(feed.kept.part)[1]) if feed.kept else self.forward
            pairs = recipe.foldable(self.network, stage, self.black_image()) if self.case.fold_norms else []
            self._most_folded = max(self._most_folded, len(pairs))
            self._fit(stage, feed.steps_per_epoch, self._epochs(feed), self.begin(stage), forward, clock, pairs)
            return
        devices, steps = self.case.devices, feed.steps_per_epoch
        size = self.case.image_size
        image = (size, size, 3) if self.batch_layout == "nhwc" else (3, size, size)
        facts = self.case, self.network.name, self._classes, stage, steps, (stage.batch_size // devices, *image)
        with processes.others([processes.job_of(rank, *facts) for rank in range(1, devices)]):
            epochs = (deal(feed.epoch(epoch), devices) for epoch in range(stage.epochs))
            self.train_share(stage, steps, epochs, DeviceShare(0, devices), clock)

    def train_share(
        self,
        stage: Stage,
        steps_per_epoch: int,
        epochs: Iterator[Iterator[Batch]],
        share: DeviceShare,
        clock: Clock | None,
    ) -> None:
        """Train one device's share of a stage, in step with the processes of the other devices.

        `epochs` yields the rows of this device in each batch. Only the first device has a clock.
        """
        optimizer = self.begin(stage)
        losses = torch.zeros(steps_per_epoch, device=self.device, dtype=self.dtype)
        ready = (iter([self._host(batch, kept=False) for batch in batches]) for batches in epochs)
        moved = (self._moved(pairs) for pairs in ready)
        self._group = torch.distributed.get_world_size(), torch.distributed.get_backend()
        with data_parallel(self.network, self.case, share, self.device) as forward:
            self._fit(stage, steps_per_epoch, moved, optimizer, forward, SharedClock(clock, share.of, losses))

    def _fit(
        self,
        stage: Stage,
        steps_per_epoch: int,
        epochs: Iterator[Iterator[Pair]],
        optimizer: torch.optim.Optimizer,
        forward: Forward,
        clock: Ticking,
        pairs: Sequence[recipe.Folded] = (),
    ) -> None:
        factor = iter(factors(stage.schedule, stage.epochs, steps_per_epoch).tolist())
        scaler = recipe.CountingScaler(self.device.type, enabled=self.case.precision == "fp16")
        with self.arithmetic():
            for _ in range(stage.epochs):
                batches = next(epochs)  # may compute features, in inference mode
                recipe.set_modes(self.network, stage)
                clock.epoch_begin()
                with recipe.folded(pairs):
                    for images, labels in batches:
                        recipe.set_rates(optimizer, next(factor))
                        optimizer.zero_grad(set_to_none=True)
                        loss = self.loss(forward, images, labels, stage.label_smoothing)
                        scaler.scale(loss).backward()
                        scaler.step(optimizer)
                        scaler.update()
                        clock.tick(loss.detach())
                clock.epoch_end()
        optimizer.zero_grad(set_to_none=True)
        self._skipped_updates += scaler.skipped

    def begin(self, stage: Stage) -> torch.optim.Optimizer:
        """Freeze what the stage declares and create its optimizer."""
        recipe.fix(self.network, stage, own_momentum=self.case.idiom)
        self.optimizer = recipe.make_optimizer(self.network, stage, fused=self.case.fused)
        return self.optimizer

    def loss(self, forward: Forward, inputs: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Run the forward pass of a training step; return the mean loss of the batch, on the device."""
        with self.autocast():
            logits = forward(inputs)
            self._ran = logits.dtype
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits in inference mode; the next epoch of `train` sets its own modes."""
        logits = self._infer(self.network.module, self.place(images))
        self._ran = logits.dtype
        return _copy(logits.to(self.dtype))

    def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
        """Return features as [n, c] or [n, c, h, w]; in bf16 they are exact in float32."""
        first, _ = self.network.divided(part)
        return _copy(self._infer(first, self.place(images)).to(self.dtype))

    def predict_kept(self, features: NDArray[Any], part: Frozen) -> NDArray[np.float32]:
        _, rest = self.network.divided(part)
        logits = self._infer(rest, self._move(self._in_layout(torch.from_numpy(features)), self.dtype))
        return _copy(logits.to(self.dtype))

    def state(self) -> Iterator[Tensor]:
        """Yield copies, one at a time."""
        for entry in self.network.entries:
            yield Tensor(entry.name, _copy(entry.tensor), entry.part, entry.block, entry.role)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite in place; the network keeps its types."""
        with torch.no_grad():
            for name, array in arrays.items():
                tensor = self.network.by_name[name].tensor
                if tuple(tensor.shape) != array.shape:
                    raise ValueError(f"{name} has shape {list(array.shape)} instead of {list(tensor.shape)}")
                tensor.copy_(torch.tensor(array))

    def slots(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Return momentum and similar state without step counts, copied on access; empty before the first stage."""
        if self.optimizer is None:
            return {}
        state = self.optimizer.state
        return {
            entry.name: OnDemand(
                {
                    slot: partial(_copy, value)
                    for slot, value in state[entry.tensor].items()
                    if isinstance(value, torch.Tensor) and value.shape == entry.tensor.shape
                }
            )
            for entry in self.network.parameters
            if entry.tensor in state
        }

    def observed(self, stage: Stage) -> Observed:
        """Return which gradients the last stage computed, and the frozen modules that draw random numbers."""
        with self.arithmetic():
            return randomness.observe(self.network, stage, self.black_image())

    def use_threads(self, count: int) -> None:
        torch.set_num_threads(count)

    def sync(self) -> None:
        """CPU operations are synchronous; only accelerators need a synchronisation."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def compile_events(self) -> int:
        """Return the number of graphs of torch.compile; 0 without `compile`."""
        if not self.case.compile:
            return 0
        return _dynamo_counter("stats", "unique_graphs")

    def device_memory(self) -> int | None:
        """Return the peak of torch's allocator, without the CUDA context."""
        return int(torch.cuda.max_memory_allocated(self.device)) if self.device.type == "cuda" else None

    def effective(self) -> Effective:
        """Read the settings back: precision of the last logits, layout of the convolutions' weights, and others."""
        cuda = self.device.type == "cuda"
        capability = torch.backends.cpu.get_cpu_capability()
        kernels = [e.tensor for e in self.network.parameters if e.tensor.dim() == 4]
        last = any(k.is_contiguous(memory_format=torch.channels_last) and not k.is_contiguous() for k in kernels)
        with self.arithmetic():
            settings = requirements.settings_read_back()
        if self.case.fused:
            settings["fused_optimizer"] = bool(self.optimizer and self.optimizer.param_groups[0]["fused"])
        if self.case.fold_norms:
            settings["folded_norms"] = self._most_folded  # of all stages
        if self.case.compile_mode == "reduce-overhead":
            settings["skipped_cuda_graphs"] = _dynamo_counter("inductor", "cudagraph_skips")
        if self.case.precision == "fp16":
            settings["skipped_updates"] = self._skipped_updates
        if self._channels_first:
            settings["channels_first_convolutions"] = self._channels_first
        if self._group:
            settings["devices"], settings["exchange"] = self._group
        return Effective(
            device=self.device.type,
            device_name=torch.cuda.get_device_name(self.device) if cuda else f"{platform.machine()} {capability}",
            precision=self._precision(),
            layout="channels-last" if last else "channels-first",
            compile="inductor" if self.compile_events() else "none",
            threads=torch.get_num_threads(),
            settings=settings,
        )

    def _precision(self) -> str:
        if self._ran is None:
            return "not run"
        tf32 = self.device.type == "cuda" and requirements.uses_tf32() and self._ran == torch.float32
        return "tf32" if tf32 else _PRECISIONS.get(self._ran, str(self._ran))

    def layers(self) -> list[Layer]:
        return layers.trace(self.network.module, self.black_image())

    def layer_work(self, batch_size: int) -> Iterator[LayerWork]:
        dtype = _AUTOCAST.get(self.case.precision, self.dtype)
        kind = TensorKind(self.device, dtype, self.memory_format, self.autocast)
        with self.arithmetic():
            yield from layer_work(self.network, self.black_image(), batch_size, kind)

    def save_native(self, folder: str) -> str:
        """Write a state dict under canonical names, head included, without code."""
        write_state({tensor.name: tensor.array for tensor in self.state()}, Path(folder) / NATIVE_FILE)
        return NATIVE_FILE

    def load_native(self, path: str) -> None:
        """Load a state dict. Raise `Refused` if its tensors are not exactly those of this network."""
        arrays = read_state(path)
        if set(arrays) != set(self.network.by_name):
            odd = min(set(arrays) ^ set(self.network.by_name))
            raise Refused(f"{path} is not a {self.network.name} with this head: {odd} is in only one of the two")
        try:
            self.load(arrays)
        except ValueError as error:
            raise Refused(f"{path} does not fit {self.network.name}: {error}") from error

    def place(self, images: NDArray[np.float32]) -> torch.Tensor:
        """Convert normalised images in `batch_layout` to the network's input [n, 3, h, w] on the device."""
        return self._move(self._channels_second(torch.from_numpy(images)), self.dtype)

    def black_image(self) -> torch.Tensor:
        """Return one black image [1, 3, h, w] of the case's size, as network input."""
        size = self.case.image_size
        image = torch.zeros(1, 3, size, size, device=self.device, dtype=self.dtype)
        return image.contiguous(memory_format=self.memory_format)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return a context in which denormals are treated as in a training step."""
        return requirements.denormals_flushed(not self.case.idiom)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that computes in bf16 or fp16 if the case requires it."""
        if self.case.precision not in _AUTOCAST:
            return nullcontext()
        autocast: AbstractContextManager[Any] = torch.autocast(self.device.type, _AUTOCAST[self.case.precision])
        return autocast

    def _use_channels_first(self) -> int:
        # Without gradients, these convolutions are faster channels-last on AVX2, too.
        trained = [stage for stage in self.case.scenario.stages if stage.frozen != "backbone"]
        if self.batch_layout == "nchw" or self.device.type == "cuda" or self.case.compile or not trained:
            return 0
        batch_size = max(stage.batch_size for stage in trained) // self.case.devices
        return layers.use_channels_first(self.network.module, self.black_image(), batch_size)

    def _infer(self, function: Forward, inputs: torch.Tensor) -> torch.Tensor:
        if self.network.module.training:
            self.network.module.eval()
        with self.arithmetic(), torch.inference_mode(), self.autocast():
            return function(inputs)

    def _compiled(self, function: Forward) -> Forward:
        if not self.case.compile:
            return function
        mode = None if self.case.compile_mode == "default" else self.case.compile_mode
        compiled: Forward = torch.compile(function, dynamic=False, mode=mode)
        return compiled

    def _epochs(self, feed: Feed) -> Iterator[Iterator[Pair]]:
        # Yields an iterator per epoch; its batches are on the device.
        loader = None
        if feed.input == "native":
            loader = native.pipeline(feed, self.case.decoder, pin=self.device.type == "cuda")
        for epoch in range(feed.epochs):
            if loader is not None:
                found = native.epoch(loader, feed)
                pairs = ((images.contiguous(memory_format=self.memory_format), labels) for images, labels in found)
            else:
                pairs = (self._host(batch, kept=feed.kept is not None) for batch in feed.epoch(epoch))
            # Ready batches are pinned before the window opens, streamed batches when they arrive.
            ready = iter(list(pairs)) if feed.input == "arrays" else pairs
            yield self._moved(ready)

    def _moved(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        return ((self._move(images, self.dtype), self._move(labels)) for images, labels in pairs)

    def _host(self, batch: Batch, *, kept: bool) -> Pair:
        inputs, labels = torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels)
        if kept:
            inputs = self._in_layout(inputs)
        if self.device.type == "cuda":
            inputs, labels = inputs.pin_memory(), labels.pin_memory()
        return inputs if kept else self._channels_second(inputs), labels

    def _in_layout(self, features: torch.Tensor) -> torch.Tensor:
        return features.contiguous(memory_format=self.memory_format) if features.dim() == 4 else features

    def _channels_second(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 3, 1, 2) if self.batch_layout == "nhwc" else images

    def _move(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return tensor.to(self.device, dtype, non_blocking=True)


def _copy(tensor: torch.Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy(), order="C", copy=True)


def _dynamo_counter(group: str, name: str) -> int:
    from torch._dynamo.utils import counters

    return int(counters[group][name])
