"""One Keras model on one device: stages, logits, and tensors under canonical names."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras3 import arithmetic, depthwise, fitting, layers, optimizers, randomness
from backends.keras3.engine import Device, Engine
from backends.keras3.models import maps, undrawn
from backends.keras3.tensors import view
from backends.keras3.weights import heads
from harness.auditing.audit import Observed
from harness.auditing.ledger import OnDemand
from harness.clock import Clock
from harness.contract import Effective, Layer, Model, Tensor
from harness.data.feed import Feed
from harness.errors import Refused
from harness.schedule import factors
from harness.spec import Case, Frozen, Part, Stage

NATIVE_FILE = "model.keras"
_POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp64": "float64"}


class DividedModel(NamedTuple):
    """The network up to a place, and from there to the logits: once for training and once for `predict_kept`.

    There are two, because compiling a stage discards the traced function of a model.
    """

    first: fitting.TracedModel
    trained: fitting.TracedModel
    predictor: fitting.TracedModel


class KerasSession:
    """A `harness.contract.Session`. Without `idiom`, kernels are zeros until weights are loaded."""

    wall_part = "fetch+transfer+step"

    def __init__(self, case: Case, model: Model, classes: int, device: Device) -> None:
        self.case = case
        wide = case.precision == "fp64"
        tf32 = case.precision == "tf32"
        allowed = tf32 if tf32 or not case.idiom else None
        self._engine = Engine(device, case.threads, wide=wide, devices=case.devices, tf32_allowed=allowed)
        # Layers take their seeds from `random`. keras.utils.set_random_seed would also start an installed TensorFlow.
        random.seed(case.seed)
        self._engine.seed(case.seed)
        keras.config.set_floatx("float64" if wide else "float32")
        keras.config.set_dtype_policy(_POLICIES["fp32" if tf32 else case.precision])
        keras.config.set_image_data_format(case.layout.replace("-", "_"))
        self.batch_layout: Literal["nhwc", "nchw"] = "nchw" if case.layout == "channels-first" else "nhwc"
        with nullcontext() if case.idiom else undrawn(), self._engine.scope():
            network = model.build(case.image_size)
            maps.check({variable.path: variable.shape for variable in network.backbone.weights}, network.table)
            if not case.idiom:
                layers.match(network, depthwise_sums=depthwise.needed(self._engine, wide=wide))
            self.head_features = int(network.backbone.output.shape[-1])
            head = heads.build(case.head, network.backbone.output, classes)
        with self._engine.scope():
            self.model = fitting.TracedModel(network.backbone.input, head.logits)
        if not case.dropout:
            for layer in self.model.layers:
                if isinstance(layer, keras.layers.Dropout):
                    layer.rate = 0.0
        # Never compiled with a stage, because that would discard its traced function.
        self._predictor = fitting.TracedModel(network.backbone.input, head.logits)
        self._predictor.jit_compile = self.jit
        self._network, self._logits = network, head.logits
        self._divided: dict[Frozen, DividedModel] = {}
        self.optimizer: Any = None
        self.blocks = network.blocks()
        self.table = (*network.table, *head.table)
        self.parts: dict[str, Part] = {row.variable: "backbone" for row in network.table}
        self.parts |= {row.variable: "head" for row in head.table}
        self._variables = {v.path: v for v in self.model.weights if v.path in self.parts}
        maps.check({path: variable.shape for path, variable in self._variables.items()}, self.table)

    @property
    def jit(self) -> bool:
        """Whether steps are compiled by XLA."""
        return self._engine.name == "jax" or self.case.compile

    def train(self, stage: Stage, feed: Feed, clock: Clock) -> None:
        """Compile the stage and fit all epochs of the feed in one call."""
        model = self._divided_at(feed.kept.part).trained if feed.kept else self.model
        self.compile_stage(stage, factors(stage.schedule, stage.epochs, feed.steps_per_epoch), model)
        batches = _native(feed) if feed.input == "native" else partial(_fed, feed)
        fitting.fit(model, stage.epochs, feed, clock, batches, self._engine)

    def compile_stage(
        self, stage: Stage, factors: NDArray[np.float64], model: fitting.TracedModel | None = None
    ) -> None:
        """Freeze, then compile the loss and a new optimizer; `factors` are the factors on the rates, one per step.

        `model` is the part of the network that is trained; by default all of it.
        """
        model = model or self.model
        self.freeze(stage)
        rates = {path: stage.learning_rate(self.parts[path]) for path, v in self._variables.items() if v.trainable}
        make = optimizers.idiomatic if self.case.own_optimizer else optimizers.matched
        with self._engine.scope():
            self.optimizer = make(stage.optimizer, stage.weight_decay, factors, rates)
            model.compile(self.optimizer, _loss(stage.label_smoothing), jit_compile=self.jit)
            # If TensorFlow created these variables while it traces the first step, it would trace the step again.
            self.optimizer.build(model.trainable_variables)

    def freeze(self, stage: Stage) -> None:
        """Set every layer to the mode that the stage declares."""
        for layer, block in self.blocks.items():
            frozen = stage.is_frozen("backbone", block)
            layer.trainable = not frozen
            if isinstance(layer, layers.BatchNormalization):
                layer.batch_statistics = stage.uses_batch_statistics("backbone", block)
                layer.momentum = 1.0 - stage.bn_momentum
            elif isinstance(layer, keras.layers.BatchNormalization) and frozen and stage.norm == "batch":
                # Keras' own layer updates its statistics only while it is trainable.
                layer.trainable = True
                layer.gamma.trainable = layer.beta.trainable = False
            elif isinstance(layer, layers.Dropout):
                layer.active = not frozen

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits from a compiled function that is traced once, because n is the same in every call."""
        return self._widened(self._predictor.predict_on_batch(images))

    def features(self, images: NDArray[np.float32], part: Frozen) -> NDArray[Any]:
        return self._widened(self._divided_at(part).first.predict_on_batch(images))

    def predict_kept(self, features: NDArray[Any], part: Frozen) -> NDArray[np.float32]:
        return self._widened(self._divided_at(part).predictor.predict_on_batch(features))

    def _widened(self, values: Any) -> NDArray[Any]:
        return np.asarray(values, dtype=np.float64 if self.case.precision == "fp64" else np.float32)

    def _divided_at(self, part: Frozen) -> DividedModel:
        """Return the network divided at the end of a part; each division is built once."""
        if part not in self._divided:
            backbone = self._network.backbone
            cut = backbone.output if part == "backbone" else self._network.output_of(int(part))
            ends = ((backbone.input, cut), (cut, self._logits), (cut, self._logits))
            divided = DividedModel(*(fitting.TracedModel(*pair) for pair in ends))
            for model in divided:
                model.jit_compile = self.jit
            self._divided[part] = divided
        return self._divided[part]

    def state(self) -> Iterator[Tensor]:
        for row in self.table:
            part = self.parts[row.variable]
            yield Tensor(row.name, _array(self._variables[row.variable], row.layout), part, row.block, row.role)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        table = {row.name: row for row in self.table}
        for name, array in arrays.items():
            variable = self._variables[table[name].variable]
            variable.assign(maps.fitted(array, table[name], variable.shape))

    def slots(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Return momentum and velocity in canonical layout, copied on access."""
        kept: dict[str, dict[str, Callable[[], NDArray[Any]]]] = {}
        owners = {row.variable.replace("/", "_"): row for row in self.table}
        for variable in self.optimizer.variables if self.optimizer else ():
            owner, _, slot = variable.name.rpartition("_")
            if owner in owners:
                row = owners[owner]
                kept.setdefault(row.name, {})[slot] = partial(_array, variable, row.layout)
        return {name: OnDemand(makers) for name, makers in kept.items()}

    def observed(self, stage: Stage) -> Observed:
        """Return which gradients the last stage computed, and the frozen layers that draw random numbers."""
        trained = {variable.path for variable in self.model.trainable_variables}
        paid = {row.name: "a backward pass computed it" for row in self.table if row.variable in trained}
        frozen = [layer for layer, block in self.blocks.items() if stage.is_frozen("backbone", block)]
        return Observed(paid, randomness.dropping_layers(self.model, frozen))

    def sync(self) -> None:
        self._engine.sync()

    def compile_events(self) -> int:
        apart = sum(model.traces for models in self._divided.values() for model in models)
        return self._engine.compile_events(self.model.traces + self._predictor.traces + apart)

    def device_memory(self) -> int | None:
        return self._engine.device_memory()

    def effective(self) -> Effective:
        eager = "eager" if self._engine.name == "torch" else "graph"
        norms = {type(layer) for layer in self.blocks if isinstance(layer, keras.layers.BatchNormalization)}
        settings: dict[str, str | int | float | bool] = {
            "engine": self._engine.name,
            "mode": _mode(self.case),
            "batch_norm": ", ".join(sorted(layers.dotted(kind) for kind in norms)) or "none",
            "epsilon": keras.config.epsilon(),
            "loss_passed_to_clock": "raw loss of the step, on the device",
        }
        found = _precision(self.blocks)
        if self.optimizer:
            kind = type(self.optimizer)
            settings["optimizer"] = layers.dotted(kind)
        if (devices := self._engine.devices()) > 1:
            settings["devices"] = devices
        return Effective(
            device=self._engine.device.kind,
            device_name=self._engine.device.name,
            precision="tf32" if self._engine.uses_tf32() and found == "fp32" else found,
            layout=keras.config.image_data_format().replace("_", "-"),
            compile="xla" if self._predictor.jit_compile else eager,
            threads=self._engine.threads(),
            settings=settings,
        )

    def layers(self) -> list[Layer]:
        return arithmetic.layers(self.model, self.table, channels_last=self.batch_layout == "nhwc")

    def save_native(self, folder: str) -> str:
        """Write `model.keras` with Keras' own layers only, so that it loads without this package."""
        with undrawn():
            layers.stock(self.model).save(Path(folder) / NATIVE_FILE)
        return NATIVE_FILE

    def load_native(self, path: str) -> None:
        """Load a file of `save_native` without running code from it. Raise `Refused` for other tensors."""
        try:
            with undrawn():
                saved = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise Refused(f"{path} cannot be loaded by Keras ({str(error).splitlines()[0]}); save it again") from error
        found = {variable.path: variable for variable in saved.variables}
        for path_in_model, variable in self._variables.items():
            if path_in_model not in found or found[path_in_model].shape != variable.shape:
                raise Refused(f"{path} has no {path_in_model} of shape {list(variable.shape)}; give this model's file")
            variable.assign(found[path_in_model].value)


def _array(variable: Any, layout: maps.Layout) -> NDArray[Any]:
    array = maps.to_canonical(view(variable), layout)
    return array if array.flags.owndata else array.copy()


def _fed(feed: Feed, epoch: int) -> Iterator[tuple[Any, Any]]:
    ready = feed.epoch(epoch)
    return ((batch.inputs, batch.labels) for batch in ready)


def _native(feed: Feed) -> fitting.Batches:
    # This module imports TensorFlow, which must not start in a worker of another engine.
    from backends.keras3 import native

    return native.Pipeline(feed).epoch


def _mode(case: Case) -> str:
    own = [name for name, is_own in (("layers", case.idiom), ("optimizers", case.own_optimizer)) if is_own]
    return f"Keras' own {' and '.join(own)}" if own else "matched"


def _precision(of_layers: Iterable[Any]) -> str:
    names = {policy: precision for precision, policy in _POLICIES.items()}
    found = {layer.dtype_policy.name for layer in of_layers if layer.weights}
    return ", ".join(sorted(names.get(policy, policy) for policy in found))


def _loss(label_smoothing: float) -> Any:
    if not label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_cross_entropy(labels: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        target = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), classes, dtype=logits.dtype)
        target = target * (1.0 - label_smoothing) + label_smoothing / classes
        return ops.categorical_crossentropy(target, logits, from_logits=True)

    return smoothed_cross_entropy
