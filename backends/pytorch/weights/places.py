"""The location of a network in a file: the nesting and prefix at which the model's names fit best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from harness.data.weight_files import note
from harness.errors import Refused
from harness.running.initial_weights import COUNTER


class Held(NamedTuple):
    """A tensor of a file; `inside` is the first part of its name: the keys of its containers, each with a dot."""

    inside: str
    name: str
    tensor: torch.Tensor


class WantedTensors(NamedTuple):
    """The tensors that a model loads: shapes by canonical name, the classifier's prefix, and its children in order.

    `nn.Sequential(*network.children())`, as in fastai, names the same tensors by the numbers of the children.
    """

    shapes: Mapping[str, tuple[int, ...]]
    classifier: str
    children: tuple[str, ...]

    @property
    def learned(self) -> list[str]:
        """Names of all tensors except batch counters, which old files lack."""
        return [name for name in self.shapes if not name.endswith(COUNTER)]

    def spellings(self) -> tuple[Mapping[str, str], ...]:
        """Return mappings from the first part of a file's names to the canonical one: by name, and by child number."""
        beginnings = (name.partition(".")[0] for name in (*self.shapes, self.classifier))
        return {name: name for name in beginnings}, {str(n): child for n, child in enumerate(self.children)}


class PrefixMatch(NamedTuple):
    """A prefix in a file, its tensors by canonical name, and its names that the model does not know."""

    prefix: str
    found: dict[str, Held]
    unknown: tuple[str, ...]

    def fitting(self, wanted: WantedTensors) -> list[str]:
        """Return the learned tensors that were found with the right shape and type."""
        return [name for name in wanted.learned if name in self.found and not misfit(self, wanted, name)]

    @property
    def title(self) -> str:
        """The prefix for display."""
        return repr(self.prefix.rstrip(".")) if self.prefix else "its top level"


def misfit(place: PrefixMatch, wanted: WantedTensors, name: str) -> str:
    """Describe how a found tensor differs from the model's; empty if it fits."""
    tensor, shape = place.found[name].tensor, wanted.shapes[name]
    if tuple(tensor.shape) != shape:
        return f"{name} {list(tensor.shape)} instead of {list(shape)}"
    if not tensor.is_floating_point() and not name.endswith(COUNTER):
        return f"{name} of {tensor.dtype} instead of floating-point numbers"
    return f"{name} without values" if tensor.is_meta else ""


def tensors_in(content: object) -> list[Held]:
    """Return every tensor in nested mappings and lists, in the file's order; other objects are skipped."""
    found: list[Held] = []
    seen: set[int] = set()
    left: list[tuple[str, str, Any]] = [("", "", content)]
    while left:
        inside, key, item = left.pop()
        if isinstance(item, (torch.Tensor, np.ndarray)):
            if (tensor := _plain(item)) is not None:
                found.append(Held(inside, inside + key, tensor))
        elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
            seen.add(id(item))  # a container may contain itself, or occur twice
            under = f"{inside}{key}." if key else inside
            pairs = item.items() if isinstance(item, Mapping) else enumerate(item)
            left.extend((under, str(key), value) for key, value in reversed(list(pairs)))
    return found


def _plain(item: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor | None:
    if isinstance(item, torch.Tensor):
        return None if item.is_nested else item.detach()
    if item.dtype.kind not in "fiub" or item.dtype.itemsize > 8:
        return None
    return torch.from_numpy(item.astype(item.dtype.newbyteorder("="), order="C"))


def places(held: Iterable[Held], wanted: WantedTensors) -> list[PrefixMatch]:
    """Return the prefixes with names of the model; the one with most of its tensors is first."""
    held = list(held)
    found = [place for spelling in wanted.spellings() for place in _places(held, wanted, spelling)]
    return sorted(found, key=lambda place: -len(place.fitting(wanted)))


def _places(held: list[Held], wanted: WantedTensors, spelling: Mapping[str, str]) -> list[PrefixMatch]:
    own = {segment for name in (*wanted.shapes, wanted.classifier) for segment in name.split(".")}
    found: dict[str, dict[str, Held]] = {}
    for one in held:
        for prefix, name in _readings(one.name, own, spelling):
            if name in wanted.shapes:
                other = found.setdefault(prefix, {}).setdefault(name, one)
                if other is not one and not _same(other.tensor, one.tensor):
                    raise Refused(f"the file holds {name} twice, as {other.name} and {one.name}; save one network only")
    most = max(map(len, found.values()), default=0)  # deep names give many small matches, which are not the network
    likely = {prefix: names for prefix, names in found.items() if 2 * len(names) >= most}
    return [_place(prefix, names, held, wanted, spelling, own) for prefix, names in likely.items()]


def _readings(name: str, own: set[str], spelling: Mapping[str, str]) -> list[tuple[str, str]]:
    # All splits of a name in the file into a prefix and a canonical name. A segment with a leading underscore that is
    # not the model's, such as `_orig_mod`, belongs to a wrapper and is skipped.
    segments = name.split(".")
    kept = [n for n, segment in enumerate(segments) if not segment.startswith("_") or segment in own]
    readings = []
    for place, start in enumerate(kept):
        if segments[start] in spelling:
            rest = (segments[n] for n in kept[place + 1 :])
            prefix = "".join(f"{segment}." for segment in segments[:start])
            readings.append((prefix, ".".join((spelling[segments[start]], *rest))))
    return readings


def _place(
    prefix: str,
    found: dict[str, Held],
    held: list[Held],
    wanted: WantedTensors,
    spelling: Mapping[str, str],
    own: set[str],
) -> PrefixMatch:
    # Adds the original classifier under the same prefix, and the unknown names of the same container.
    found, unknown = dict(found), []
    taken = {one.name for one in found.values()}
    for one in held:
        if one.name in taken or not one.name.startswith(prefix) or not prefix.startswith(one.inside):
            continue
        name = next((name for start, name in _readings(one.name, own, spelling) if start == prefix), "")
        if name.startswith(wanted.classifier) and one.tensor.is_floating_point() and not one.tensor.is_meta:
            found[name] = one
        elif not (name.startswith(wanted.classifier) and name.endswith(COUNTER)) and not (
            _follows(one.name.removeprefix(prefix), spelling, wanted)
        ):
            unknown.append(one.name.removeprefix(prefix))
    return PrefixMatch(prefix, found, tuple(unknown))


def _follows(name: str, spelling: Mapping[str, str], wanted: WantedTensors) -> bool:
    # In a sequence, whatever is behind the backbone's last child belongs to a head.
    filled = {name.partition(".")[0] for name in wanted.shapes}
    numbers = [int(number) for number, child in spelling.items() if number.isdigit() and child in filled]
    begin = name.partition(".")[0]
    return bool(numbers) and begin.isdigit() and int(begin) > max(numbers)


def chosen(path: str, whole: list[PrefixMatch], held: list[Held]) -> PrefixMatch:
    """Choose one of several whole networks: the plain one, or averaged weights if there is no other.

    Notes the choice. Raises `Refused` if it is ambiguous.
    """
    distinct: list[PrefixMatch] = []
    for place in whole:
        if not any(_equal(place, other) for other in distinct):
            distinct.append(place)
    averaged = [place for place in distinct if _is_averaged(place, held)]
    plain = [place for place in distinct if place not in averaged] or averaged
    words = {place.prefix: set(_words(place.prefix)) for place in plain}
    taken = min(plain, key=lambda place: len(words[place.prefix]))
    if any(not words[taken.prefix] < words[other.prefix] for other in plain if other is not taken):
        titles = " and ".join(place.title for place in plain)
        raise Refused(f"{path} holds {len(plain)} whole networks, {titles}; save the state_dict() of the one to load")
    others = [place.title for place in distinct if place is not taken]
    if others:
        kind = "the averaged weights" if taken in averaged else "the weights"
        note(f"{kind} in {taken.title} were loaded, not those in {', '.join(others)}")
    elif taken in averaged:
        note(f"the averaged weights in {taken.title} were loaded; the file has no others")
    return taken


_AVERAGE = {"ema", "swa", "avg", "average", "averaged", "averager", "polyak", "shadow", "teacher", "momentum", "target"}
"""Words in the names of averaged weights."""


def _is_averaged(place: PrefixMatch, held: list[Held]) -> bool:
    # torch.optim.swa_utils.AveragedModel stores its network as `module`, beside a counter.
    owner = place.prefix.removesuffix("module.")
    counted = place.prefix.endswith("module.") and any(one.name == f"{owner}n_averaged" for one in held)
    words = _words(place.prefix)
    return counted or bool(_AVERAGE & set(words)) or words[-2:] == ["encoder", "k"]  # momentum contrast's key encoder


def _words(prefix: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", prefix).lower())


def _equal(place: PrefixMatch, other: PrefixMatch) -> bool:
    return place.found.keys() == other.found.keys() and all(
        _same(one.tensor, other.found[name].tensor) for name, one in place.found.items()
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape, one.is_meta, one.layout) != (other.dtype, other.shape, other.is_meta, other.layout):
        return False
    return bool(one.is_meta or torch.equal(one.to_dense(), other.to_dense()))
