"""The script of the PyTorch tutorial beside this harness: whole commands in alternation, with imports and validation.

    python -m benchmarks.studies.peers photos/ --checkpoint resnet18.pth --method frozen --set features=kept

Each round runs both commands once, in a random order, on the same cores. The images are decoded into the cache before
the first round; kept features are removed before each. The tutorial's script is `docs/peers/torch_tutorial.py`.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click
import numpy as np
from scipy import stats

from benchmarks.datasets.cache import cache_folder
from harness.errors import Refused
from harness.process.machine import usable_cores

SCRIPT = Path(__file__).parents[2] / "docs" / "peers" / "torch_tutorial.py"
AUGMENT = {"flip": "flip", "crop": "random-resized-crop,flip", "two-crops": "random-resized-crop,flip,views:count=2"}
SCENARIO = {"frozen": "freeze-conv", "full": "full"}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False), required=True)
@click.option("--method", type=click.Choice(tuple(SCENARIO)), default="frozen")
@click.option("--augment", type=click.Choice(tuple(AUGMENT)), default="flip")
@click.option("--epochs", type=int, default=25)
@click.option("--rounds", type=int, default=3)
@click.option("--set", "settings", multiple=True, help="further options of `run`, such as features=kept")
def command(
    data: str, checkpoint: str, method: str, augment: str, epochs: int, rounds: int, settings: tuple[str, ...]
) -> None:
    """Print the seconds of each command and round, the accuracies, and the ratio over rounds with its 95 % interval."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        ours = _ours(data, checkpoint, method, augment, settings)
        _timed([*ours, "--epochs", "1", "--seeds", "1", "--results", f"{scratch}/first"])
        seconds: dict[str, list[float]] = {"tutorial": [], "harness": []}
        accuracies: dict[str, list[float]] = {"tutorial": [], "harness": []}
        for seed in range(rounds):
            results = Path(scratch) / str(seed)
            commands = {
                "tutorial": _tutorial(data, checkpoint, method, augment, epochs, seed),
                "harness": [*ours, "--epochs", str(epochs), "--results", str(results)],
            }
            for name in draw.sample(sorted(commands), 2):
                shutil.rmtree(cache_folder() / "features", ignore_errors=True)
                spent, output = _timed(commands[name])
                seconds[name].append(spent)
                accuracies[name].append(_last(output) if name == "tutorial" else _stored(results))
                click.echo(f"round {seed + 1}: {name} {spent:.1f} s, accuracy {accuracies[name][-1]:.1%}")
    ratios = np.log(np.array(seconds["tutorial"]) / np.array(seconds["harness"]))
    half = float(stats.t.ppf(0.975, rounds - 1) * stats.sem(ratios)) if rounds > 1 else math.nan
    value = float(ratios.mean())
    low, high = math.exp(value - half), math.exp(value + half)
    click.echo(f"tutorial {median(seconds['tutorial']):.1f} s, harness {median(seconds['harness']):.1f} s: ")
    click.echo(f"the harness ends × {math.exp(value):.2f} sooner (95 % interval {low:.2f}–{high:.2f}, {rounds} rounds)")


def _ours(data: str, checkpoint: str, method: str, augment: str, settings: tuple[str, ...]) -> list[str]:
    options = {"data": data, "checkpoint": checkpoint, "scenario": SCENARIO[method], "augment": AUGMENT[augment]}
    options |= {"backend": "pytorch", "model": "resnet18", "image-size": "224", "input-scaling": "imagenet"}
    options |= {"recipe": "tutorial", "batch-size": "16", "threads": str(len(usable_cores()))}
    options |= dict(text.split("=", 1) for text in settings)
    texts = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "benchmarks", "run", *texts]


def _tutorial(data: str, checkpoint: str, method: str, augment: str, epochs: int, seed: int) -> list[str]:
    views = "flip" if augment == "flip" else "crop"
    texts = ["--checkpoint", checkpoint, "--method", method, "--augment", views]
    return [sys.executable, str(SCRIPT), data, *texts, "--epochs", str(epochs), "--seed", str(seed)]


def _timed(command: list[str]) -> tuple[float, str]:
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    if done.returncode:
        raise Refused(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - started, done.stdout


def _last(output: str) -> float:
    return float(re.findall(r"last accuracy ([0-9.]+)", output)[-1])


def _stored(results: Path) -> float:
    (file,) = (results / "runs").rglob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    (row,) = (row for row in rows if row.get("type") == "process")
    return float(row["record"]["val"]["accuracy"])


if __name__ == "__main__":
    command()
