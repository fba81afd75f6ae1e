"""The example workflow of the documentation runs, up to the point where it needs the service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.benchmarks.commanding import ROOT
from tests.benchmarks.commands.measuring.test_gate import suite

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "gate-workflow.yml").read_text())
STEPS = WORKFLOW["jobs"]["gate"]["steps"]


def test_the_step_that_compares_runs_as_it_stands_and_writes_what_is_uploaded(tmp_path: Path) -> None:
    (step,) = (step for step in STEPS if "benchmarks gate" in step.get("run", ""))
    summary = tmp_path / "summary.md"
    folder = Path(sys.executable).parent
    environment = {
        **os.environ, **{name: str(value) for name, value in WORKFLOW["jobs"]["gate"]["env"].items()},
        "BASE": str(ROOT), "SUITE": str(suite(tmp_path, "scratch")), "BUDGET": "0.02", "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(summary), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "reference/tiny" in summary.read_text()
    (upload,) = (step for step in STEPS if step.get("uses", "").startswith("actions/upload-artifact"))
    for name in upload["with"]["path"].split():
        assert (tmp_path / name).exists()
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().get("tests") == "1"


def test_the_whole_history_is_fetched_and_everything_is_installed() -> None:
    checkout = STEPS[0]
    assert checkout["with"]["fetch-depth"] == 0
    assert any("-c constraints.txt" in step.get("run", "") for step in STEPS)
