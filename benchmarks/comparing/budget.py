"""The options of a comparison: its two sides, margin, number of pairs and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from benchmarks.choosing.options import MEASURE, POSITIVE, options_of
from benchmarks.comparing.sides import EXAMPLES, read_share
from harness.errors import Refused
from results.storage.comparison import LOOKS

F = TypeVar("F", bound=Callable[..., Any])


class Limits(NamedTuple):
    """The limits of a comparison. `margin` is for throughput; `pairs` is the largest number of pairs that count.

    `seeds` 0 leaves accuracy out. `every_pair` forbids an early stop. `alternate` runs the processes of a pair one
    after the other. Without `confirm` a regression is not measured again.
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
SHORTER = "--budget MINUTES ends it earlier, --model and --scenario choose fewer cases"
"""How to make a comparison shorter."""
SIDES = "What to compare"
_SIDE = {"group": SIDES, "multiple": True}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "python": {**_SIDE, "metavar": "SIDE=PATH", "help": f"interpreter of a side, such as {EXAMPLES['--python']}"},
    "set": {**_SIDE, "metavar": "SIDE.SETTING=VALUE", "help": f"setting of a side, such as {EXAMPLES['--set']}"},
    "inject-delay": {**_SIDE, "metavar": "SIDE=SHARE", "help": "delay added to each step of a side, such as B=5%"},
    "margin": {"default": "5%", "help": "smallest change of throughput that matters; use 3% on a quiet machine"},
    "seeds": {"type": click.IntRange(min=0), "default": _DEFAULT.seeds, "help": "seeds for accuracy; 0 leaves it out"},
    "pairs": {"type": int, "default": _DEFAULT.pairs, "help": "largest number of pairs; at least 10"},
    "alternate": {"is_flag": True, "help": "run the processes of a pair one after the other, not in turns"},
    "turn": {"type": POSITIVE, "default": _DEFAULT.turn_s, "help": "seconds of a turn"},
    "budget": {"type": POSITIVE, "help": "time limit in minutes"},
    "timeout": {"type": POSITIVE, "default": _DEFAULT.timeout_s, "help": "time limit of a process in seconds"},
}


def comparison_options(*names: str) -> Callable[[F], F]:
    """Declare the named options, in this order; `read_limits` reads them."""
    return options_of(OPTIONS, MEASURE, *names)


def read_limits(options: Mapping[str, Any], **fixed: Any) -> Limits:
    """Return the limits that the options give and that the command fixes. Raises `Refused`."""
    found = {name: options[name] for name in ("seeds", "pairs", "alternate") if name in options}
    found |= {f"{name}_s": options[name] for name in ("turn", "timeout") if name in options}
    if "margin" in options:
        found["margin"] = read_share(options["margin"], "--margin")
    if options.get("budget"):
        found["budget_s"] = options["budget"] * 60
    limits = Limits(**{**found, **fixed})
    if not LOOKS[0] <= limits.pairs <= LOOKS[-1]:
        raise Refused(f"--pairs {limits.pairs}: must be from {LOOKS[0]} to {LOOKS[-1]}")
    return limits
