from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.studies.separation import NEEDED, main
from harness.process.machine import Machine
from results.storage.run_files import open_run
from tests.results.records import MACHINE, build

SEPARATE = {"scratch": 0.4, "full": 0.62, "freeze-conv": 0.6, "frozen-random": 0.3, "scratch-renormed": 0.41}


def judged(folder: Path, means: dict[str, float], *, seeds: int = 5, backends: tuple[str, ...] = ("pytorch",)) -> Any:
    """The command's outcome on made-up records: each seed a little off its mean."""
    records = [
        build(scenario=name, accuracy=mean + (seed % 5 - 2) / 100, seed=seed, backend=backend, dataset="embedded")
        for backend in backends
        for name, mean in means.items()
        for seed in range(seeds)
    ]
    machine: Machine = MACHINE
    with open_run(folder, command=(), planned=[r.key for r in records], machine=machine, environment={}) as writer:
        for record in records:
            writer.append(record)
        writer.finish()
    return CliRunner().invoke(main, [str(folder)])


def test_what_separates_is_told_line_by_line_and_ends_with_0(tmp_path: Path) -> None:
    result = judged(tmp_path, SEPARATE)
    assert result.exit_code == 0, result.output
    assert "NO" not in result.output
    assert "yes full beats scratch by 22.0%, Welch p = " in result.output
    assert "yes 0 source classes have the shape and texture of a target class" in result.output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"full": 0.54}, "full beats scratch by 14.0%"),
        ({"freeze-conv": 0.49}, "freeze-conv beats scratch by 9.0%"),
        ({"scratch": 0.27, "scratch-renormed": 0.27}, "scratch is 14.5% above chance"),
        ({"scratch-renormed": 0.44}, "new batch-norm statistics change scratch by +4.0%"),
        ({"frozen-random": 0.61}, "a frozen random backbone reaches 61.0%"),
    ],
)
def test_each_condition_can_fail_alone_and_ends_with_1(tmp_path: Path, change: dict[str, float], sentence: str) -> None:
    result = judged(tmp_path, {**SEPARATE, **change})
    assert result.exit_code == 1
    failed = [line for line in result.output.splitlines() if line.startswith("  NO")]
    assert len(failed) == 1, result.output
    assert sentence in failed[0]


def test_fewer_than_five_seeds_are_too_few(tmp_path: Path) -> None:
    result = judged(tmp_path, SEPARATE, seeds=2)
    assert result.exit_code == 1
    assert "NO  2 seeds of each" in result.output


def test_a_scenario_that_was_not_run_is_named(tmp_path: Path) -> None:
    result = judged(tmp_path, {name: SEPARATE[name] for name in NEEDED if name != "frozen-random"})
    assert result.exit_code == 1
    assert "NO  no measurement of frozen-random" in result.output


def test_backends_are_judged_apart(tmp_path: Path) -> None:
    result = judged(tmp_path, SEPARATE, backends=("pytorch", "keras3"))
    assert result.exit_code == 0, result.output
    assert "resnet18, pytorch:" in result.output
    assert "resnet18, keras3:" in result.output
    assert result.output.count("(sd of 5 seeds)") == 2 * len(NEEDED)


def test_no_records_are_no_separation(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, [str(tmp_path)]).exit_code == 1
