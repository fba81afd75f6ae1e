"""Trainings as runs of an MLflow server, written with the client of MLflow."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pandas as pd

from harness.errors import Declined
from results.exports.training import Training, trainings

IDENTITY = "finetune_bench.record"
"""Tag that identifies a record, so that a second export adds nothing."""

STATUSES = {"ok": "FINISHED", "killed": "KILLED", "interrupted": "KILLED"}
"""MLflow statuses by status of a record. All others are FAILED; the tag `status` has the original."""

METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100
"""Limits of MLflow for one request."""


class Sent(NamedTuple):
    """The number of created runs, and of records that already had one."""

    created: int
    present: int


def send_runs(frame: pd.DataFrame, uri: str, experiment: str) -> Sent:
    """Create one run per process in `experiment` of the tracking server or store at `uri`.

    A record with a finished run is skipped; an incomplete run is replaced. Raises `Declined` if the server does not
    answer or refuses, ImportError without MLflow.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    _knock(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        home = found.experiment_id if found else client.create_experiment(experiment)
        known = {run.data.tags[IDENTITY]: run.info for run in _runs(client, home) if IDENTITY in run.data.tags}
        created = present = 0
        for training in trainings(frame):
            earlier = known.get(training.identity)
            if earlier is not None and earlier.status != "RUNNING":
                present += 1
                continue
            if earlier is not None:
                client.delete_run(earlier.run_id)
            _create(client, home, training)
            created += 1
    except MlflowException as error:
        raise Declined(f"MLflow at {uri} refused: {' '.join(str(error).split())}") from error
    return Sent(created, present)


def _knock(uri: str) -> None:
    """Raise `Declined` if no server answers; the client of MLflow would try for minutes."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=10).close()
    except OSError as error:
        raise Declined(f"no server answers at {uri} ({error.strerror or error}); `mlflow server` starts one") from error


def _runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _create(client: Any, experiment_id: str, training: Training) -> None:
    from mlflow.entities import Metric, Param

    began, ended = _ms(training.began), _ms(training.began + training.seconds)
    tags = {**training.tags, IDENTITY: training.identity}
    run = client.create_run(experiment_id, start_time=began, tags=tags, run_name=training.name).info.run_id
    metrics = [Metric(name, value, ended, 0) for name, value in training.figures.items()]
    for name, points in training.curves.items():
        metrics += [Metric(f"epoch/{name}", point.value, _ms(point.at), point.step) for point in points]
    params = [Param(name, str(value)) for name, value in training.settings.items()]
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        client.log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])
    for start in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run, params=params[start : start + PARAMS_AT_ONCE])
    with redirect_stdout(io.StringIO()):  # MLflow prints two lines for every run
        client.set_terminated(run, status=STATUSES.get(training.status, "FAILED"), end_time=ended)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
