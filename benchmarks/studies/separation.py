"""Check that the embedded task separates the scenarios, with two additional control scenarios.

finetune-bench run --plugin benchmarks/studies/separation.py --seeds 5 --backend pytorch --model resnet18
    --scenario scratch --scenario full --scenario freeze-conv --scenario frozen-random --scenario scratch-renormed
python -m benchmarks.studies.separation results
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.choosing.scenarios import RECIPES
from benchmarks.datasets import embedded
from benchmarks.running.terminal import aligned, use_stand_ins
from harness.errors import Declined, Refused
from harness.spec import Scenario, Schedule

if TYPE_CHECKING:
    import pandas as pd

_STAGE = RECIPES["embedded"].stage
SCENARIOS = [
    Scenario(
        name="frozen-random",
        explanation="freeze-conv on a backbone that was never trained: what the head alone can do",
        stages=(replace(_STAGE, frozen="backbone"),),
        start="random",
    ),
    Scenario(
        name="scratch-renormed",
        explanation="scratch, then its batch-norm statistics estimated anew on the training images, weights fixed",
        stages=(
            _STAGE,
            replace(
                _STAGE,
                epochs=12,
                head_lr=0.0,
                backbone_lr=0.0,
                weight_decay=0.0,
                frozen="backbone",
                norm="batch",
                bn_momentum=0.05,
                schedule=Schedule(),
            ),
        ),
        start="random",
    ),
]
MARGINS = {"full": 0.15, "freeze-conv": 0.10}
"""The smallest gain over scratch of a scenario, as a fraction."""
ABOVE_CHANCE, RENORMED_WITHIN, P_VALUE = 0.15, 0.03, 0.01
SEEDS, TEST_IMAGES = 5, 500
NEEDED = ("scratch", *MARGINS, *(scenario.name for scenario in SCENARIOS))
Verdict = tuple[str, bool]


@click.command
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def main(path: Path) -> None:
    """Judge the records in PATH, model by model; exit with 1 if a model does not separate or is missing."""
    from results import load

    try:
        frame = load(path)
    except (Refused, Declined) as error:
        raise click.ClickException(str(error)) from error
    frame = frame[(frame["status"] == "ok") & (frame["dataset"] == "embedded")]
    verdicts = [_apart(embedded.SOURCE, embedded.TARGET)]
    _say(verdicts)
    for (backend, model), rows in frame.groupby(["backend_name", "model"]):
        click.echo(f"{model}, {backend}:")
        click.echo(aligned(map(_row, *zip(*_accuracy(rows).items(), strict=True)), right={1}))
        found = judge(rows)
        _say(found)
        verdicts += found
    sys.exit(0 if len(verdicts) > 1 and all(holds for _, holds in verdicts) else 1)


def _row(name: str, values: NDArray[np.float64]) -> tuple[str, ...]:
    spread = values.std(ddof=1) if len(values) > 1 else float("nan")
    return f"  {name}", f"{values.mean():.1%}", f"± {spread:.1%} (sd of {len(values)} seeds)"


def judge(rows: pd.DataFrame) -> list[Verdict]:
    """Return sentences about the rows of one model in one backend, each with whether it meets the criterion."""
    from scipy import stats

    accuracy = _accuracy(rows)
    missing = [name for name in NEEDED if name not in accuracy]
    if missing:
        return [(f"no measurement of {', '.join(missing)}", False)]
    scratch, seeds = accuracy["scratch"], min(len(accuracy[name]) for name in NEEDED)
    images = int(rows["test_images"].min())
    found = [(f"{seeds} seeds of each", seeds >= SEEDS), (f"{images} test images", images >= TEST_IMAGES)]
    for name, margin in MARGINS.items():
        gain = accuracy[name].mean() - scratch.mean()
        p = stats.ttest_ind(accuracy[name], scratch, equal_var=False).pvalue
        found.append((f"{name} beats scratch by {gain:.1%}, Welch p = {p:.1g}", bool(gain >= margin and p < P_VALUE)))
    above = scratch.mean() - 1 / len(embedded.TARGET)
    found.append((f"scratch is {above:.1%} above chance", bool(above >= ABOVE_CHANCE)))
    gap = scratch.mean() - accuracy["scratch-renormed"].mean()
    found.append((f"new batch-norm statistics change scratch by {-gap:+.1%}", bool(abs(gap) <= RENORMED_WITHIN)))
    random = accuracy["frozen-random"].mean()
    found.append((f"a frozen random backbone reaches {random:.1%}", bool(random < accuracy["freeze-conv"].mean())))
    return found


def _accuracy(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the last test accuracy of each seed, by scenario."""
    last = rows.drop_duplicates(["scenario", "seed"], keep="last")
    return {str(name): group["accuracy"].to_numpy(np.float64) for name, group in last.groupby("scenario", sort=False)}


def _apart(source: Iterable[embedded.ClassRecipe], target: Iterable[embedded.ClassRecipe]) -> Verdict:
    shared = {(one.shape, one.texture) for one in source} & {(one.shape, one.texture) for one in target}
    return f"{len(shared)} source classes have the shape and texture of a target class", not shared


def _say(verdicts: Iterable[Verdict]) -> None:
    for sentence, holds in verdicts:
        click.echo(f"  {'yes' if holds else 'NO '} {sentence}")


if __name__ == "__main__":
    use_stand_ins()
    main()
