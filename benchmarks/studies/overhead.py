"""The overhead of the harness: its training loop and that of a tutorial take turns in one process.

    python -m benchmarks.studies.overhead --backend pytorch --model resnet18 --scenario full

Both loops run in threads of one worker, in turns of half a second, ABBA; a pair of turns gives one ratio of
throughputs, harness over plain. The plain loop is in `backends/<name>/plain.py`.
"""

from __future__ import annotations

import importlib
import math
import statistics
import threading

import click
import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.choosing.scenarios import RECIPES, SCENARIOS
from benchmarks.running.terminal import use_stand_ins
from benchmarks.studies.stepping import LoopClock, LoopTurn, feed_of
from harness import PREFIX
from harness.clock import empty_step_us
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import normalise
from harness.errors import Declined, Refused
from harness.plugins import find_model
from harness.process.ask import ask
from harness.process.machine import measuring_threads
from harness.spec import Case, Stage
from results.verdicts.estimate import estimate

CLASSES, IMAGES, EPOCHS = 8, 480, 2_000
TURN_S, WARM_UP_TURNS = 0.5, 2


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Images per second of each turn and loop, in the order of the pairs, and the time of an empty step."""

    harness: tuple[float, ...]
    plain: tuple[float, ...]
    empty_step_us: float = 0.0

    def ratio(self) -> tuple[float, float, float]:
        """Return the trimmed mean ratio of the pairs, harness over plain, with its 95 % interval, as in `compare`.

        Raises ValueError for fewer than five pairs.
        """
        found = estimate(np.log(np.array(self.harness) / np.array(self.plain)).tolist(), confidence=0.95)
        return math.exp(found.value), math.exp(found.low), math.exp(found.high)


def measure(case: Case, turns: int, turn_s: float = TURN_S) -> Measured:
    """Run the two loops in turns, in a worker."""
    harness, plain = LoopTurn(), LoopTurn()
    threading.Thread(target=_harness_loop, args=(case, harness), daemon=True).start()
    harness.run(turn_s)
    threading.Thread(target=_plain_loop, args=(case, plain), daemon=True).start()
    plain.run(turn_s)
    speeds: dict[str, list[float]] = {"harness": [], "plain": []}
    loops = {"harness": harness, "plain": plain}
    for number in range(-WARM_UP_TURNS, turns):
        for name in ("harness", "plain") if number % 2 == 0 else ("plain", "harness"):
            steps, seconds = loops[name].run(turn_s)
            if number >= 0:
                speeds[name].append(steps * case.scenario.stages[0].batch_size / seconds)
    return Measured(harness=tuple(speeds["harness"]), plain=tuple(speeds["plain"]), empty_step_us=empty_step_us())


def _harness_loop(case: Case, turn: LoopTurn) -> None:
    backend, model = find_model(case.backend, case.model, ())
    session = backend.open_session(case, model, CLASSES)
    stage = case.scenario.stages[0]
    feed = feed_of(_pixels(case), stage, case.image_size, session)
    session.train(stage, feed, LoopClock(turn, stage, feed, session))


def _plain_loop(case: Case, turn: LoopTurn) -> None:
    stage, split = case.scenario.stages[0], _pixels(case)
    facts = {
        "classes": CLASSES,
        "batch_size": stage.batch_size,
        "lr": stage.head_lr,
        "momentum": stage.optimizer.momentum,
        "frozen": stage.frozen == "backbone",
        "live_norm": stage.norm == "batch",
    }
    plain = importlib.import_module(f"{PREFIX}backends.{case.backend}.plain")
    images = normalise(split.images, NORMALISATIONS["imagenet"], "nhwc")
    plain.train(case.model, images, split.labels, facts, turn.step_done)


def _pixels(case: Case) -> Split:
    side = case.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3), dtype=np.uint8)
    return Split(pixels, np.arange(IMAGES) % CLASSES, np.arange(IMAGES))


@click.command
@click.option("--backend", default="pytorch", show_default=True)
@click.option("--engine")
@click.option("--model", default="resnet18", show_default=True)
@click.option("--scenario", multiple=True, default=("full", "freeze-conv", "freeze-conv-live-norm"), show_default=True)
@click.option("--image-size", default=96, show_default=True)
@click.option("--turns", default=40, show_default=True, help="pairs of turns in a process")
@click.option("--processes", default=3, show_default=True, help="fresh processes, because processes differ")
def main(
    backend: str, engine: str | None, model: str, scenario: tuple[str, ...], image_size: int, turns: int, processes: int
) -> None:
    """Print the ratio of throughputs, harness over plain loop, with its 95 % interval."""
    for name in scenario:
        case = _case(backend, engine, model, name, image_size)
        measured = [_one_process(case, turns) for _ in range(processes)]
        each = ", ".join(f"{one.ratio()[0]:.3f}" for one in measured)
        whole = Measured(
            harness=tuple(speed for one in measured for speed in one.harness),
            plain=tuple(speed for one in measured for speed in one.plain),
            empty_step_us=max(one.empty_step_us for one in measured),
        )
        ratio, low, high = whole.ratio()
        click.echo(
            f"{case.label}: {ratio:.3f} of the plain loop ({low:.3f} to {high:.3f}; {len(whole.harness)} pairs; "
            f"by process {each}; {statistics.median(whole.harness):.0f} images/s; "
            f"an empty step costs {whole.empty_step_us:.1f} µs)"
        )


def _one_process(case: Case, turns: int) -> Measured:
    try:
        return ask(measure, {"case": case, "turns": turns}, Measured, cores=case.cores, engine=case.engine)
    except (Declined, Refused) as error:
        raise click.ClickException(str(error)) from error


def _case(backend: str, engine: str | None, model: str, scenario: str, image_size: int) -> Case:
    made = SCENARIOS[scenario](RECIPES["tutorial"])
    stage: Stage = replace(made.stages[0], epochs=EPOCHS)
    return Case(
        backend=backend,
        engine=engine,
        model=model,
        scenario=replace(made, stages=(stage,)),
        dataset="random pixels",
        dataset_sha256="",
        image_size=image_size,
        threads=measuring_threads(),
    )


if __name__ == "__main__":
    use_stand_ins()
    main()
