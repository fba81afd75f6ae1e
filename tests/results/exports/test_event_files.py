"""Event files are what TensorBoard reads: its own reader and its own server give back the records."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

import results
from harness.running.record import Record
from results.exports.event_files import write_event_files
from results.exports.training import CURVES, trainings
from tests.results.exports.serving import ask, export_beside_decoys, free_port, served
from tests.results.records import build
from tests.results.tables.test_load import store

pytestmark = pytest.mark.exports

SKIPPED = build(device="cuda", status="skipped", reason="no CUDA device here")


def trained() -> list[Record]:
    return [
        build(curve=(0.5, 0.7, 0.8), accuracy=0.8),
        build(seed=1, curve=(0.4, 0.6), accuracy=0.6, engine="../../up", dataset="<script>"),
        build(seed=2, status="failed", reason="a weight moved"),
    ]


def test_its_reader_gives_back_every_curve_and_figure(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    store(tmp_path / "results", *trained(), SKIPPED)
    frame = results.load(tmp_path / "results")
    files, left_out = write_event_files(frame, tmp_path / "logs")
    assert (len(files), left_out) == (3, 1)
    for file, expected in zip(files, trainings(frame), strict=False):
        assert file.is_relative_to(tmp_path / "logs")
        assert ".." not in file.parts
        read = EventAccumulator(str(file.parent)).Reload()
        tags = {f"epoch/{name}" for name in CURVES} | {f"figures/{name}" for name in expected.figures}
        assert set(read.Tags()["scalars"]) == tags
        for name, points in expected.curves.items():
            events = read.Scalars(f"epoch/{name}")
            assert [(event.step, event.wall_time) for event in events] == [(point.step, point.at) for point in points]
            assert [event.value for event in events] == pytest.approx([point.value for point in points])
        for name, value in expected.figures.items():
            (event,) = read.Scalars(f"figures/{name}")
            assert (event.step, event.value) == (len(points), pytest.approx(value))


def test_a_second_export_writes_the_same_files_again(tmp_path: Path) -> None:
    store(tmp_path / "results", *trained())
    frame = results.load(tmp_path / "results")
    first = {file: file.read_bytes() for file in write_event_files(frame, tmp_path / "logs")[0]}
    again = {file: file.read_bytes() for file in write_event_files(frame, tmp_path / "logs")[0]}
    assert first == again
    assert {path for path in (tmp_path / "logs").rglob("*") if path.is_file()} == set(first)


def test_no_framework_is_imported_for_it(tmp_path: Path) -> None:
    store(tmp_path / "results", *trained())
    done = export_beside_decoys(tmp_path, "--to", "tensorboard", "--out", str(tmp_path / "logs"))
    assert (done.returncode, done.stderr) == (0, f"3 runs written to {tmp_path / 'logs'}\n")


def test_its_server_shows_curves_and_hyperparameters(tmp_path: Path) -> None:
    store(tmp_path / "results", *trained())
    frame = results.load(tmp_path / "results")
    files, _ = write_event_files(frame, tmp_path / "logs")
    names = [str(file.parent.relative_to(tmp_path / "logs")) for file in files]
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "logs"), "--host", "127.0.0.1"]
    command += ["--port", address.rpartition(":")[2], "--load_fast", "false"]
    with served(command, f"{address}/data/logdir", tmp_path / "server.log"):
        shown = ask(f"{address}/data/plugin/scalars/tags")
        while set(shown) != set(names):
            shown = ask(f"{address}/data/plugin/scalars/tags")
        query = urlencode({"run": names[0], "tag": "epoch/val_accuracy"})
        points = ask(f"{address}/data/plugin/scalars/scalars?{query}")
        assert [(step, value) for _, step, value in points] == [
            (1, 0.5),
            (2, pytest.approx(0.7)),
            (3, pytest.approx(0.8)),
        ]
        wanted = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE"]}
        found = ask(f"{address}/data/plugin/hparams/session_groups", {"experimentName": "", "colParams": [], **wanted})
    groups = {group["name"]: group for group in found["sessionGroups"]}
    for expected in trainings(frame):
        (session,) = groups[expected.identity]["sessions"]
        assert groups[expected.identity]["hparams"] == dict(expected.settings)
        assert session["status"] == ("STATUS_SUCCESS" if expected.status == "ok" else "STATUS_FAILURE")
