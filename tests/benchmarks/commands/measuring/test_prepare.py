from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.datasets.cache import ENVIRONMENT
from tests.benchmarks.commanding import SMALL, invoke, refused


def test_data_and_checkpoint_are_made_and_their_places_named(
    images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    result = invoke("prepare", *SMALL, "--data", images, "--checkpoint", checkpoint, "--scenario", "full")
    assert result.exit_code == 0
    data, weights = (line.partition(": ")[2] for line in result.stdout.splitlines())
    assert (Path(data) / "train.images.npy").is_file()
    assert data.startswith(str(tmp_path / "cache"))
    assert weights == str(checkpoint)


def test_what_starts_at_random_needs_no_checkpoint(images: Path) -> None:
    result = invoke("prepare", *SMALL, "--data", images, "--scenario", "scratch")
    assert result.exit_code == 0
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["three colours"]


def test_what_cannot_be_had_is_said_and_ends_with_3(images: Path) -> None:
    result = invoke("prepare", *SMALL, "--data", images, "--scenario", "full")
    assert result.exit_code == 3
    assert "tiny-cnn: tiny-cnn has no published imagenet weights; use --checkpoint" in result.stdout


def test_bad_data_is_refused(tmp_path: Path) -> None:
    assert "contains no folders" in refused("prepare", *SMALL, "--data", tmp_path, "--scenario", "scratch")
