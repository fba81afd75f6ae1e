"""What two rows must have in common before a ratio stands between them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.rules import Breach
from harness.running.numerics import Numerics
from harness.running.record import Record
from results.rules.pair_rules import pooled, read_traits, traits, unlike
from tests.results.records import build

EXACT = Numerics(product_bits=21.9, convolution_bits=21.2, flushes_denormals=True)
COLOURS = (-0.1, 0.2, 0.3, 1.0, 0.9, 0.8)


def record(seed: int = 0, **changes: Any) -> Record:
    made = build(seed=seed)
    stage = {name: changes.pop(name) for name in list(changes) if hasattr(made.stages[0], name)}
    evidence = {"pixels_sha256": "p", "colours": COLOURS, **stage}
    full = {"head_sha256": "h", "numerics": EXACT, "subnormals": 0, **changes}
    return replace(made, stages=(replace(made.stages[0], **evidence),), **full)


def compared(one: Record, other: Record, *, timed: bool = True) -> str:
    found = unlike(read_traits(traits(one)), read_traits(traits(other)), timed=timed)
    return f"{found.text} ({found.rule})" if found else ""


def slightly_off(by: float) -> tuple[float, ...]:
    return (COLOURS[0] + by, *COLOURS[1:])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"head_sha256": "other"}, "different initial heads (V08)"),
        ({"order_sha256": "other"}, "different order of samples (V24)"),
        ({"colours": slightly_off(1e-5)}, "different input scaling (V26)"),
        ({"pixels_sha256": "other"}, "different pixels (V28)"),
        ({"numerics": replace(EXACT, convolution_bits=11.7)}, "different numerical precision (V32)"),
        ({"effective": replace(build().effective, threads=2)}, "different number of threads (V37)"),
        (
            {"numerics": replace(EXACT, flushes_denormals=False), "subnormals": 7},
            "denormal weights set to 0 on one side (V38)",
        ),
        ({"wall_s": {"step": 4.0}}, "time in different parts (V43)"),
    ],
)  # fmt: skip
def test_what_differs_withholds_the_ratio_and_names_its_rule(changes: dict[str, Any], word: str) -> None:
    assert compared(record(), record(**changes)) == word
    assert compared(record(**changes), record()) == word


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head_sha256": ""},
        {"pixels_sha256": None},
        {"colours": None},
        {"colours": slightly_off(1e-8)},
        {"numerics": None},
        {"numerics": replace(EXACT, flushes_denormals=False)},
        {"numerics": replace(EXACT, product_bits=21.2)},
        {"effective": None},
    ],
)
def test_what_is_alike_or_unknown_is_not_held_against_them(changes: dict[str, Any]) -> None:
    assert compared(record(), record(**changes)) == ""


def test_V43_parts_of_time_do_not_matter_to_an_accuracy() -> None:
    assert compared(record(), record(wall_s={"step": 4.0}), timed=False) == ""


def test_V24_a_native_pipeline_has_an_order_and_pixels_of_its_own() -> None:
    one, other = (replace(record(order_sha256=name), case=replace(build().case, input="native")) for name in "ab")
    assert compared(one, other) == ""


def test_only_seeds_that_both_have_are_compared() -> None:
    ours = pooled([traits(record(0)), traits(record(1, pixels_sha256="a"))])
    theirs = pooled([traits(record(1, pixels_sha256="b")), traits(record(2, head_sha256="x"))])
    assert unlike(read_traits(ours), read_traits(theirs), timed=True) == Breach("V28", "", "different pixels")
    assert unlike(read_traits(traits(record(0))), read_traits(theirs), timed=True) is None
