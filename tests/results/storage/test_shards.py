"""The files of a split plan say together what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import results
from harness.running.record import Record
from results.storage.merge import merge
from results.storage.rows import RunRow, Shard, scan
from results.storage.run_files import open_run, run_files, unfinished
from results.storage.shards import gaps, is_complete
from tests.results.records import MACHINE, build

RECORDS = [build(seed=seed) for seed in range(7)]
PARTS = (RECORDS[:3], RECORDS[3:5], RECORDS[5:])
SHARD = Shard(number=1, plan="p", labels=tuple(tuple(one.case.label for one in part) for part in PARTS))


def run(folder: Path, number: int, *records: Record, end: bool = True) -> None:
    """A run of part `number` that recorded only these records."""
    shard, keys = replace(SHARD, number=number), [one.key for one in PARTS[number - 1]]
    with open_run(folder, command=["run"], planned=keys, machine=MACHINE, environment={}, shard=shard) as writer:
        for record in records:
            writer.append(record)
        if end:
            writer.finish()


def said(folder: Path) -> list[str]:
    return [str(gap) for gap in gaps(run_files(folder))]


def test_a_missing_part_is_named_with_its_number_of_cases_and_an_example(tmp_path: Path) -> None:
    run(tmp_path, 1, *PARTS[0])
    run(tmp_path, 3, *PARTS[2])
    assert said(tmp_path) == ["shard 2/3 is missing: 2 cases, e.g. pytorch/resnet18/full/seed3"]
    run(tmp_path, 2, *PARTS[1])
    assert said(tmp_path) == []


@given(lost=st.sets(st.integers(0, 6)), absent=st.sets(st.integers(1, 3), max_size=2))
@settings(max_examples=25)
def test_whatever_is_lost_is_named_and_nothing_else(
    lost: set[int], absent: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, sources = tmp_path_factory.mktemp("shards"), []
    for number, part in enumerate(PARTS, 1):
        if number not in absent:
            run(place / str(number), number, *(one for one in part if one.case.seed not in lost))
            sources.append(place / str(number))
    merge(place / "into", sources)
    found = {label for gap in gaps(run_files(place / "into")) for label in gap.missing}
    gone = {one.case.label for number in absent for one in PARTS[number - 1]}
    assert found == gone | {RECORDS[seed].case.label for seed in lost}


def test_a_second_run_of_a_part_completes_an_interrupted_one(tmp_path: Path) -> None:
    run(tmp_path, 1, PARTS[0][0], replace(PARTS[0][1], status="interrupted"), end=False)
    (sentence,) = [text for text in said(tmp_path) if text.startswith("shard 1/3")]
    assert sentence == ("shard 1/3 has no result of 2 cases, e.g. pytorch/resnet18/full/seed1; run --shard 1/3 again")
    assert not is_complete(run_files(tmp_path), SHARD)
    run(tmp_path, 1, *PARTS[0][1:])
    assert is_complete(run_files(tmp_path), SHARD)


def test_an_empty_part_is_complete_as_soon_as_it_has_a_file(tmp_path: Path) -> None:
    empty = Shard(number=2, plan="q", labels=(("a",), ()))
    assert not is_complete(run_files(tmp_path), empty)
    with open_run(tmp_path, command=[], planned=[], machine=MACHINE, environment={}, shard=empty) as writer:
        writer.finish()
    assert is_complete(run_files(tmp_path), empty)
    assert said(tmp_path) == ["shard 1/2 is missing: 1 case, e.g. a"]


def test_resume_continues_its_own_part_and_never_another_one_or_a_whole_run(tmp_path: Path) -> None:
    for number in (1, 2):
        run(tmp_path, number, PARTS[number - 1][0], end=False)
    with open_run(tmp_path, command=[], planned=["k"], machine=MACHINE, environment={}):
        pass
    for wanted in (SHARD, replace(SHARD, number=2), None):
        found = unfinished(tmp_path, MACHINE, wanted)
        assert found is not None
        assert found.row.shard == wanted
    assert unfinished(tmp_path, MACHINE, replace(SHARD, number=3)) is None
    assert unfinished(tmp_path, MACHINE, replace(SHARD, plan="other")) is None


def test_a_folder_warns_of_missing_parts_and_the_file_of_one_part_does_not(tmp_path: Path) -> None:
    run(tmp_path, 1, *PARTS[0])
    folder, (file,) = results.load(tmp_path), run_files(tmp_path)
    warnings = [str(warning) for warning in folder.attrs["warnings"]]
    assert [text.partition(":")[0] for text in warnings] == ["V50", "V50"]
    assert "shard 2/3 is missing: 2 cases" in warnings[0]
    assert sorted(folder.attrs["missing"].values()) == [2, 2]
    alone = results.load(file)
    assert (alone.attrs["warnings"], alone.attrs["missing"]) == ([], {})


def test_a_row_without_a_shard_is_read_as_before(tmp_path: Path) -> None:
    with open_run(tmp_path, command=[], planned=["k"], machine=MACHINE, environment={}) as writer:
        writer.finish()
    (file,) = run_files(tmp_path)
    file.write_bytes(file.read_bytes().replace(b',"shard":null', b""))
    first = next(scan(file)).row
    assert isinstance(first, RunRow)
    assert first.shard is None
