"""What a comparison may cost and what it looks at: the options that say so, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from benchmarks.comparing.sides import read_share
from harness.errors import Refused
from results.storage.comparison import LOOKS

F = TypeVar("F", bound=Callable[..., Any])


class Limits(NamedTuple):
    """`margin` is that of throughput; `pairs` are those that count, at most.

    `seeds` 0 leaves accuracy out. `every_pair` makes no early stop. `alternate` lets the processes of a pair follow
    each other. Without `confirm` a regression counts as it is found.
    """

    margin: float = 0.05
    seeds: int = 5
    pairs: int = LOOKS[-1]
    turn_s: float = 0.5
    budget_s: float | None = None
    timeout_s: float = 600.0
    every_pair: bool = False
    alternate: bool = False
    confirm: bool = True


_DEFAULT = Limits()
_POSITIVE = click.FloatRange(min=0, min_open=True)
SHORTER = "--budget MINUTES ends it earlier, --model and --scenario choose fewer cases"
"""How a comparison is made to take less time."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "margin": {"default": "5%", "help": "change of throughput that matters; 3% on a quiet machine"},
    "seeds": {"type": click.IntRange(min=0), "default": _DEFAULT.seeds, "help": "seeds for accuracy; 0: none"},
    "pairs": {"type": int, "default": _DEFAULT.pairs, "help": "pairs at most; the first look needs 10"},
    "alternate": {"is_flag": True, "help": "processes follow each other instead of taking turns"},
    "turn": {"type": _POSITIVE, "default": _DEFAULT.turn_s, "help": "seconds of a turn"},
    "budget": {"type": _POSITIVE, "help": "minutes that it may take"},
    "timeout": {"type": _POSITIVE, "default": _DEFAULT.timeout_s, "help": "seconds per process"},
    "quiet": {"is_flag": True, "help": "no progress, only the outcome"},
}


def limit_options(*names: str) -> Callable[[F], F]:
    """The options of these names, in this order; `read_limits` makes `Limits` of them."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            option = OPTIONS[name]
            command = click.option(f"--{name}", show_default="default" in option, **option)(command)
        return command

    return decorate


def read_limits(options: Mapping[str, Any], **fixed: Any) -> Limits:
    """Limits from what was given, and what the command fixes. Raises `Refused`."""
    found = {name: options[name] for name in ("seeds", "pairs", "alternate") if name in options}
    if "margin" in options:
        found["margin"] = read_share(options["margin"], "--margin")
    for name in ("turn", "timeout"):
        if name in options:
            found[f"{name}_s"] = options[name]
    if options.get("budget"):
        found["budget_s"] = options["budget"] * 60
    limits = Limits(**{**found, **fixed})
    if not LOOKS[0] <= limits.pairs <= LOOKS[-1]:
        raise Refused(
            f"--pairs {limits.pairs}: the method looks after {LOOKS[0]} to {LOOKS[-1]} pairs; give a number of these"
        )
    return limits
