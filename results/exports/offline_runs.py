"""Trainings as runs of Weights & Biases in offline mode, written with its client; `wandb sync` uploads them."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.errors import Refused
from results.exports.training import Training, trainings

RECORD = "record"
"""Key of the configuration that holds the tags of a training: version, machine, status and others."""


class Written(NamedTuple):
    """The number of written runs, and of records that already had one."""

    created: int
    present: int


def write_offline_runs(frame: pd.DataFrame, folder: Path, project: str) -> Written:
    """Write one run per process as `folder`/offline-run-TIME-ID/run-ID.wandb, with the identity of its record as ID.

    A record that has a run there is skipped. TIME is the start of the process; inside the file the start is that of the
    export, which the client does not let one set, so the configuration has `record.started`. Nothing is sent, and no
    name of a user, host, repository or program is written. Raises `Refused` if W&B refuses the name of the project,
    OSError, and ImportError without wandb.
    """
    import wandb

    created = present = 0
    try:
        for training in trainings(frame):
            file = folder / f"offline-run-{_time(training):%Y%m%d_%H%M%S}-{training.identity}"
            file /= f"run-{training.identity}.wandb"
            if file.exists():
                present += 1
                continue
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as place:
                _write(training, project, place)
                (made,) = Path(place).rglob(file.name)
                file.parent.mkdir(exist_ok=True)
                made.replace(file)
            created += 1
    except wandb.errors.UsageError as error:
        raise Refused(f"W&B refuses the project {project!r} (--experiment): {' '.join(str(error).split())}") from error
    finally:
        wandb.teardown()
    return Written(created, present)


def _time(training: Training) -> datetime:
    return datetime.fromtimestamp(training.began, UTC)


def _write(training: Training, project: str, place: str) -> None:
    import wandb

    facts = {**training.tags, "started": _time(training).isoformat()}
    config: dict[str, Any] = {**training.settings, **{f"{RECORD}.{name}": fact for name, fact in facts.items()}}
    with wandb.init(
        project=project,
        id=training.identity,
        name=training.name,
        notes=training.reason or None,
        config=config,
        settings=_settings(training, place),
    ) as run:
        run.define_metric("epoch")
        run.define_metric("epoch/*", step_metric="epoch")
        for points in zip(*training.curves.values(), strict=True):
            values = {f"epoch/{name}": point.value for name, point in zip(training.curves, points, strict=True)}
            run.log({"epoch": points[0].step, **values, "_timestamp": points[0].at}, step=points[0].step)
        run.summary.update(training.figures)
        run.finish(exit_code=0 if training.status == "ok" else 1)


def _settings(training: Training, place: str) -> Any:
    import wandb

    return wandb.Settings(
        mode="offline",
        root_dir=place,
        silent=True,
        console="off",
        # What would describe the machine and the user of the export, not those of the training.
        host="-",
        username="-",
        email="",
        program="-",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
