"""`accept`: record that a change is wanted, so that `gate` lets it pass and `history` says why the level moved."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.choosing.options import results_option
from benchmarks.comparing.repository import here_commit
from benchmarks.comparing.sides import read_share
from harness.errors import Refused, unknown
from results.verdicts.accepted import Acceptance, add_accepted
from results.verdicts.pair_findings import MEMORY_MARGINS

METRICS = ("throughput", *MEMORY_MARGINS, "accuracy")


@click.command
@click.argument("case")
@click.option("--metric", required=True, help=", ".join(METRICS))
@click.option("--up-to", required=True, help="a share of the cost, such as 8%, or points of accuracy, such as 1.5")
@click.option("--reason", required=True, help="why it is wanted; shown wherever it is let pass")
@results_option
def command(case: str, metric: str, up_to: str, reason: str, results: Path) -> None:
    """Accept that CASE gets worse: a label such as pytorch/resnet18/full, or a pattern such as 'keras3-*/full'.

    One line is added to baselines/accepted.jsonl below the results folder; commit it with the change.
    """
    if metric not in METRICS:
        raise Refused(unknown("metric", metric, METRICS))
    if not reason.strip():
        raise Refused("--reason is empty; say why the change is wanted")
    limit = _points(up_to) if metric == "accuracy" else read_share(up_to, "--up-to")
    acceptance = Acceptance(
        case=case,
        metric=metric,
        up_to=limit,
        reason=" ".join(reason.split()),
        moment=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=here_commit(),
    )
    click.echo(f"{add_accepted(results, acceptance)}: {case} may lose up to {up_to} of {metric}; commit it")


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError as error:
        raise Refused(f"--up-to {text}: accuracy is accepted in points; write 1.5") from error
    if not 0 < points <= 100:
        raise Refused(f"--up-to {text}: must lie between 0 and 100 points")
    return points
