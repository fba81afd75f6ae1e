"""Conversion of state dicts to arrays by canonical name and back."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from backends.pytorch.models import MODELS
from backends.pytorch.network import TorchNetwork, Undrawn
from backends.pytorch.weights.foreign import recognised, replaced_tensors
from backends.pytorch.weights.loading import MARK, load
from backends.pytorch.weights.places import Held, PrefixMatch, WantedTensors, chosen, misfit, places, tensors_in
from backends.pytorch.weights.renamed import other_name
from harness.contract import Model
from harness.data.checkpoint import refuse_not_finite
from harness.data.weight_files import note, refuse_part, some
from harness.errors import Refused
from harness.whole_files import written_whole

_NUMPY_TYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


def import_weights(path: str, model: Model) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read the tensors of a file by canonical name, classifier included, and the names without a place in the model.

    Half precision becomes float32. The network may be under any key and prefix; other content is ignored. Raises
    `Refused` as `load` does, and for a file with another network, a part of one, or a value that is not finite. A
    plugin's model loads the tensors that fit. If the file has several networks, a note names the chosen one.
    """
    content, made_for = load(Path(path))
    held = tensors_in(content)
    if all(not one.name or one.name.rpartition(".")[2].isdigit() for one in held):
        raise Refused(f"{path} has no named tensors; save the network's state_dict()")
    wanted = _wanted(model)
    place = _find(path, model, held, wanted)
    arrays = {name: _array(place.found[name].tensor) for name in (*wanted.shapes, *place.found) if name in place.found}
    refuse_not_finite(path, arrays)
    if made_for != model.name:
        _check_padding(path, model)
    return arrays, place.unknown


def _wanted(model: Model) -> WantedTensors:
    parts, network = _built(model)
    children = [*parts.backbone._modules, *(parts.pretrained_head._modules if parts.pretrained_head else ())]
    shapes = {entry.name: tuple(entry.tensor.shape) for entry in network.entries}
    return WantedTensors(shapes, model.classifier, tuple(dict.fromkeys(children)))


def _find(path: str, model: Model, held: list[Held], wanted: WantedTensors) -> PrefixMatch:
    found = places(held, wanted)
    learned = wanted.learned
    if whole := [place for place in found if len(place.fitting(wanted)) == len(learned)]:
        place = chosen(path, whole, held)
        if _is_ours(model):
            _refuse_more(path, model, place, wanted)
        return place
    if reason := replaced_tensors(one.name for one in held):
        raise Refused(f"{path} {reason}")
    fitting = len(found[0].fitting(wanted)) if found else 0
    known = recognised((one.name for one in held), model.name, wanted.shapes)
    strict = _is_ours(model) or 2 * fitting < len(learned)
    if strict and not known and (other := other_name(held, wanted)):
        raise Refused(
            f"{path} holds tensors with the shapes of a {model.name} under other names, such as {other} for "
            f"{learned[0]}; rename them to those of {model.name}"
        )
    if 2 * fitting < len(learned):
        reason = (
            known
            or _other_types(found, wanted, fitting)
            or f"{fitting} of its {len(learned)} tensors are in the file, whose first tensor is {held[0].name}; "
            "name the file's own --model"
        )
        raise Refused(f"{path} is not a {model.name}: {reason}")
    if _is_ours(model):
        loaded = found[0].found
        wrong = [text for name in learned if name in loaded and (text := misfit(found[0], wanted, name))]
        refuse_part(path, model.name, len(learned), [name for name in learned if name not in loaded], wrong)
    return found[0]


def _other_types(found: list[PrefixMatch], wanted: WantedTensors, fitting: int) -> str:
    # The network itself with quantised values, or with none; empty for a network of other names or shapes.
    for place in found:
        shaped = [n for n, one in place.found.items() if tuple(one.tensor.shape) == wanted.shapes.get(n)]
        wrong = [text for name in wanted.learned if name in shaped and (text := misfit(place, wanted, name))]
        if 2 * len(wrong) > len(wanted.learned):
            return (
                f"{fitting} of its {len(wanted.learned)} tensors fit ({some(wrong)}); "
                "save the network with its floating-point values"
            )
    return ""


def _is_ours(model: Model) -> bool:
    # A user's changed network loads the tensors that fit from the file of a known network.
    return MODELS.get(model.name) is model


def _refuse_more(path: str, model: Model, place: PrefixMatch, wanted: WantedTensors) -> None:
    # Refuses a network with more tensors inside the model's layers: one more block, a bias, a branch.
    layers = {name.partition(".")[0] for name in wanted.shapes}
    numbers = {str(number) for number, child in enumerate(wanted.children) if child in layers}
    more = [name for name in place.unknown if name.partition(".")[0] in layers | numbers]
    if more:
        count = f"its layers hold {len(more)} more tensors ({some(more)})"
        raise Refused(f"{path} is not a {model.name}: {count}; name the file's own --model")


def _check_padding(path: str, model: Model) -> None:
    # torchvision's published MobileNetV2 is known by its digest; no other file reveals its padding.
    if not model.name.startswith("mobilenet-v2") or not _is_ours(model):
        return
    if _file_digest(path).startswith(_published()):
        raise Refused(
            f"{path} is torchvision's MobileNetV2, trained with another padding and batch-norm epsilon than "
            f"{model.name}; use Keras' file of the network"
        )
    note(
        f"{model.name} pads as TensorFlow does, with epsilon 1e-3; weights of torchvision's MobileNetV2 have the same "
        "names and shapes but give other features"
    )


def _published() -> tuple[str, ...]:
    import torchvision

    addresses = (weights.url for weights in torchvision.models.get_model_weights("mobilenet_v2"))
    return tuple(Path(urlparse(address).path).stem.rpartition("-")[2] for address in addresses)


def _file_digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def export_weights(arrays: Mapping[str, NDArray[Any]], model: Model, path: str) -> None:
    """Write a state dict for the library's own `load_state_dict`, in the library's order, with the model's name.

    A new linear head, `head.weight` and `head.bias`, is written under the classifier's names.
    """
    replaced = not any(name.startswith(model.classifier) for name in arrays)
    names = {f"head.{end}": f"{model.classifier}{end}" for end in ("weight", "bias")} if replaced else {}
    write_state({names.get(name, name): array for name, array in arrays.items()}, Path(path), made_for=model.name)


def read_state(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a plain state dict, such as `write_state` writes, by their names in the file.

    Raises `Refused` as `load` does, and for a file that is not a state dict or holds a value that is not finite.
    """
    content = load(Path(path)).content
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise Refused(f"{path} has no named tensors; save the network's state_dict()")
    arrays = {str(name): _array(value) for name, value in content.items() if isinstance(value, torch.Tensor)}
    refuse_not_finite(path, arrays)
    return arrays


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    array: NDArray[Any] = (plain if plain.dtype in _NUMPY_TYPES else plain.float()).contiguous().resolve_neg().numpy()
    return array


def write_state(arrays: Mapping[str, NDArray[Any]], path: Path, made_for: str = "") -> None:
    """Write tensors atomically, as a state dict, or as safetensors if the file name ends so.

    `made_for` is the name of the model for the metadata of the file.
    """
    facts = {MARK: made_for} if made_for else None
    with written_whole(path) as partial:
        if path.suffix == ".safetensors":
            save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, partial, metadata=facts)
        else:
            state = OrderedDict((name, torch.tensor(array)) for name, array in arrays.items())
            if facts:
                state._metadata = {"": facts}  # type: ignore[attr-defined]  # torch's place for metadata
            torch.save(state, partial)


def backbone_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that the model loads, by canonical name, without the classifier."""
    return dict(_wanted(model).shapes)


def _built(model: Model) -> tuple[Any, TorchNetwork]:
    with Undrawn():  # only names and shapes are wanted
        parts = model.build(max(64, model.minimum_size))
    return parts, TorchNetwork(model.name, parts, torch.nn.Identity(), torch.device("cpu"), torch.contiguous_format)
