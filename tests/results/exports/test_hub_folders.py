"""Folders for the Hugging Face Hub: its own libraries read the cards and the rows, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

import results
from harness.data.checkpoint import NORMALISATIONS, read_checkpoint, write_checkpoint
from harness.running.record import Record
from harness.running.saved_model import CARD, NEUTRAL, Card
from harness.whole_files import write_whole
from results.exports.dataset_folder import MAPPINGS, PARQUET
from tests.benchmarks.commanding import invoke, refused
from tests.results.exports.serving import export_beside_decoys
from tests.results.records import build
from tests.results.tables.test_load import store

pytestmark = pytest.mark.exports

HOSTILE = "<b> | @all --- `x`"


def saved(record: Record, home: Path) -> Record:
    """The record of a process that kept its network in `home`."""
    home.mkdir(parents=True)
    scaling = NORMALISATIONS["imagenet"]
    write_checkpoint(
        home / NEUTRAL, {"head.weight": np.ones((2, 3), np.float32)}, model=record.case.model, normalisation=scaling,
        origin="a test", classes=record.classes, head="head.", image_size=64, recipe={},
    )  # fmt: skip
    (home / "model.pth").write_bytes(b"native")
    card = Card(case=record.case, classes=record.classes, normalisation=scaling, side=80, native="model.pth")
    write_whole(home / CARD, msgspec.json.encode(card))
    return replace(record, artefacts={"model": str(home)})


def test_the_model_card_has_the_results_of_its_network_and_the_files_beside_it(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    classes = ("ants", HOSTILE)
    records = [replace(build(seed=seed, accuracy=0.75 + seed / 50), classes=classes) for seed in range(3)]
    records[1] = saved(records[1], tmp_path / "kept")
    store(tmp_path / "results", *records, build(scenario="scratch", accuracy=0.2))
    done = export_beside_decoys(
        tmp_path, "pytorch/resnet18/full", "--to", "model-card", "--out", str(tmp_path / "hub"), HF_HUB_OFFLINE="1"
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    data = card.data.to_dict()
    assert (data["pipeline_tag"], data["metrics"]) == ("image-classification", ["accuracy"])
    assert set(data["tags"]) == {"finetune-bench", "resnet18", "full", "pytorch"}
    assert "license" not in data
    accuracy, loss = card.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.77)
    assert (loss.metric_type, loss.metric_value) == ("cross_entropy", 0.8)
    for one in (accuracy, loss):
        assert (one.task_type, one.dataset_type, one.dataset_split) == (
            "image-classification", "embedded-target", "test"
        )  # fmt: skip
        assert one.dataset_args == {"sha256": "d" * 64, "images": 500}
    assert "| accuracy | % | 77.0 | 77.0 ± " in card.text
    assert "(3 runs, 3 seeds)" in card.text
    assert HOSTILE not in card.text
    assert "0. ants" in card.text
    assert {file.name for file in (tmp_path / "hub").iterdir()} == {"README.md", NEUTRAL, CARD, "model.pth"}
    assert read_checkpoint(tmp_path / "hub" / NEUTRAL).meta.classes == classes


def test_a_card_of_a_network_without_a_test_split_names_the_validation_images(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    store(tmp_path / "results", saved(build(test_is_val=True), tmp_path / "kept"))
    invoke("export", "--results", tmp_path / "results", "--to", "model-card", "--out", tmp_path / "kept")
    one, _ = ModelCard.load(tmp_path / "kept" / "README.md").data.eval_results
    assert one.dataset_split == "validation"
    assert (tmp_path / "kept" / "model.pth").read_bytes() == b"native"


def test_a_network_that_was_not_saved_or_is_gone_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    store(tmp_path / "a", build())
    export = ("export", "--to", "model-card", "--out", tmp_path / "hub", "--results")
    assert "run it with --save-model FOLDER" in refused(*export, tmp_path / "a")
    store(tmp_path / "b", replace(build(), artefacts={"model": str(tmp_path / "gone")}))
    assert f"{tmp_path / 'gone'} any more" in refused(*export, tmp_path / "b")
    assert not (tmp_path / "hub").exists()


READ = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], "processes", cache_dir=sys.argv[2])["train"]
print(json.dumps([dict(row) for row in rows.remove_columns(["step_us"])], default=str))
"""


def read(folder: Path, cache: Path) -> list[dict[str, Any]]:
    """The rows as `datasets` reads them, in a process of its own without a network."""
    variables = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(cache), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", READ, str(folder), str(cache)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_the_dataset_is_read_by_its_library_and_verified_and_merged_by_this_program(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    store(
        tmp_path / "results", build(curve=(0.5, 0.7)), build(seed=1, curve=(0.4, 0.6)),
        build(device="cuda", status="skipped", reason="no CUDA device here"),
    )  # fmt: skip
    (tmp_path / "results" / "logs").mkdir()
    (tmp_path / "results" / "logs" / "private.txt").write_text("/home/someone")
    hub = tmp_path / "hub"
    done = export_beside_decoys(tmp_path, "--to", "dataset", "--out", str(hub), HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    data = DatasetCard.load(hub / "README.md").data.to_dict()
    assert data["configs"] == [{"config_name": "processes", "data_files": PARQUET}]
    assert "license" not in data
    assert not (hub / "logs").exists()
    assert not (hub / ".gitignore").exists()
    frame = results.load(tmp_path / "results")
    rows = read(hub, tmp_path / "cache")
    assert [row["accuracy"] for row in rows[:2]] == frame["accuracy"].tolist()[:2]
    assert rows[2]["reason"] == "no CUDA device here"
    assert [row["epoch_val_accuracy"] for row in rows] == [list(one) for one in frame["epoch_val_accuracy"]]
    for name in MAPPINGS:
        assert [json.loads(row[name]) for row in rows] == frame[name].tolist()
    assert all((hub / row["file"]).is_file() for row in rows)
    assert invoke("verify", "--results", hub).exit_code == 0
    assert invoke("merge", hub, "--results", tmp_path / "mine").exit_code == 0
    assert results.load(tmp_path / "mine")["key"].tolist() == frame["key"].tolist()


def test_a_second_export_adds_new_runs(tmp_path: Path) -> None:
    export = ("export", "--results", tmp_path / "results", "--to", "dataset", "--out", tmp_path / "hub")
    store(tmp_path / "results", build())
    invoke(*export)
    store(tmp_path / "results", build(seed=1))
    assert "2 records written" in invoke(*export).stderr
    assert [row["seed"] for row in read(tmp_path / "hub", tmp_path / "cache")] == [0, 1]
