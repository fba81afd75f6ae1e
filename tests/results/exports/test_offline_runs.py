"""Offline runs are what `wandb sync` uploads: its messages give back the records, and nothing about this machine."""

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import results
from results.exports.offline_runs import RECORD, write_offline_runs
from results.exports.training import Training, trainings
from tests.benchmarks.commanding import invoke, refused
from tests.results.exports.serving import export_beside_decoys
from tests.results.records import build
from tests.results.tables.test_load import store

pytestmark = pytest.mark.exports

BLOCK, HEADER = 32 * 1024, 7
"""The files are logs of LevelDB: blocks of parts with a checksum, a length and a type (1 whole, 2 first, 4 last)."""


def parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 7  # the name of the format
    while at + HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        yield kind, content[at + HEADER : at + HEADER + length]
        at += HEADER + length


def messages(file: Path) -> dict[str, list[Any]]:
    """The messages of a run by their kind, as `wandb` parses them."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, begun = defaultdict(list), b""
    for kind, part in parts(file.read_bytes()):
        begun = part if kind in (1, 2) else begun + part
        if kind in (1, 4):
            message = Record.FromString(begun)
            found[message.WhichOneof("record_type")].append(message)
    return found


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def agrees(file: Path, expected: Training) -> None:
    found = messages(file)
    run = found["run"][0].run
    assert (run.run_id, run.display_name, run.project) == (expected.identity, expected.name, "fine-tuning")
    config = values(run.config.update)
    assert datetime.fromisoformat(config[f"{RECORD}.started"]).timestamp() == expected.began
    assert {name: config[name] for name in expected.settings} == expected.settings
    assert {name: config[f"{RECORD}.{name}"] for name in expected.tags} == expected.tags
    history = [values(message.history.item) for message in found["history"]]
    for name, points in expected.curves.items():
        logged = [(row["epoch"], row["_timestamp"], row[f"epoch/{name}"]) for row in history]
        assert logged == [tuple(point) for point in points]
    assert len(history) == max((len(points) for points in expected.curves.values()), default=0)
    summary = {name: value for one in found["summary"] for name, value in values(one.summary.update).items()}
    assert {name: summary[name] for name in expected.figures} == pytest.approx(expected.figures)
    assert [one.exit.exit_code for one in found["exit"]] == [0 if expected.status == "ok" else 1]


def test_its_messages_give_back_every_record_and_no_framework_is_imported_for_it(tmp_path: Path) -> None:
    store(
        tmp_path / "results", build(curve=(0.5, 0.7, 0.8), accuracy=0.8),
        build(seed=1, status="failed", reason="a weight moved", dataset="d" * 70_000),
        build(device="cuda", status="skipped", reason="no CUDA device here"),
    )  # fmt: skip
    done = export_beside_decoys(
        tmp_path, "--to", "wandb", "--experiment", "fine-tuning", "--out", str(tmp_path / "runs")
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"3 runs written to {tmp_path / 'runs'}, 0 already exist\n"
    files = {file.stem.removeprefix("run-"): file for file in (tmp_path / "runs").rglob("*") if file.is_file()}
    assert len(files) == 3
    for expected in trainings(results.load(tmp_path / "results")):
        assert files[expected.identity].parent.name.endswith(f"-{expected.identity}")
        agrees(files[expected.identity], expected)


def test_nothing_says_who_exported_it_and_where(tmp_path: Path) -> None:
    store(tmp_path / "results", build())
    frame = results.load(tmp_path / "results")
    write_offline_runs(frame, tmp_path / "runs", "p")
    (training,) = trainings(frame)
    (file,) = (path for path in (tmp_path / "runs").rglob("*") if path.is_file())
    found = messages(file)
    assert (found["run"][0].run.host, found["run"][0].run.HasField("git")) == ("-", False)
    for path in (f"/{getpass.getuser()}/", str(tmp_path), str(Path(__file__).parents[3])):
        assert path.encode() not in file.read_bytes()
    said = "\n".join(str(message) for kind in found.values() for message in kind)
    assert f'run_id: "{training.identity}"' in said
    # As a word: W&B adds random letters, and the name of a host may have only two.
    assert not re.search(rf"(?<!\w){re.escape(socket.gethostname())}(?!\w)", said)


def test_a_second_export_adds_only_what_is_new(tmp_path: Path) -> None:
    export = ("export", "--results", tmp_path / "results", "--to", "wandb", "--out", tmp_path / "runs")
    store(tmp_path / "results", build())
    assert "1 runs written" in invoke(*export).stderr
    first = {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*.wandb")}
    store(tmp_path / "results", build(seed=1))
    assert f"1 runs written to {tmp_path / 'runs'}, 1 already exist" in invoke(*export).stderr
    assert {file: file.read_bytes() for file in first} == first
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_project_that_it_refuses_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    store(tmp_path / "results", build())
    export = ("export", "--results", tmp_path / "results", "--to", "wandb", "--out", tmp_path / "runs")
    assert "--experiment" in refused(*export, "--experiment", "a/b")
    assert list((tmp_path / "runs").iterdir()) == []


def test_its_own_command_finds_the_runs(tmp_path: Path) -> None:
    store(tmp_path / "results", build())
    write_offline_runs(results.load(tmp_path / "results"), tmp_path / "runs", "p")
    (folder,) = (tmp_path / "runs").iterdir()
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert folder.name.rpartition("-")[2] in done.stdout + done.stderr
