"""The study beside the tutorial's script: its scenarios are those of the harness, and a variant changes its options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from benchmarks.choosing.scenarios import RECIPES, SCENARIOS, read_scenarios
from benchmarks.studies.tutorial import SCENARIO, command
from tests.results.records import build
from tests.results.tables.test_load import store

ROOT = Path(__file__).parents[3]


def test_first_stage_is_the_first_stage_of_two_stage() -> None:
    (only,) = read_scenarios(Path(SCENARIO["first-stage"]))["first-stage"].stages
    tutorial = SCENARIOS["two-stage"](RECIPES["tutorial"]).stages[0]
    assert only == replace(tutorial, epochs=only.epochs)


def test_moved_norm_is_an_epoch_with_moving_statistics_and_then_freeze_conv() -> None:
    first, then = read_scenarios(ROOT / "docs" / "examples" / "moved_norm.toml")["moved-norm"].stages
    (moving,), (fixed,) = (
        SCENARIOS[name](RECIPES["tutorial"]).stages for name in ("freeze-conv-live-norm", "freeze-conv")
    )
    assert first == replace(moving, epochs=1, schedule=first.schedule)
    assert then == replace(fixed, epochs=24)


def test_a_variant_replaces_an_option_or_leaves_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        if "--results" in words:
            store(Path(words[words.index("--results") + 1]), build())
        return subprocess.CompletedProcess(words, 0, "last accuracy 0.5", "")

    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "weights.pth").touch()
    options = ["--checkpoint", str(tmp_path / "weights.pth"), "--rounds", "1", "--epochs", "4"]
    variants = ["--set", "features=kept,keep-memory", "--set", "scenario=mine.toml,epochs="]
    done = CliRunner().invoke(command, [str(tmp_path), *options, *variants], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    plain, own = (next(words for words in ran[1:] if text in words) for text in ("freeze-conv", "mine.toml"))
    assert plain[plain.index("--epochs") + 1] == "4"
    assert plain[plain.index("--features") + 1] == "kept"
    assert "--keep-memory" in plain
    assert "--epochs" not in own
    assert own.count("--scenario") == 1
    wrong = CliRunner().invoke(command, [str(tmp_path), *options, "--set", "epohcs="])
    assert wrong.exit_code == 2
    assert "epohcs=" in wrong.output


def test_a_command_that_fails_is_shown_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("no weights")
    words = ["-m", "benchmarks.studies.tutorial", str(tmp_path), "--checkpoint", str(tmp_path / "weights.pth")]
    done = subprocess.run([sys.executable, *words, "--rounds", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ended with 2" in done.stderr
    assert "Traceback" not in done.stderr
