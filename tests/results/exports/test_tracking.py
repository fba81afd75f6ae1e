"""A real MLflow server on this machine takes the records, once each, and gives them back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import results
from results.exports.tracking import IDENTITY
from results.exports.training import Training, trainings
from tests.benchmarks.commanding import invoke
from tests.results.exports.serving import ask, export_beside_decoys, free_port, served
from tests.results.records import build
from tests.results.tables.test_load import store

pytestmark = pytest.mark.exports


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{home}/store.db", "--workers", "1"]
    command += ["--default-artifact-root", str(home / "artifacts")]
    with served(command, f"{address}/health", home / "server.log"):
        yield address


def export(folder: Path, server: str, experiment: str) -> str:
    done = invoke("export", "--results", folder, "--to", "mlflow", "--out", server, "--experiment", experiment)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    return done.stderr


def stored(server: str, experiment: str) -> dict[str, Any]:
    """The runs of an experiment by the identity of their record; two of one identity fail."""
    api = f"{server}/api/2.0/mlflow"
    home = ask(f"{api}/experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
    runs = ask(f"{api}/runs/search", {"experiment_ids": [home], "max_results": 1000})["runs"]
    by_identity = {tags(run)[IDENTITY]: run for run in runs}
    assert len(by_identity) == len(runs)
    return by_identity


def tags(run: dict[str, Any]) -> dict[str, str]:
    return pairs(run["data"]["tags"])


def pairs(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in items}


def test_each_record_is_a_run_and_no_framework_is_imported_for_it(server: str, tmp_path: Path) -> None:
    store(
        tmp_path / "results", build(curve=(0.5, 0.7, 0.8), accuracy=0.8),
        build(seed=1, status="failed", reason="a weight moved"),
        build(device="cuda", status="skipped", reason="no CUDA device here"), build(seed=3, status="killed"),
    )  # fmt: skip
    done = export_beside_decoys(tmp_path, "--to", "mlflow", "--experiment", "whole", MLFLOW_TRACKING_URI=server)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "4 runs created in whole, 0 already exist" in done.stderr
    runs = stored(server, "whole")
    frame = results.load(tmp_path / "results")
    for expected in trainings(frame):
        agrees(runs[expected.identity], expected, server)
    statuses = [runs[training.identity]["info"]["status"] for training in trainings(frame)]
    assert statuses == ["FINISHED", "FAILED", "FAILED", "KILLED"]


def agrees(run: dict[str, Any], expected: Training, server: str) -> None:
    assert run["info"]["run_name"] == expected.name
    assert run["info"]["end_time"] - run["info"]["start_time"] == int(expected.seconds * 1000)
    assert pairs(run["data"].get("params", [])) == {name: str(value) for name, value in expected.settings.items()}
    last = pairs(run["data"].get("metrics", []))
    assert {name: last[name] for name in expected.figures} == pytest.approx(expected.figures)
    assert {name: tags(run)[name] for name, value in expected.tags.items() if value} == {
        name: value for name, value in expected.tags.items() if value
    }
    for name, points in expected.curves.items():
        query = f"run_id={run['info']['run_id']}&metric_key=epoch/{name}"
        history = ask(f"{server}/api/2.0/mlflow/metrics/get-history?{query}")["metrics"]
        assert [(point["step"], point["value"]) for point in history] == [(p.step, p.value) for p in points]


def test_a_second_export_adds_only_what_is_new(server: str, tmp_path: Path) -> None:
    store(tmp_path, build())
    assert "1 runs created" in export(tmp_path, server, "twice")
    store(tmp_path, build(seed=1))
    assert "1 runs created in twice, 1 already exist" in export(tmp_path, server, "twice")
    assert len(stored(server, "twice")) == 2


def test_a_run_that_was_cut_off_is_written_anew(server: str, tmp_path: Path) -> None:
    store(tmp_path, build())
    export(tmp_path, server, "cut")
    ((identity, whole),) = stored(server, "cut").items()
    api = f"{server}/api/2.0/mlflow"
    ask(f"{api}/runs/update", {"run_id": whole["info"]["run_id"], "status": "RUNNING"})
    assert "1 runs created in cut, 0 already exist" in export(tmp_path, server, "cut")
    ((again, redone),) = stored(server, "cut").items()
    assert (again, redone["info"]["status"]) == (identity, "FINISHED")
    assert redone["data"]["metrics"] and redone["info"]["run_id"] != whole["info"]["run_id"]
