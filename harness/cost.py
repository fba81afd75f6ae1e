"""What the parts that stand in for a framework's own cost per step, for a certificate."""

from __future__ import annotations

from statistics import median

from msgspec.structs import replace

from harness.checkpoint import Normalisation
from harness.contract import Session
from harness.dataset import Dataset
from harness.evaluate import Evaluator
from harness.sensors import Wall
from harness.spec import Case
from harness.stage import StageRun

EPOCHS = 7
"""Those that count; one before them, in which is traced and compiled, does not."""


def step_seconds(session: Session, case: Case, dataset: Dataset, normalisation: Normalisation) -> float:
    """Seconds of one step of the scenario's first stage: the median over epochs of the mean step of each."""
    scenario = case.scenario
    stage = replace(scenario.stages[0], epochs=1 + EPOCHS)
    case = replace(case, scenario=replace(scenario, stages=(stage,)))
    # Evaluated all the same, on as little as may be: between epochs, with the window closed.
    evaluator = Evaluator(session, dataset, case.image_size, normalisation, stage.batch_size, stage.batch_size)
    run = StageRun(session, case, 0, dataset, evaluator)
    record = run.run(Wall(0.0), lambda event: None)
    return median(epoch.seconds for epoch in record.epochs[1:]) / run.feed.steps_per_epoch
