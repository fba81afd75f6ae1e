"""Rules over two rows that stand side by side: whether both did the same work on the same pixels with the same means.

What two rows are compared by is gathered per seed, since a row may stand for several; only common seeds are compared,
and only what both have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from harness.running.record import Record

Row = Mapping[Hashable, Any]
COLOURS = 1e-6
"""Difference that normalised tensors may have (V26)."""
BITS = 2.0


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says of its work that its twin must say too."""

    parts: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    pixels: tuple[str | None, ...] = ()
    colours: tuple[tuple[float, ...] | None, ...] = ()
    head: str = ""
    threads: int | None = None
    bits: tuple[float, float] | None = None
    flushes: bool | None = None
    subnormals: int = 0


Rule = Callable[[Traits, Traits], bool]


def traits(record: Record) -> str:
    """The traits of a record by its seed, as JSON."""
    native = record.case.input == "native"
    numerics = record.numerics
    own = Traits(
        parts=tuple(sorted(record.wall_s)),
        order=() if native else tuple(stage.order_sha256 for stage in record.stages),
        pixels=tuple(stage.pixels_sha256 for stage in record.stages),
        colours=() if native else tuple(stage.colours for stage in record.stages),
        head=record.head_sha256,
        threads=record.effective.threads if record.effective else None,
        bits=(numerics.product_bits, numerics.convolution_bits) if numerics else None,
        flushes=numerics.flushes_denormals if numerics else None,
        subnormals=record.subnormals or 0,
    )
    return msgspec.json.encode({record.case.seed: own}).decode()


def pooled(several: Iterable[str]) -> str:
    """The traits of several records; of two with one seed the last one's."""
    found: dict[int, Traits] = {}
    last = reversed(dict.fromkeys(reversed(list(several))))  # most are alike; each is read once
    for one in last:
        found |= _read(one)
    return msgspec.json.encode(dict(sorted(found.items()))).decode()


def v08_other_head(one: Traits, other: Traits) -> bool:
    """The heads started with other values."""
    return bool(one.head and other.head and one.head != other.head)


def v24_other_order(one: Traits, other: Traits) -> bool:
    """The samples came in another order."""
    return _differ(one.order, other.order)


def v26_other_normalisation(one: Traits, other: Traits) -> bool:
    """The first batches have other means or standard deviations."""
    pairs = [(a, b) for a, b in zip(one.colours, other.colours, strict=False) if a and b]
    return any(abs(x - y) > COLOURS * max(1.0, abs(x)) for a, b in pairs for x, y in zip(a, b, strict=True))


def v28_other_pixels(one: Traits, other: Traits) -> bool:
    """The batches have other pixels."""
    return _differ(one.pixels, other.pixels)


def v32_other_precision(one: Traits, other: Traits) -> bool:
    """Products or convolutions are not equally exact."""
    return bool(one.bits and other.bits and any(abs(a - b) > BITS for a, b in zip(one.bits, other.bits, strict=True)))


def v37_other_threads(one: Traits, other: Traits) -> bool:
    """One has more threads than the other."""
    return None not in (one.threads, other.threads) and one.threads != other.threads


def v38_other_denormals(one: Traits, other: Traits) -> bool:
    """There are denormal weights, and one of the two flushes them to zero."""
    differ = None not in (one.flushes, other.flushes) and one.flushes != other.flushes
    return differ and bool(one.subnormals or other.subnormals)


def v43_other_parts(one: Traits, other: Traits) -> bool:
    """The parts of the time are named differently."""
    return one.parts != other.parts


PAIR_RULES: Mapping[str, tuple[str, Rule]] = MappingProxyType(
    {
        "V08": ("first head", v08_other_head),
        "V24": ("order", v24_other_order),
        "V26": ("normalisation", v26_other_normalisation),
        "V28": ("pixels", v28_other_pixels),
        "V32": ("precision", v32_other_precision),
        "V37": ("threads", v37_other_threads),
        "V38": ("denormals", v38_other_denormals),
        "V43": ("parts of time", v43_other_parts),
    }
)
"""Rules with the word that stands behind a `≠`."""
ABOUT_TIME = ("V43",)


def unlike(one: Row, other: Row, *, timed: bool) -> str:
    """The first thing in which two rows of `results.table` are unlike, with the rule's id; empty if they are alike.

    Rules about time are asked only if the figure is `timed`.
    """
    ours, theirs = _read(one["traits"]), _read(other["traits"])
    common = sorted(ours.keys() & theirs.keys())
    for rule, (word, speaks) in PAIR_RULES.items():
        asked = timed or rule not in ABOUT_TIME
        if asked and any(speaks(ours[seed], theirs[seed]) for seed in common):
            return f"{word} ({rule})"
    return ""


def _differ(ours: tuple[str | None, ...], theirs: tuple[str | None, ...]) -> bool:
    return any(a != b for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None)


def _read(text: str) -> dict[int, Traits]:
    return msgspec.json.decode(text, type=dict[int, Traits])
