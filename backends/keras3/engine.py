"""The differences between Keras' engines: threads, devices, synchronisation, compilations, memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras.src.backend.common import dtypes
from keras.src.utils import module_utils
from numpy.typing import NDArray

from backends.keras3.parallel import devices as parallel

Name = Literal["tensorflow", "jax", "torch"]


class Device(NamedTuple):
    """The kind of a device, `cpu` or `cuda`, and the name of the hardware."""

    kind: str
    name: str


class Engine:
    """The engine of this process, configured for one case before any computation; `wide` enables float64.

    `tf32_allowed` applies to a GPU; with None, the engine's default stays.
    """

    def __init__(
        self,
        device: Device,
        threads: int,
        *,
        wide: bool = False,
        devices: int = 1,
        tf32_allowed: bool | None = None,
    ) -> None:
        self.name: Name = keras.backend.backend()
        self.device = device
        self._pending: Any = None
        if self.name != "tensorflow":
            # Otherwise Keras starts an installed TensorFlow, on any engine, when it serialises a layer.
            module_utils.tensorflow._available = False
        _set_widest(self.name, wide)
        self._compiled = _count_jax_compilations() if self.name == "jax" else lambda: 0
        _set_threads(self.name, threads)
        _place(self.name, device.kind)
        self._chosen = ExitStack()  # never left: it is for the rest of the process
        self._chooses_tf32 = device.kind == "cuda" and tf32_allowed is not None
        if self._chooses_tf32:
            self._chosen.enter_context(tf32(bool(tf32_allowed)))
        self.strategy = parallel.distribute(device.kind, devices)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the variables of a training are created."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def shared(self, batches: Any) -> Any:
        """Return the batches with their rows divided between TensorFlow's devices; unchanged for one device."""
        return batches if self.strategy is None else parallel.mirrored().SharedBatches(batches, self.strategy)

    def seed(self, seed: int) -> None:
        """Seed the generator of torch, which Keras uses for dropout instead of the seed of a layer."""
        if self.name == "torch":
            import_module("torch").manual_seed(seed)

    def note(self, outcome: Any) -> None:
        """Keep the result of the dispatched step, for `sync`."""
        self._pending = outcome

    def devices(self) -> int:
        """Return the number of devices that share a batch, read back from the engine."""
        return parallel.data_parallel() if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    def sync(self) -> None:
        """Return when the device has done all its work."""
        if self.name == "jax":
            pending, self._pending = self._pending, None
            import_module("jax").block_until_ready(pending)
        elif self.device.kind == "cuda":
            if self.name == "torch":
                import_module("torch").cuda.synchronize()
            else:
                import_module("tensorflow").test.experimental.sync_devices()

    def compile_events(self, traces: int) -> int:
        """Return XLA compilations on JAX, traces on TensorFlow, and 0 on torch, which does not compile."""
        return {"jax": self._compiled(), "tensorflow": traces, "torch": 0}[self.name]

    def uses_tf32(self) -> bool:
        """Return whether float32 is computed in TF32, read back from the engine; False where it keeps its default."""
        if not self._chooses_tf32:
            return False
        if self.name == "jax":
            return bool(import_module("jax").config.jax_default_matmul_precision == _TF32_OF_JAX[True])
        if self.name == "tensorflow":
            return bool(import_module("tensorflow").config.experimental.tensor_float_32_execution_enabled())
        settings = import_module("torch").backends
        return bool(settings.cuda.matmul.allow_tf32 and settings.cudnn.allow_tf32)

    def threads(self) -> int:
        """Return the thread limit of one operation on a device, read back from the engine; on JAX the usable cores."""
        if self.name == "torch":
            return int(import_module("torch").get_num_threads())
        if self.name == "tensorflow":
            pool = int(import_module("tensorflow").config.threading.get_intra_op_parallelism_threads())
        else:
            pool = len(os.sched_getaffinity(0))
        return max(1, pool // self.devices())

    def device_memory(self) -> int | None:
        """Return the peak of bytes allocated on an accelerator, None on a CPU."""
        if self.device.kind == "cpu":
            return None
        if self.name == "tensorflow":
            return int(import_module("tensorflow").config.experimental.get_memory_info("GPU:0")["peak"])
        if self.name == "torch":
            return int(import_module("torch").cuda.max_memory_allocated())
        return int(import_module("jax").local_devices()[0].memory_stats()["peak_bytes_in_use"])


_TF32_OF_JAX = {True: "tensorfloat32", False: "float32"}


def tf32(allowed: bool) -> AbstractContextManager[None]:
    """Return a context in which the engine of this process may compute float32 in TF32, or may not."""
    name = keras.backend.backend()
    if name == "jax":
        precision: AbstractContextManager[None] = import_module("jax").default_matmul_precision(_TF32_OF_JAX[allowed])
        return precision
    return _tf32_of_torch(allowed) if name == "torch" else _tf32_of_tensorflow(allowed)


@contextmanager
def _tf32_of_tensorflow(allowed: bool) -> Iterator[None]:
    config = import_module("tensorflow").config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(allowed)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


@contextmanager
def _tf32_of_torch(allowed: bool) -> Iterator[None]:
    settings = import_module("torch").backends
    before = settings.cuda.matmul.allow_tf32, settings.cudnn.allow_tf32
    settings.cuda.matmul.allow_tf32 = settings.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        settings.cuda.matmul.allow_tf32, settings.cudnn.allow_tf32 = before


def find_device(wanted: str) -> Device | None:
    """Return the device of a case, None if it is missing; `auto` prefers an accelerator."""
    gpu = None if wanted == "cpu" else _gpu_name(keras.backend.backend())
    if gpu is not None:
        return Device("cuda", gpu)
    return None if wanted == "cuda" else Device("cpu", _processor())


def to_numpy(variable: Any) -> NDArray[Any]:
    """Copy the value of a Keras variable, without the NumPy 2 warning of ops.convert_to_numpy."""
    value = variable.value
    if keras.backend.backend() == "torch":
        value = value.detach().cpu()
    return np.array(value if keras.backend.backend() == "jax" else value.numpy())


def _gpu_name(engine: Name) -> str | None:
    if engine == "torch":
        cuda = import_module("torch").cuda
        return str(cuda.get_device_name(0)) if cuda.is_available() else None
    if engine == "tensorflow":
        config = import_module("tensorflow").config
        found = config.list_physical_devices("GPU")
        return str(config.experimental.get_device_details(found[0]).get("device_name", "GPU")) if found else None
    devices = [device for device in import_module("jax").local_devices() if device.platform in ("gpu", "cuda")]
    return str(devices[0].device_kind) if devices else None


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a file in a file system
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "cpu"


def _set_widest(engine: Name, wide: bool) -> None:
    # Without these two settings, float64 silently becomes float32.
    if engine == "jax":
        import_module("jax").config.update("jax_enable_x64", wide)
    if engine != "tensorflow":
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64" if wide else "float32"


def _set_threads(engine: Name, threads: int) -> None:
    # JAX has no such setting: it uses the cores in the affinity of the process.
    if engine == "tensorflow":
        # The devices of a CPU share a pool, which cannot change once TensorFlow runs.
        threading, devices = import_module("tensorflow").config.threading, parallel.count_devices("cpu")
        threading.set_intra_op_parallelism_threads(threads * devices)
        threading.set_inter_op_parallelism_threads(devices)
    elif engine == "torch":
        import_module("torch").set_num_threads(threads)


def _place(engine: Name, kind: str) -> None:
    if engine == "torch":
        # This applies to the rest of the process, because a worker runs one case.
        keras.device("cuda:0" if kind == "cuda" else "cpu").__enter__()
    elif kind == "cpu" and engine == "tensorflow":
        import_module("tensorflow").config.set_visible_devices([], "GPU")
    elif kind == "cpu":
        jax = import_module("jax")
        jax.config.update("jax_default_device", jax.local_devices(backend="cpu")[0])


def _count_jax_compilations() -> Callable[[], int]:
    events = [0]

    def count(event: str, duration: float, **facts: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events[0] += 1

    import_module("jax").monitoring.register_event_duration_secs_listener(count)
    return lambda: events[0]
