"""A network whose tensors have the model's shapes, in the model's order, under other names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backends.pytorch.weights.places import Held, WantedTensors


def other_name(held: Iterable[Held], wanted: WantedTensors) -> str:
    """Return the first tensor's name in the file, if all of a model's tensors are there under other names.

    Tensors of one kind (`weight`, `running_mean`, …) must have the model's shapes in the model's order, without a
    tensor between them; before and after them may be others. Empty if some do not.
    """
    real = [one for one in held if one.tensor.is_floating_point() and not one.tensor.is_meta]
    first = ""
    for kind in dict.fromkeys(map(_kind, wanted.learned)):
        model = [wanted.shapes[name] for name in wanted.learned if _kind(name) == kind]
        file = [one for one in real if _kind(one.name) == kind]
        place = _within([tuple(one.tensor.shape) for one in file], model)
        if place is None:
            return ""
        first = first or file[place].name
    return first


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _within(shapes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]) -> int | None:
    """Return where the wanted shapes begin among all shapes, or None."""
    starts = range(len(shapes) - len(wanted) + 1)
    return next((at for at in starts if list(shapes[at : at + len(wanted)]) == list(wanted)), None)
