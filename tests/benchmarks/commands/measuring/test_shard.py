"""A suite in parts, as on several machines: real runs in folders of their own, and their merge."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from results.certificates.certificate import read_certificates
from results.verdicts.stored_comparisons import read_comparisons
from tests.benchmarks.commanding import SMALL, endings, invoke, records, start
from tests.benchmarks.running.test_interrupted import lines_until

SUITE = ("run", *SMALL, "--scenario", "scratch", "--scenario", "full", "--seeds", "2")


def keys(folder: Path) -> list[str]:
    return [record.key for record in records(folder) if record.status == "ok"]


def test_three_parts_merged_are_the_cases_of_one_run_and_a_missing_part_is_named(
    images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    suite = (*SUITE, "--data", images, "--checkpoint", checkpoint)
    assert invoke(*suite, "--results", tmp_path / "whole").exit_code == 0
    for number in (1, 2, 3):
        done = invoke(*suite, "--shard", f"{number}/3", "--results", tmp_path / str(number))
        assert done.exit_code == 0, done.output
        assert f"shard {number}/3: " in done.stderr
        assert "V50" not in done.output
    into = tmp_path / "into"
    early = invoke("merge", tmp_path / "1", tmp_path / "3", "--results", into)
    assert early.exit_code == 3
    (sentence,) = [line for line in early.stderr.splitlines() if line.startswith("!")]
    assert sentence.startswith(f"! shard 2/3 is missing: {len(keys(tmp_path / '2'))} case")
    table = invoke("table", "--results", into)
    assert table.exit_code == 3
    assert "shard 2/3 is missing" in table.output
    late = invoke("merge", tmp_path / "2", "--results", into)
    assert (late.exit_code, late.stderr) == (0, "")
    assert sorted(keys(into)) == sorted(keys(tmp_path / "whole"))
    assert len(set(keys(into))) == 4
    assert invoke("table", "--results", into).exit_code == 0


def test_more_parts_than_cases_leave_an_empty_part_that_is_not_missing(images: Path, tmp_path: Path) -> None:
    case = ("run", *SMALL, "--scenario", "scratch", "--data", images, "--results", tmp_path)
    assert "shard 2/2: 0 of 1 cases" in invoke(*case, "--shard", "2/2").stderr
    assert endings(tmp_path) == ["done"]
    assert invoke(*case, "--shard", "1/2").exit_code == 0
    assert invoke("table", "--results", tmp_path).exit_code == 0


def test_a_killed_part_resumes_by_the_same_command_and_a_complete_one_does_nothing(
    images: Path, tmp_path: Path
) -> None:
    long = ("run", *SMALL, "--scenario", "scratch", "--seeds", "4", "--epochs", "40", "--data", images)
    command = (*long, "--shard", "1/2", "--resume", "--results", tmp_path)
    process = start(*command)
    list(lines_until(process, "[1/2]"))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert len(keys(tmp_path)) == 1
    other = invoke(*long, "--shard", "2/2", "--resume", "--results", tmp_path)
    assert other.exit_code == 0, other.output
    assert invoke(*command).exit_code == 0
    assert len(keys(tmp_path)) == len(set(keys(tmp_path))) == 4
    again = invoke(*command)
    assert again.exit_code == 0
    assert "shard 1/2 is complete" in again.stderr
    assert len(keys(tmp_path)) == 4


def test_comparisons_in_parts_are_in_one_folder_after_the_merge_and_a_missing_one_is_named(
    checkpoint: Path, tmp_path: Path
) -> None:
    plan = ("compare", "here", "here", *SMALL, "--scenario", "scratch", "--scenario", "full", "--seeds", "0",
            "--checkpoint", checkpoint, "--turn", "0.02", "--threads", "1", "--budget", "0.02")  # fmt: skip
    for number in (1, 2):
        done = invoke(*plan, "--shard", f"{number}/2", "--results", tmp_path / str(number))
        assert done.exit_code == 0, done.output
        assert f"shard {number}/2: 1 of 2 comparisons" in done.stderr
    into = ("--results", tmp_path / "into")
    lost = invoke("merge", tmp_path / "1", *into)
    assert lost.exit_code == 3
    assert lost.stderr == "! shard 2/2 is missing: 1 comparison, e.g. reference/tiny-cnn/full\n"
    assert invoke("merge", tmp_path / "2", *into).exit_code == 0
    assert len(read_comparisons(tmp_path / "into")) == 2


def test_noise_in_parts_measures_every_case_once(checkpoint: Path, tmp_path: Path) -> None:
    plan = ("noise", *SMALL, "--scenario", "scratch", "--scenario", "full", "--checkpoint", checkpoint,
            "--turn", "0.01", "--budget", "0.01")  # fmt: skip
    for number in (1, 2, 3):
        invoke(*plan, "--shard", f"{number}/3", "--results", tmp_path / str(number))
    merged = invoke("merge", *(tmp_path / str(n) for n in (1, 2, 3)), "--results", tmp_path / "into")
    assert (merged.exit_code, merged.stderr) == (0, "")
    labels = [one.comparison.label for one in read_comparisons(tmp_path / "into") if one.comparison]
    assert sorted(labels) == ["reference/tiny-cnn/full", "reference/tiny-cnn/scratch"]


def test_a_certificate_in_parts_is_a_certificate_for_each_scenario(tmp_path: Path) -> None:
    plan = ("certify", "tiny-cnn", "--backend", "reference", "--set", "features=kept", "--scenario", "freeze-conv",
            "--scenario", "two-stage")  # fmt: skip
    for number in (1, 2, 3):
        done = invoke(*plan, "--shard", f"{number}/3", "--results", tmp_path / str(number))
        assert done.exit_code == 0, done.output
    into = ("--results", tmp_path / "into")
    lost = invoke("merge", tmp_path / "2", tmp_path / "3", *into)
    assert lost.exit_code == 3
    assert "! shard 1/3 is missing: 1 scenario, e.g. reference/tiny-cnn/two-stage" in lost.stderr
    assert invoke("merge", tmp_path / "1", *into).exit_code == 0
    made = read_certificates(tmp_path / "into")
    local = [one for one in made.all if one.sha256 not in made.shipped]
    assert sorted(scenario for one in local for scenario in one.scenarios) == ["freeze-conv", "two-stage"]
