"""Rules about two rows of a table: whether both did the same work on the same pixels in the same way.

A row may have several seeds, so facts are kept per seed. A rule compares only facts that both rows have for a seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from harness.rules import Breach, rule
from harness.running.record import Record

COLOURS = 1e-6
"""Largest allowed difference between normalised tensors (V26)."""
BITS = 2.0


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the work of one process that must be equal on the other side of a ratio."""

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
    """Return the traits of a record by its seed, as JSON."""
    native = record.case.input == "native"
    numerics = record.numerics
    found = Traits(
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
    return msgspec.json.encode({record.case.seed: found}).decode()


def pooled(several: Iterable[str]) -> str:
    """Merge the traits of several records; the last record of a seed wins."""
    found: dict[int, Traits] = {}
    last = reversed(dict.fromkeys(reversed(list(several))))  # most are equal: decode each only once
    for one in last:
        found |= read_traits(one)
    return msgspec.json.encode(dict(sorted(found.items()))).decode()


@rule("V08", "pair", "different initial heads")
def first_head(one: Traits, other: Traits) -> bool:
    """The initial values of the heads differ."""
    return bool(one.head and other.head and one.head != other.head)


@rule("V24", "pair", "different order of samples")
def sample_order(one: Traits, other: Traits) -> bool:
    """The orders of the samples differ."""
    return _differ(one.order, other.order)


@rule("V26", "pair", "different input scaling")
def normalisation(one: Traits, other: Traits) -> bool:
    """The first batches differ in mean or standard deviation."""
    pairs = [(a, b) for a, b in zip(one.colours, other.colours, strict=False) if a and b]
    return any(abs(x - y) > COLOURS * max(1.0, abs(x)) for a, b in pairs for x, y in zip(a, b, strict=True))


@rule("V28", "pair", "different pixels")
def pixels(one: Traits, other: Traits) -> bool:
    """The batches have different pixels."""
    return _differ(one.pixels, other.pixels)


@rule("V32", "pair", "different numerical precision")
def precision(one: Traits, other: Traits) -> bool:
    """Products or convolutions are more exact on one side."""
    return bool(one.bits and other.bits and any(abs(a - b) > BITS for a, b in zip(one.bits, other.bits, strict=True)))


@rule("V37", "pair", "different number of threads")
def threads(one: Traits, other: Traits) -> bool:
    """One side has more threads than the other."""
    return None not in (one.threads, other.threads) and one.threads != other.threads


@rule("V38", "pair", "denormal weights set to 0 on one side")
def denormals(one: Traits, other: Traits) -> bool:
    """Some weights are denormal, and only one side sets them to zero."""
    differ = None not in (one.flushes, other.flushes) and one.flushes != other.flushes
    return differ and bool(one.subnormals or other.subnormals)


@rule("V43", "pair", "time in different parts")
def parts_of_time(one: Traits, other: Traits) -> bool:
    """The two sides split their time into different parts."""
    return one.parts != other.parts


PAIR_RULES = (
    first_head, sample_order, normalisation, pixels, precision, threads, denormals, parts_of_time
)  # fmt: skip
"""The label of each rule is printed after `≠`."""
ABOUT_TIME = (parts_of_time,)


def unlike(one: Mapping[int, Traits], other: Mapping[int, Traits], *, timed: bool) -> Breach | None:
    """Return the first breach between the traits of two rows by seed; ask rules about time only if `timed`."""
    common = sorted(one.keys() & other.keys())
    rules = [rule for rule in PAIR_RULES if timed or rule not in ABOUT_TIME]
    return next((breach for rule in rules for seed in common for breach in rule(one[seed], other[seed])), None)


def _differ(ours: tuple[str | None, ...], theirs: tuple[str | None, ...]) -> bool:
    return any(a != b for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None)


def read_traits(text: str) -> dict[int, Traits]:
    """Return the traits by seed from the column `traits`."""
    return msgspec.json.decode(text, type=dict[int, Traits])
