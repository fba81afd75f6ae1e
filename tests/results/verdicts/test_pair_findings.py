"""What pairs say of memory; of time see `test_simulation`."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from harness.pairing.side_record import SideRecord
from results.storage.rows import Pair
from results.verdicts.pair_findings import memory_findings
from tests.results.pairs import pair


def resident(one: SideRecord, process: int, anonymous: int | None) -> SideRecord:
    assert one.memory is not None
    return replace(one, memory=replace(one.memory, process_peak=process, anonymous_peak=anonymous))


def of(a: tuple[int, int | None], b: tuple[int, int | None]) -> list[Pair]:
    one = pair(1)
    return [replace(one, a=resident(one.a, *a), b=resident(one.b, *b)) for _ in range(10)]


def test_pages_of_mapped_files_are_no_regression() -> None:
    (found,) = memory_findings(of((700, 390), (930, 390)))
    assert (found.metric, found.verdict, found.change) == ("process memory", "no change", 0.0)
    (found,) = memory_findings(of((700, 390), (700, 507)))
    assert (found.verdict, found.change) == ("regression", pytest.approx(math.log(1.3)))


def test_sides_of_which_one_does_not_know_are_compared_by_all_that_was_resident() -> None:
    (found,) = memory_findings(of((700, None), (770, 390)))
    assert (found.verdict, found.change) == ("regression", pytest.approx(math.log(1.1)))
