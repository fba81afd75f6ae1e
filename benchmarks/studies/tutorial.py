"""The script of the PyTorch tutorial beside this harness: whole commands in alternation, with imports and validation.

    python -m benchmarks.studies.tutorial photos/ --checkpoint resnet18.pth --method frozen --set features=kept

Each round runs every command once, with a seed of its own, in a random order, on the same cores. The images are decoded
into the cache before the first round; kept features are removed before each. The tutorial's script is
`docs/peers/torch_tutorial.py`.
"""

from __future__ import annotations

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

import results
from benchmarks.datasets.cache import cache_folder
from harness import PREFIX
from harness.process.machine import usable_cores
from results.statistics import mean

PEERS = Path(__file__).parents[2] / "docs" / "peers"
SCRIPT = PEERS / "torch_tutorial.py"
AUGMENT = {"flip": "flip", "crop": "random-resized-crop,flip", "two-crops": "random-resized-crop,flip,views:count=2"}
TUTORIAL = "tutorial"
SCENARIO = {"frozen": "freeze-conv", "first-stage": str(PEERS / "first_stage.toml"), "full": "full"}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False), required=True)
@click.option("--method", type=click.Choice(tuple(SCENARIO)), default="frozen")
@click.option("--augment", type=click.Choice(tuple(AUGMENT)), default="flip")
@click.option("--epochs", type=int, default=25)
@click.option("--rounds", type=int, default=3)
@click.option(
    "--set",
    "variants",
    multiple=True,
    default=("features=live",),
    help="options of one run of the harness, such as precision=fp32,keep-memory; NAME= leaves one out, such as epochs=",
)
def command(
    data: str, checkpoint: str, method: str, augment: str, epochs: int, rounds: int, variants: tuple[str, ...]
) -> None:
    """Print the seconds and accuracy of each command and round, and ratios over rounds with a 95 % interval."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        ours = {variant: _ours(data, checkpoint, method, augment, epochs, variant) for variant in variants}
        _timed([*ours[variants[0]], "--epochs", "2", "--results", f"{scratch}/first"])
        seconds: dict[str, list[float]] = {TUTORIAL: [], **{variant: [] for variant in variants}}
        for seed in range(rounds):
            for name in draw.sample(sorted(seconds), len(seconds)):
                shutil.rmtree(cache_folder() / "features", ignore_errors=True)
                folder = Path(scratch) / f"{seed} {name}"
                if name == TUTORIAL:
                    spent, output = _timed(_tutorial(data, checkpoint, method, augment, epochs, seed))
                    accuracy = _last(output)
                else:
                    seeds = ["--seeds", str(rounds), "--shard", f"{seed + 1}/{rounds}"]  # one of them in each round
                    spent, _ = _timed([*ours[name], *seeds, "--results", str(folder)])
                    accuracy = _stored(folder)
                seconds[name].append(spent)
                click.echo(f"round {seed + 1}: {name} {spent:.1f} s, accuracy {accuracy:.1%}")
    for variant in variants:
        click.echo(sentence(seconds[TUTORIAL], seconds[variant], variant))


def sentence(theirs: list[float], ours: list[float], variant: str) -> str:
    """Return the median seconds of both, and the ratio over rounds with its interval; one round has no interval.

    >>> sentence([20.0], [10.0], "features=kept")
    'tutorial 20.0 s, harness with features=kept 10.0 s: it ends × 2.00 sooner (one round, no interval)'
    """
    ratio = mean(np.log(np.array(theirs) / np.array(ours)))
    value, low, high = map(math.exp, ratio[:3])
    over = f"95 % interval {low:.2f}–{high:.2f}, {ratio.runs} rounds" if ratio.runs > 1 else "one round, no interval"
    seconds = f"tutorial {median(theirs):.1f} s, harness with {variant} {median(ours):.1f} s"
    return f"{seconds}: it ends × {value:.2f} sooner ({over})"


def _ours(data: str, checkpoint: str, method: str, augment: str, epochs: int, variant: str) -> list[str]:
    options = {"data": data, "checkpoint": checkpoint, "scenario": SCENARIO[method], "augment": AUGMENT[augment]}
    options |= {"backend": "pytorch", "model": "resnet18", "image-size": "224", "input-scaling": "imagenet"}
    options |= {"recipe": "tutorial", "threads": str(len(usable_cores())), "epochs": str(epochs)}
    for name, given, value in (text.partition("=") for text in variant.split(",")):
        if value or not given:
            options[name] = value
        elif options.pop(name, None) is None:
            raise click.BadParameter(f"{name}= leaves out an option that is not there", param_hint="--set")
    texts = [part for name, value in options.items() for part in (f"--{name}", value) if part]
    return [sys.executable, "-m", f"{PREFIX}benchmarks", "run", *texts]


def _tutorial(data: str, checkpoint: str, method: str, augment: str, epochs: int, seed: int) -> list[str]:
    views = "flip" if augment == "flip" else "crop"
    texts = ["--checkpoint", checkpoint, "--method", method, "--augment", views]
    return [sys.executable, str(SCRIPT), data, *texts, "--epochs", str(epochs), "--seed", str(seed)]


def _timed(command: list[str]) -> tuple[float, str]:
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - started, done.stdout


def _last(output: str) -> float:
    return float(re.findall(r"last accuracy ([0-9.]+)", output)[-1])


def _stored(results_dir: Path) -> float:
    return float(results.load(results_dir)["val_accuracy"].item())


if __name__ == "__main__":
    command()
