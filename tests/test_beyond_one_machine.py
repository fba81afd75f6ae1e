"""The schedulers' files in docs/beyond-one-machine.md give each job its part, in a shell as the scheduler starts it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "beyond-one-machine.md").read_text(encoding="utf-8")
SCHEDULERS = {
    "Slurm": {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"},
    "GitHub Actions": {"SHARD": "2/3"},
    "Kubernetes": {"JOB_COMPLETION_INDEX": "1", "PARTS": "3"},
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_second_of_three_jobs_runs_the_second_of_three_parts(scheduler: str) -> None:
    (expression,) = re.findall(r'--shard ("[^"]+")', section(scheduler))
    done = subprocess.run(
        ["bash", "-uc", f"echo {expression}"], env=SCHEDULERS[scheduler], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2/3\n"


def test_the_numbers_of_parts_in_a_file_agree() -> None:
    github, kubernetes = section("GitHub Actions"), section("Kubernetes")
    assert "SHARD: ${{ matrix.shard }}/${{ strategy.job-total }}" in github
    assert re.search(r"completions: (\d+)", kubernetes)[1] == re.search(r'PARTS, value: "(\d+)"', kubernetes)[1]  # type: ignore[index]
