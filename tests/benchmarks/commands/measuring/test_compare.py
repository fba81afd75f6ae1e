"""`compare` and `noise` for real, on the reference backend and with turns of a hundredth of a second."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.comparing import comparison_run
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.pairs import LEAST_STEPS
from benchmarks.comparing.prepare import PreparedComparison
from benchmarks.comparing.sides import expand_sides, read_sides
from benchmarks.datasets.cache import cache_entries
from results.storage.comparison import LOOKS
from results.storage.rows import Pair
from results.verdicts.stored_comparisons import StoredComparison, read_comparisons
from tests.benchmarks.commanding import QUICK, ROOT, SMALL, checkout, frozen_only, git, invoke

SHORT = ("--scenario", "scratch", "--turn", "0.01", "--threads", "1", "--pairs", "10", "--margin", "20%",
         "--order-seed", "1")  # fmt: skip


def compare(folder: Path, *arguments: str) -> tuple[Result, StoredComparison]:
    said = invoke("compare", "--results", folder, *SMALL, *SHORT, *arguments)
    (stored,) = read_comparisons(folder)
    return said, stored


@pytest.fixture(scope="module")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, StoredComparison]:
    return compare(tmp_path_factory.mktemp("slowed"), "--seeds", "2", "--inject-delay", "B=100%")


def test_an_injected_slow_down_is_found_confirmed_and_ends_with_1(slowed: tuple[Result, StoredComparison]) -> None:
    said, stored = slowed
    assert said.exit_code == 1, said.output
    assert "injected delay: 0.0% in A, 100.0% in B" in said.output
    assert stored.comparison is not None
    assert stored.comparison.verdict == "regression"
    assert [finding.metric for finding in stored.comparison.confirmation] == ["throughput"]
    assert stored.comparison.sentence.endswith("(confirmed by a re-run)")


def test_every_pair_is_stored_with_its_order_its_turns_and_its_sensors(slowed: tuple[Result, StoredComparison]) -> None:
    _, stored = slowed
    assert sum(pair.counts and not pair.confirms for pair in stored.pairs) == LOOKS[0]
    assert sum(pair.counts and pair.confirms for pair in stored.pairs) == LOOKS[0]
    assert {pair.order for pair in stored.pairs} == {"ABBA", "BAAB"}
    for pair in stored.pairs:
        for side in (pair.a, pair.b):
            assert len(side.turns) == 6
            assert all(turn.steps >= 5 and turn.compile_events == 0 for turn in side.turns)
            assert side.sensors is not None
        assert pair.a.start_sha256 == pair.b.start_sha256


def test_accuracy_is_judged_over_seeds_and_its_runs_stay_out_of_the_table(
    slowed: tuple[Result, StoredComparison],
) -> None:
    _, stored = slowed
    assert stored.comparison is not None
    accuracy = next(finding for finding in stored.comparison.findings if finding.metric == "accuracy")
    assert accuracy.unit == "points"
    assert accuracy.change == 0.0  # a slower side learns the same
    assert sorted((row.side, row.record.case.seed) for row in stored.processes) == [
        ("A", 0),
        ("A", 1),
        ("B", 0),
        ("B", 1),
    ]
    assert invoke("table", "--results", stored.file.parents[4]).exit_code == 3


def test_nothing_between_the_arms_is_an_a_a_test_and_says_so(tmp_path: Path, few_pairs: tuple[str, str]) -> None:
    said, stored = compare(tmp_path, "here", "here", "--seeds", "0", "--format", "json", *few_pairs)
    (found,) = msgspec.json.decode(said.stdout)
    assert found["differs"] == []
    assert found["verdict"] != "regression"
    assert said.exit_code == 0
    assert stored.comparison is not None
    assert stored.comparison.order_seed == 1


def test_a_revision_runs_in_its_own_worktree(tmp_path: Path) -> None:
    said = invoke(
        "compare", "rev:HEAD", "here", "--results", tmp_path, *SMALL, *SHORT, "--seeds", "0", "--budget", "0.02"
    )
    assert said.exit_code == 0, said.output
    (stored,) = read_comparisons(tmp_path)
    assert stored.comparison is not None
    assert stored.comparison.verdict == "inconclusive"
    assert "pairs, but the first look needs 10" in said.output  # the budget was spent before
    a, b = stored.comparison.sides
    assert a.revision.removesuffix("+") == b.revision.removesuffix("+")
    assert any(one.field in ("revision", "checkout") for one in stored.comparison.differs)
    (worktree,) = (entry.path for entry in cache_entries() if entry.kind == "revisions")
    git(ROOT, "worktree", "remove", "--force", worktree)


def one_pair(results: Path, *sides: str, delays: tuple[str, ...] = ()) -> tuple[PreparedComparison, Pair]:
    catalogue = read_catalogue()
    specs = read_sides(sides, (), (), delays, catalogue)
    case = {"backend": ("reference",), "model": ("tiny-cnn",), "scenario": ("scratch",), "image_size": (32,),
            "augment": ("none",)}  # fmt: skip
    with open_comparison_run(results, Limits(turn_s=0.02), catalogue, order_seed=1, quiet=True) as run:
        (prepared,) = run.prepare(specs, expand_sides(specs, case, catalogue), None)
        return prepared, run.pair(prepared, "one pair", 1, "ABBA")


def test_the_side_with_the_shorter_delay_rests_until_both_have_waited_as_long(tmp_path: Path) -> None:
    prepared, pair = one_pair(tmp_path, delays=("A=10%", "B=40%"))
    assert [(side.delay, side.rest) for side in prepared.sides] == [(0.1, pytest.approx(0.3)), (0.4, 0.0)]
    assert (pair.a.status, pair.b.status) == ("ok", "ok")


def marked_checkout(folder: Path, mark: str) -> Path:
    """A copy of the project whose reference backend does something else beside each update, or in its place."""
    session = checkout(folder) / "backends" / "reference" / "session.py"
    update = "        self.update(factor)\n"
    text = session.read_text()
    assert text.count(update) == 1
    session.write_text(text.replace(update, mark))
    return folder


def test_each_arm_runs_the_code_of_its_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = marked_checkout(tmp_path / "other", "        __import__('time').sleep(0.03)\n")
    monkeypatch.chdir(ROOT)  # where most people are when they compare
    _, pair = one_pair(tmp_path / "results", "here", f"dir:{other}")
    a, b = ([us for turn in side.turns for us in turn.step_us] for side in (pair.a, pair.b))
    assert min(b) > 30_000 > min(a)


def test_both_arms_start_apart_and_take_their_turns_on_the_same_cores(tmp_path: Path, all_cores: list[int]) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    note = f"""        self.update(factor)
        import os
        with open(f"{seen}/{{os.getpid()}}", "a") as file:
            print(*os.sched_getaffinity(0), file=file)
"""
    own = marked_checkout(tmp_path / "own", note)
    one_pair(tmp_path / "results", f"dir:{own}", f"dir:{own}")
    steps = [[int(line) for line in file.read_text().splitlines()] for file in seen.iterdir()]
    assert sorted(cores[0] for cores in steps) == all_cores[-2:]
    for cores in steps:
        turns = cores[-6 * LEAST_STEPS :]
        assert turns == [all_cores[-1]] * len(turns)


def test_a_case_that_fails_is_3_and_does_not_stop_the_next(
    tmp_path: Path, checkpoint: Path, few_pairs: tuple[str, str]
) -> None:
    other = frozen_only(tmp_path / "other")
    both = (*SMALL, *SHORT, "--scenario", "freeze-conv", "--checkpoint", checkpoint, "--seeds", "0", *few_pairs)
    said = invoke("compare", "here", f"dir:{other}", "--results", tmp_path / "results", *both)
    assert said.exit_code == 3, said.output
    assert "error: reference/tiny-cnn/scratch: side B: failed – AssertionError" in said.stderr
    assert "reference/tiny-cnn/freeze-conv" in said.stdout
    judged = [one.comparison.label for one in read_comparisons(tmp_path / "results") if one.comparison is not None]
    assert judged == ["reference/tiny-cnn/freeze-conv"]


@pytest.fixture(scope="module")
def alternated(tmp_path_factory: pytest.TempPathFactory) -> StoredComparison:
    """Processes that follow each other, on a machine where every pair is disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_run, "REPEATS", 2)
        patch.setattr(comparison_run, "disturbed", lambda sensors, threads: ["another program ran"])
        return compare(tmp_path_factory.mktemp("alternated"), "here", "here", "--seeds", "0", "--alternate")[1]


def test_processes_that_follow_each_other_make_pairs_too(alternated: StoredComparison) -> None:
    assert {pair.order for pair in alternated.pairs} == {"AB", "BA"}
    assert all(len(side.turns) == 6 for pair in alternated.pairs for side in (pair.a, pair.b))


def test_the_first_disturbed_pairs_are_measured_again_and_later_ones_count(alternated: StoredComparison) -> None:
    assert [pair.counts for pair in alternated.pairs] == [False] * 2 + [True] * LOOKS[0]
    both = ("side A: another program ran", "side B: another program ran")
    assert {pair.disturbed for pair in alternated.pairs} == {both}
    assert alternated.comparison is not None
    assert alternated.comparison.repeated_pairs == 2
    assert alternated.comparison.findings[0].replicates == LOOKS[0]


ROOM_FOR_ONE = """
import fcntl, os
from msgspec.structs import replace
from backends import reference

ROOM = os.open({room!r}, os.O_RDWR | os.O_CREAT)
SMALL = reference.MODELS["tiny-cnn"]


def build(size):
    try:
        fcntl.flock(ROOM, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MemoryError("another has it") from None
    return SMALL.build(size)


MODELS = {{"reference": [replace(SMALL, name="large", build=build)]}}
"""


def test_workers_that_do_not_fit_beside_each_other_follow_each_other(
    tmp_path: Path, few_pairs: tuple[str, str]
) -> None:
    plugin = tmp_path / "room.py"
    plugin.write_text(ROOM_FOR_ONE.format(room=str(tmp_path / "room")))
    arguments = ("here", "here", *QUICK, "--model", "large", "--plugin", plugin, *SHORT, "--seeds", "0")
    said = invoke("compare", "--results", tmp_path / "results", *arguments, *few_pairs)
    assert said.exit_code == 0, said.output
    (stored,) = read_comparisons(tmp_path / "results")
    first, *others = stored.pairs
    assert {first.a.status, first.b.status} == {"oom", "ok"}
    assert (len(first.order), first.counts) == (4, False)
    assert len(others) == int(few_pairs[1])
    assert {pair.order for pair in others} <= {"AB", "BA"}
    assert {side.status for pair in others for side in (pair.a, pair.b)} == {"ok"}


def test_noise_needs_all_looks_and_says_what_is_missing(tmp_path: Path) -> None:
    said = invoke("noise", "--results", tmp_path, *SMALL, "--scenario", "scratch", "--turn", "0.01", "--budget", "0.01")
    assert said.exit_code == 3
    assert "pairs; use a larger --budget" in said.output
    (stored,) = read_comparisons(tmp_path)
    assert stored.comparison is not None
    assert stored.comparison.purpose == "noise"
