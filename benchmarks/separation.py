"""Does the embedded task separate? Two scenarios to run beside the others, and the judgement.

python -m benchmarks run --plugin benchmarks/separation.py --seeds 5 --backend pytorch --model resnet18
    --scenario scratch --scenario full --scenario freeze-conv --scenario frozen-random --scenario scratch-renormed
python -m benchmarks.separation results
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy import stats

from benchmarks.scenarios import RECIPES
from harness.spec import Scenario, Schedule

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
"""Points by which a scenario must beat scratch, as fractions."""
ABOVE_CHANCE, RENORMED_WITHIN, P_VALUE = 0.15, 0.03, 0.01


@click.command
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def main(path: Path) -> None:
    """Judge the records in PATH, model by model; exit 1 if one does not separate."""
    from results import load

    frame = load(path)
    frame = frame[(frame["status"] == "ok") & (frame["dataset"] == "embedded")]
    passed = True
    for model, rows in frame.groupby("model"):
        accuracy = {str(name): group["accuracy"].to_numpy(np.float64) for name, group in rows.groupby("scenario")}
        click.echo(f"{model}:")
        for name, values in accuracy.items():
            spread = values.std(ddof=1) if len(values) > 1 else float("nan")
            click.echo(f"  {name:18} {values.mean():6.1%} ± {spread:.1%} (sd of {len(values)} seeds)")
        for sentence, holds in _judge(accuracy):
            click.echo(f"  {'yes' if holds else 'NO '} {sentence}")
            passed &= holds
    sys.exit(0 if passed else 1)


def _judge(accuracy: dict[str, NDArray[np.float64]]) -> list[tuple[str, bool]]:
    scratch = accuracy["scratch"]
    found = []
    for name, margin in MARGINS.items():
        gain = accuracy[name].mean() - scratch.mean()
        p = stats.ttest_ind(accuracy[name], scratch, equal_var=False).pvalue
        found.append((f"{name} beats scratch by {gain:.1%}, Welch p = {p:.1g}", bool(gain >= margin and p < P_VALUE)))
    above = scratch.mean() - 1 / 8
    found.append((f"scratch is {above:.1%} above chance", bool(above >= ABOVE_CHANCE)))
    gap = scratch.mean() - accuracy["scratch-renormed"].mean()
    found.append((f"statistics estimated anew change scratch by {-gap:+.1%}", bool(abs(gap) <= RENORMED_WITHIN)))
    random = accuracy["frozen-random"].mean()
    found.append((f"a frozen random backbone reaches {random:.1%}", bool(random < accuracy["freeze-conv"].mean())))
    return found


if __name__ == "__main__":
    main()
