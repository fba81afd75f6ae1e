"""The command of the study."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.preparing.plan import Preparation
from benchmarks.running.terminal import aligned, use_stand_ins
from benchmarks.studies.peers.loops import PEERS, Peer, PeerNetwork, Plan, RecipeName, run_ours, run_peer
from benchmarks.studies.peers.ratios import Loop, judge, seconds
from benchmarks.studies.peers.task import Steps, prepare
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.process.machine import measuring_threads
from harness.spec import Layout

PROOF_STEPS = 5
"""Steps of the proof that a loop does the work of ours."""
HEADING = ("", "seconds", "images/s", "process s", "seconds ÷ ours", "process ÷ ours", "losses part by")


@click.command
@click.argument("data", default="embedded")
@click.option("--recipe", type=click.Choice(get_args(RecipeName)), multiple=True, default=get_args(RecipeName))
@click.option("--peer", "peers", type=click.Choice([peer.name for peer in PEERS]), multiple=True, help="default: all")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=measuring_threads(), show_default=True)
@click.option("--image-size", type=click.IntRange(32), default=64, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--layout", type=click.Choice(get_args(Layout)), default="channels-last", show_default=True,
              help="memory layout of our PyTorch loop; the others have channels-first")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="use that many training images")
@click.option("--json-file", "file", type=click.Path(dir_okay=False, path_type=Path), help="write the figures here too")
def main(
    data: str,
    recipe: tuple[RecipeName, ...],
    peers: tuple[str, ...],
    rounds: int,
    limit: int | None,
    file: Path | None,
    **sizes: Any,
) -> None:
    """Print the seconds of each loop, and its ratio to this project's loop with a 95 % interval."""
    chosen = [peer for peer in PEERS if not peers or peer.name in peers]
    absent = [reason for peer in chosen if (reason := peer.missing())]
    if peers and absent:
        raise click.ClickException("; ".join(absent))
    for reason in absent:
        click.echo(f"left out: {reason}")
    present = [peer for peer in chosen if not peer.missing()]
    plan, tables = Plan(**sizes), dict[str, list[Loop]]()
    try:
        path = Preparation(read_catalogue(), lambda event: None).dataset(data, plan.image_size).folder
        for name in recipe:
            proofs = measure(present, name, plan.proof, path, PROOF_STEPS * plan.batch_size, rounds=1)
            measured = measure(present, name, plan, path, limit, rounds)
            beside = {peer.name: peer.ours(name).name for peer in present}
            limits = {peer.name: peer.tolerance for peer in present}
            first = {loop: steps[0] for loop, steps in proofs.items()}
            tables[name] = judge(measured, first, beside, limits, plan.batch_size)
            click.echo(
                f"\n{name}, {data}, {plan.image_size} px, batch {plan.batch_size}, {plan.epochs} epochs, ", nl=False
            )
            click.echo(f"{plan.threads} threads, ours {plan.layout}, {rounds} rounds\n{text(tables[name])}")
    except (Declined, Refused) as error:
        raise click.ClickException(str(error)) from error
    if file:
        file.write_bytes(msgspec.json.format(msgspec.json.encode({"data": data, **sizes, "loops": tables})))


def measure(
    peers: Sequence[Peer], recipe: RecipeName, plan: Plan, dataset: str, limit: int | None, rounds: int
) -> dict[str, list[Steps]]:
    """Run the rounds. Return the steps of each loop, by its name."""
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        folders = dict[PeerNetwork, Path]()
        loops = dict[str, Callable[[], Steps]]()
        for peer in peers:
            if peer.network not in folders:
                folder = folders[peer.network] = Path(scratch) / peer.network.model
                folder.mkdir()
                case = plan.case(peer.network, recipe)
                facts = {"case": case, "dataset_path": dataset, "limit": limit, "task": str(folder)}
                ask(prepare, facts, int, about="preparing", engine=case.engine)
            ours = peer.ours(recipe)
            loops[ours.name] = partial(run_ours, ours, recipe, plan, folders[peer.network])
            loops[peer.name] = partial(run_peer, peer, plan.threads, folders[peer.network])
        measured: dict[str, list[Steps]] = {name: [] for name in loops}
        for number in range(rounds):
            for name in rotated(list(loops), number):
                steps = loops[name]()
                measured[name].append(steps)
                about = f"{recipe}, {plan.precision}, round {number + 1}"
                click.echo(f"{about}: {name} {seconds(steps):.2f} s", err=True)
    return measured


def rotated(names: list[str], number: int) -> list[str]:
    """Return the order of round `number`, from 0: every loop once, another one first.

    >>> rotated(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    start = number % len(names) if names else 0
    return names[start:] + names[:start]


def text(loops: Sequence[Loop]) -> str:
    """Return a table of loops, and below it a line for each peer that did other work."""
    rows = [HEADING, *map(_row, loops)]
    notes = [
        f"{loop.name}: {loop.different}, so its work differs and it has no ratio" for loop in loops if loop.different
    ]
    return "\n".join([aligned(rows, right={1, 2, 3, 4, 5}), *notes])


def _row(loop: Loop) -> tuple[str, ...]:
    ratio = "" if loop.ratio is None else f"{loop.ratio:.2f}"
    if loop.low is not None and loop.high is not None:
        ratio += f" ({loop.low:.2f}–{loop.high:.2f})"
    wall = "" if loop.wall_ratio is None else f"{loop.wall_ratio:.2f}"
    gap = "" if loop.gap is None else f"{loop.gap:.0e}"
    return (loop.name, f"{loop.seconds:.2f}", f"{loop.images_per_s:.1f}", f"{loop.wall_s:.1f}", ratio, wall, gap)


if __name__ == "__main__":
    use_stand_ins()
    main()
