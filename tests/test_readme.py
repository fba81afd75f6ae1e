"""The commands of the README work, and the examples of docs/extending.md are the files in docs/examples."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from benchmarks.cli import main
from tests.benchmarks.commanding import quickly

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"
README = (ROOT / "README.md").read_text()
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
COMMANDS = [line.partition("#")[0].strip("$ \n") for line in re.findall(r"^\$ .*$", README, re.MULTILINE)]
NEED_DATA = "--dry-run"
"""Given to commands that would download, or train for minutes: names, options and values are checked all the same."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *quickly(*arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 200


def test_the_table_of_the_readme_is_that_of_the_stored_run() -> None:
    printed = run("table", "--results", str(ROOT / "tests" / "golden" / "readme"))
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout in README


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_the_page_about_extending_shows_the_examples_as_they_are(path: Path) -> None:
    shown = re.search(rf"<!-- example: {re.escape(path.name)} -->\n```\w+\n(.*?)```", EXTENDING, re.DOTALL)
    assert shown is not None
    assert shown[1] == path.read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("finetune-bench run")])
def test_every_run_command_of_the_readme_is_understood(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    for place, word in enumerate(words):
        if words[place - 1] == "--data" and "/" in word:
            for split in ("train", "val"):
                (tmp_path / "photos" / split / "ants").mkdir(parents=True, exist_ok=True)
            words[place] = str(tmp_path / "photos")
    done = run(*words, "--results", str(tmp_path / "results"), NEED_DATA)
    assert done.returncode == 0, done.stderr
    assert "cases, about" in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("finetune-bench")])
def test_every_command_of_the_readme_has_the_names_and_options_that_it_uses(command: str) -> None:
    _, name, *words = shlex.split(command)
    found = main.get_command(click.Context(main), name)
    assert found is not None
    found.make_context(name, words)  # raises what the command line would say


def test_the_readme_shows_photographs_as_a_picture(tmp_path: Path) -> None:
    assert "finetune-bench show photos/" in COMMANDS
    for place, (split, name) in enumerate(itertools.product(("train", "val"), ("ants", "bees"))):
        folder = tmp_path / "photos" / split / name
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (64, 48), (60 * place, 100 * number, 7)).save(folder / f"{number}.jpg")
    done = run("show", str(tmp_path / "photos"), "--image-size", "32", "--out", str(tmp_path / "sheet.png"))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 32


def test_the_example_suite_runs_on_the_example_dataset(tmp_path: Path) -> None:
    done = run(
        *("run", "--suite", str(EXAMPLES / "my_scenarios.toml"), "--plugin", str(EXAMPLES / "my_dataset.py")),
        *("--data", "tints", "--image-size", "32", "--results", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "warm-head" in done.stdout


def test_the_example_backend_learns_the_example_dataset(tmp_path: Path) -> None:
    done = run(
        *("run", "--plugin", str(EXAMPLES / "my_backend.py"), "--plugin", str(EXAMPLES / "my_dataset.py")),
        *("--backend", "mean-colour", "--data", "tints", "--image-size", "32", "--augment", "none", "--lr", "1"),
        *("--scenario", "scratch", "--recipe", "embedded", "--results", str(tmp_path), "--save-model", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"mean-colour/mean-colour/scratch/seed0: accuracy ([\d.]+)%", done.stderr)
    assert accuracy is not None
    assert float(accuracy[1]) > 90


def test_the_example_model_is_shown_and_takes_what_fits_of_a_checkpoint(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    weights = tmp_path / "resnet34.pth"
    import torch

    torch.save(torchvision.models.resnet34().state_dict(), weights)
    done = run(
        *("show", "my-resnet34", "--plugin", str(EXAMPLES / "my_model.py"), "--image-size", "64"),
        *("--checkpoint", str(weights), "--input-scaling", "imagenet", "--scenario", "full"),
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "layer2.0.conv1.weight [128, 64, 3, 3] instead of [128, 64, 5, 5]" in said
    assert "loaded, 1 of another shape" in said
