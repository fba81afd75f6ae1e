"""`accept`: record that a loss of speed, memory or accuracy is intended."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.choosing.options import GroupedCommand, option, shared
from benchmarks.comparing.repository import commit_of
from benchmarks.comparing.sides import read_share
from harness.errors import Refused, unknown
from harness.process.environment import HERE
from results.verdicts.accepted import Acceptance, add_accepted
from results.verdicts.pair_findings import MEMORY_MARGINS

METRICS = ("throughput", *MEMORY_MARGINS, "accuracy")


@click.command(cls=GroupedCommand)
@click.argument("case", help="label such as pytorch/resnet18/full, or pattern such as 'keras3-*/full'")
@option("--metric", required=True, help=f"metric that gets worse: {', '.join(METRICS)}")
@option("--max-loss", required=True, help="largest loss: a percentage such as 8%, or points of accuracy such as 1.5")
@option("--reason", required=True, help="reason, which `gate` and `history` show")
@shared("results")
def command(case: str, metric: str, max_loss: str, reason: str, results: Path) -> None:
    """Record that a loss of speed, memory or accuracy is intended.

    It adds one line to baselines/accepted.jsonl in the folder of results. Commit it with the change: `gate` then passes
    a loss of CASE up to this limit.
    """
    if metric not in METRICS:
        raise Refused(unknown("metric", metric, METRICS))
    if not reason.strip():
        raise Refused("--reason is empty; give the reason for the change")
    acceptance = Acceptance(
        case=case,
        metric=metric,
        up_to=_points(max_loss) if metric == "accuracy" else read_share(max_loss, "--max-loss"),
        reason=" ".join(reason.split()),
        moment=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=commit_of(HERE.root),
    )
    path = add_accepted(results, acceptance)
    click.echo(f"{case} may lose up to {max_loss} of {metric}; commit {path}")


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError as error:
        raise Refused(f"--max-loss {text}: give a loss of accuracy in points, such as 1.5") from error
    if not 0 < points <= 100:
        raise Refused(f"--max-loss {text}: must be between 0 and 100 points")
    return points
