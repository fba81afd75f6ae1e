from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets.cache import ENVIRONMENT
from tests.benchmarks.commanding import SMALL, invoke, refused
from tests.harness.cases import tiny_arrays


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_prepare_fills_the_cache_and_says_where_and_cache_shows_and_clears_it(
    cache: Path, images: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "bare.npz", **tiny_arrays())
    prepared = invoke("prepare", *SMALL, "--scenario", "full", "--scenario", "freeze-conv", "--data", images,
                      "--checkpoint", tmp_path / "bare.npz", "--input-scaling", "imagenet")  # fmt: skip
    assert prepared.exit_code == 0, prepared.output
    data, network = (Path(line.partition(": ")[2]) for line in prepared.stdout.splitlines())
    assert (data / "meta.json").is_file()
    assert network.suffix == ".safetensors"

    shown = invoke("cache").stdout
    assert shown.splitlines()[0] == str(cache)
    assert f"datasets/{data.name}" in shown
    assert f"checkpoints/{network.name}" in shown
    assert f"checkpoints/{network.name}" not in invoke("cache", "--kind", "datasets").stdout

    removed = invoke("cache", "--clear", "--kind", "datasets").stdout
    assert data.name in removed
    assert not data.exists()
    assert network.exists()
    invoke("cache", "--clear")
    assert not network.exists()
    assert "  0.0 MB  total" in " " + invoke("cache").stdout.splitlines()[-1].replace("       ", " ")


def test_what_prepare_cannot_have_is_said(cache: Path, images: Path) -> None:
    said = invoke("prepare", *SMALL, "--scenario", "full", "--data", images)
    assert "tiny-cnn: tiny-cnn has no published imagenet weights" in said.stdout


def test_prepare_refuses_what_run_would_refuse(cache: Path, images: Path) -> None:
    line = refused("prepare", *SMALL, "--scenario", "scratch", "--data", images, "--batch-size", "64")
    assert "larger than the training set" in line


def test_an_empty_cache_is_no_error_and_an_unknown_kind_is(cache: Path) -> None:
    assert invoke("cache").exit_code == 0
    assert not cache.exists()
    assert "'weights' is not one of" in refused("cache", "--kind", "weights")
