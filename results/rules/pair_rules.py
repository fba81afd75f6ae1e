"""Rules about two rows of a table: whether both did the same work on the same pixels in the same way.

A row may hold several seeds, so the facts are kept per seed. Only facts that both rows have for a seed are compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import msgspec

from harness.rules import Breach, rule
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


@rule("V08", "pair", "first head")
def first_head(one: Traits, other: Traits) -> bool:
    """The heads started with different values."""
    return bool(one.head and other.head and one.head != other.head)


@rule("V24", "pair", "order")
def sample_order(one: Traits, other: Traits) -> bool:
    """The samples came in different orders."""
    return _differ(one.order, other.order)


@rule("V26", "pair", "normalisation")
def normalisation(one: Traits, other: Traits) -> bool:
    """The first batches have different means or standard deviations."""
    pairs = [(a, b) for a, b in zip(one.colours, other.colours, strict=False) if a and b]
    return any(abs(x - y) > COLOURS * max(1.0, abs(x)) for a, b in pairs for x, y in zip(a, b, strict=True))


@rule("V28", "pair", "pixels")
def pixels(one: Traits, other: Traits) -> bool:
    """The batches have different pixels."""
    return _differ(one.pixels, other.pixels)


@rule("V32", "pair", "precision")
def precision(one: Traits, other: Traits) -> bool:
    """Products or convolutions are more exact on one side."""
    return bool(one.bits and other.bits and any(abs(a - b) > BITS for a, b in zip(one.bits, other.bits, strict=True)))


@rule("V37", "pair", "threads")
def threads(one: Traits, other: Traits) -> bool:
    """One side has more threads than the other."""
    return None not in (one.threads, other.threads) and one.threads != other.threads


@rule("V38", "pair", "denormals")
def denormals(one: Traits, other: Traits) -> bool:
    """There are denormal weights, and one side sets them to zero."""
    differ = None not in (one.flushes, other.flushes) and one.flushes != other.flushes
    return differ and bool(one.subnormals or other.subnormals)


@rule("V43", "pair", "parts of time")
def parts_of_time(one: Traits, other: Traits) -> bool:
    """The time of the two sides is split into different parts."""
    return one.parts != other.parts


PAIR_RULES = (
    first_head, sample_order, normalisation, pixels, precision, threads, denormals, parts_of_time
)  # fmt: skip
"""The label of each is the word behind a `≠`."""
ABOUT_TIME = (parts_of_time,)


def unlike(one: Row, other: Row, *, timed: bool) -> Breach | None:
    """The first breach between two rows of `results.table`; rules about time count only if the figure is `timed`."""
    ours, theirs = _read(one["traits"]), _read(other["traits"])
    common = sorted(ours.keys() & theirs.keys())
    rules = [asked for asked in PAIR_RULES if timed or asked not in ABOUT_TIME]
    return next((breach for asked in rules for seed in common for breach in asked(ours[seed], theirs[seed])), None)


def _differ(ours: tuple[str | None, ...], theirs: tuple[str | None, ...]) -> bool:
    return any(a != b for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None)


def _read(text: str) -> dict[int, Traits]:
    return msgspec.json.decode(text, type=dict[int, Traits])
