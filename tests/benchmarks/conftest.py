"""An image folder, a checkpoint, and one finished run of the reference backend that many tests look at."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from benchmarks.comparing import budget, comparison_run
from benchmarks.explaining import explain
from benchmarks.tuning import tune
from harness.running.record import Record
from harness.spec import SETTINGS
from results.storage.comparison import LOOKS
from tests.benchmarks.commanding import SMALL, invoke, records
from tests.conftest import coloured
from tests.harness.cases import write_tiny

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="session", autouse=True)
def _disturbed_pairs_count() -> Iterator[None]:
    """Tests disturb each other, so a comparison would measure nearly every pair twice; test_compare.py repeats two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_run, "REPEATS", 0)
        patch.setattr(explain, "AGAIN", 0)
        yield


@pytest.fixture
def without_kept_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one candidate of `tune` on the reference backend: keeping memory changes little there, so noise decides."""
    others = {name: setting for name, setting in SETTINGS.items() if name != "keep_memory"}
    monkeypatch.setattr(tune, "SETTINGS", others)


@pytest.fixture
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The option for two pairs, which the command would refuse: enough where the verdict does not matter."""
    monkeypatch.setattr(budget, "LOOKS", (2, *LOOKS))
    return "--pairs", "2"


@pytest.fixture
def upgraded(tmp_path: Path) -> Path:
    """The interpreter of an environment with the same packages as here, in which NumPy has another version."""
    home = tmp_path / "upgraded"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "all.pth").write_text(sysconfig.get_path("purelib"))
    (site / "numpy-9.9.dist-info").mkdir()
    (site / "numpy-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n")
    return home / "bin" / "python"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of 48 training, 12 validation and 24 test images, 32 px, three classes."""
    home = tmp_path_factory.mktemp("data") / "three colours"
    for split, count in (("train", 48), ("val", 12), ("test", 24)):
        pixels, labels = coloured(f"folder {split}", count)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            file = home / split / CLASSES[label] / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return home


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A neutral checkpoint of tiny-cnn with random weights."""
    return write_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


class Finished(NamedTuple):
    """What a run left behind."""

    results: Path
    models: Path
    output: str
    exit_code: int
    records: list[Record]


@pytest.fixture(scope="session")
def finished(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of two scenarios and two seeds that kept its networks."""
    home = tmp_path_factory.mktemp("finished")
    result = invoke(
        "run", *SMALL, "--data", images, "--checkpoint", checkpoint, "--scenario", "full", "--scenario", "freeze-conv",
        "--seeds", "2", "--save-model", home / "models", "--results", home / "results",
    )  # fmt: skip
    return Finished(home / "results", home / "models", result.output, result.exit_code, records(home / "results"))


@pytest.fixture
def finished_copy(finished: Finished, tmp_path: Path) -> Path:
    """The results of `finished`, to be spoilt."""
    return Path(shutil.copytree(finished.results, tmp_path / "copy"))
