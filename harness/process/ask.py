"""Call a function in a worker, with typed arguments and a typed answer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import msgspec

from harness import PREFIX
from harness.errors import Refused
from harness.process.environment import Place
from harness.process.launch import Event, launch

T = TypeVar("T")


class WorkerOptions(TypedDict, total=False):
    """Options of `launch`."""

    cores: int | None
    engine: str | None
    timeout_s: float | None
    on_event: Callable[[Event], None]
    place: Place


def ask(
    function: Callable[..., T] | str,
    arguments: Mapping[str, object],
    answer: type[T],
    *,
    folder: Path | None = None,
    about: str = "",
    **options: Unpack[WorkerOptions],
) -> T:
    """Call a module's function in a fresh process and return its result, decoded as an `answer`.

    The worker converts the arguments to the declared types of the function. A stable name of `harness.entry` is given
    as a string, because the process may run another revision. `folder` is the worker's, by default a temporary one.
    Raises as `Outcome.require` does; the reason of a failed worker begins with `about`.
    """
    call = function if isinstance(function, str) else _name(function)
    with tempfile.TemporaryDirectory() as scratch:
        outcome = launch(call, arguments, folder=folder or Path(scratch), **options)
    if about and outcome.ending not in ("ok", "skipped", "refused"):
        raise Refused(f"{about}: {outcome.reason}")
    return msgspec.json.decode(outcome.require(), type=answer)


def _name(function: Callable[..., Any]) -> str:
    # A module that runs as a program is `__main__` in this process, but the worker needs its real name.
    spec = sys.modules[function.__module__].__spec__
    if spec is None or function.__qualname__ != function.__name__:
        raise ValueError(f"{function.__qualname__} is not at the top level of a module, so a worker cannot import it")
    return f"{spec.name.removeprefix(PREFIX)}:{function.__name__}"
