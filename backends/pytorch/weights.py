"""State dicts as people have them, read without running any code that is in them."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file

from backends.pytorch.network import Network
from harness.contract import Model
from harness.errors import Refused

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_NUMPY_TYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Tensors of a state dict by canonical name, source classifier included, and names that the model has no place for.

    Half precision becomes float32. Raises `Refused` as `read_state` does, and for a file that is plainly of another
    model: fewer than half of the model's tensors are in it with the right shape.
    """
    arrays = read_state(path)
    wanted = backbone_shapes(model)
    fitting = [name for name, shape in wanted.items() if name in arrays and arrays[name].shape == shape]
    learned = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if 2 * len(fitting) < len(learned):
        raise Refused(
            f"{path} is not of a {model.name}: {len(fitting)} of its {len(learned)} tensors are in the file "
            f"(which begins with {next(iter(arrays))}); name the model it was made for"
        )
    known = {name: array for name, array in arrays.items() if name in wanted or name.startswith(model.classifier)}
    return known, tuple(name for name in arrays if name not in known)


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a state dict that the library's own `load_state_dict` takes, in the library's order.

    A new linear head, `head.weight` and `head.bias`, takes the classifier's place under the classifier's names.
    """
    replaced = not any(name.startswith(model.classifier) for name in arrays)
    renamed = {
        (model.classifier + name.removeprefix("head.") if replaced and _is_linear_head(name) else name): array
        for name, array in arrays.items()
    }
    write_state(renamed, Path(path))


def _is_linear_head(name: str) -> bool:
    return name in ("head.weight", "head.bias")


def read_state(path: str | Path) -> dict[str, NDArray[Any]]:
    """The tensors of a `.pth`, `.pt`, `.bin` or `.safetensors` file by name, wrappings and prefixes taken off.

    Raises `Refused` for a file that is missing, empty, truncated, not a state dict, holds code, or holds a value that
    is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise Refused(f"{path} is empty; fetch or save it again")
    state = _unwrapped(_load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path))
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise Refused(f"{path} holds no tensors by name; save the network's state_dict()")
    arrays = {str(name): _array(value) for name, value in state.items() if isinstance(value, torch.Tensor)}
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise Refused(f"{path}: {name} holds values that are not finite; use a checkpoint from before it diverged")
    return arrays


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Refused(f"{path} is no readable safetensors file ({error}); fetch it again") from error


def _load_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # Said of pickles that torch did not write; what becomes of them is said below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower() or _is_pickle(path):
            raise Refused(
                f"{path} holds Python objects, which could run code when loaded; "
                "save the network's state_dict() instead"
            ) from error
        raise Refused(f"{path} is no PyTorch state dict, or damaged; fetch or save it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise Refused(f"{path} is no PyTorch state dict, or damaged; fetch or save it again") from error


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == pickle.PROTO


def _unwrapped(loaded: object) -> object:
    while isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded:
        return loaded
    for prefix in _PREFIXES:
        if all(str(name).startswith(prefix) for name in loaded):
            loaded = {str(name).removeprefix(prefix): value for name, value in loaded.items()}
    return loaded


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.detach()
    array: NDArray[Any] = (plain if plain.dtype in _NUMPY_TYPES else plain.float()).contiguous().numpy()
    return array


def write_state(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write tensors whole or not at all, as a state dict or, by the file's ending, as safetensors."""
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".safetensors":
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, partial)
    else:
        torch.save(OrderedDict((name, torch.tensor(array)) for name, array in arrays.items()), partial)
    partial.replace(path)


def backbone_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that the model takes from a checkpoint, by canonical name, without the classifier."""
    parts = model.build(max(64, model.minimum_size))
    network = Network(model.name, parts, torch.nn.Identity(), torch.device("cpu"), torch.contiguous_format)
    return {entry.name: tuple(entry.tensor.shape) for entry in network.entries}
