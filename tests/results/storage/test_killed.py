"""A run that is killed loses at most the row it was writing, and resumes to the same set of records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.commanding import ROOT


@pytest.mark.parametrize("times", [40, pytest.param(200, marks=pytest.mark.long)])
def test_nothing_that_was_on_the_disk_is_lost_doubled_or_torn(tmp_path: Path, times: int) -> None:
    command = [sys.executable, "-m", "tests.results.killing", str(tmp_path), str(times), str(times)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(said.stdout)
    assert found["kills"] >= times
    assert (found["lost"], found["doubled"], found["torn"]) == (0, 0, 0)
