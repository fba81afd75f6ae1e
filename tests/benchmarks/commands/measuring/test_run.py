from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.spec import key
from results.storage.rows import ProcessRow, RunRow
from tests.benchmarks.commanding import EXAMPLES, QUICK, SMALL, endings, invoke, records, rows
from tests.benchmarks.conftest import Finished
from tests.harness.cases import tiny_arrays, write_tiny


def test_a_run_ends_with_0_and_leaves_a_plan_a_row_per_case_and_an_end(finished: Finished) -> None:
    assert finished.exit_code == 0, finished.output
    first, *middle, _ = rows(finished.results)
    assert isinstance(first, RunRow)
    assert all(isinstance(row, ProcessRow) for row in middle)
    assert endings(finished.results) == ["done"]
    assert list(first.planned) == [key(record.case) for record in finished.records]


def test_cases_are_the_product_of_what_was_given_in_order(finished: Finished) -> None:
    done = [(r.case.scenario.name, r.case.seed, r.status) for r in finished.records]
    assert done == [(name, seed, "ok") for name in ("full", "freeze-conv") for seed in (0, 1)]


def test_every_option_that_changes_stages_reaches_them(images: Path, tmp_path: Path) -> None:
    options = ("--bn-mode", "batch", "--select-epoch", "best", "--bn-momentum", "0.2", "--lr", "0.02", "--epochs", "2")
    result = invoke("run", *SMALL, "--data", images, "--scenario", "scratch", *options, "--results", tmp_path)
    assert result.exit_code == 0, result.output
    (record,) = records(tmp_path)
    (stage,) = record.case.scenario.stages
    assert (stage.norm, stage.keep, stage.bn_momentum, stage.head_lr, stage.epochs) == ("batch", "best", 0.2, 0.02, 2)


def test_a_record_names_its_data_and_its_checkpoint(finished: Finished) -> None:
    record = finished.records[0]
    assert (record.case.dataset, record.case.checkpoint) == ("three colours", "tiny.safetensors")
    assert re.fullmatch("[0-9a-f]{64}", record.case.dataset_sha256)
    assert re.fullmatch("[0-9a-f]{64}", record.case.checkpoint_sha256 or "")
    assert (record.case.image_size, record.case.scenario.stages[0].batch_size) == (32, 8)
    assert record.load is not None
    assert record.load.complete


def test_the_table_is_printed_and_progress_is_a_plain_line_per_case(finished: Finished) -> None:
    assert [f"[{n}/4]" for n in range(1, 5)] == re.findall(r"\[\d/4\]", finished.output)
    assert "freeze-conv" in finished.output
    assert "images/s" in finished.output
    assert "\x1b" not in finished.output


def test_quiet_prints_the_table_alone(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--data", images, "--scenario", "scratch", "--quiet", "--results", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "scratch" in result.stdout


def test_the_wall_of_a_real_worker_adds_up_and_includes_its_start(finished: Finished) -> None:
    for record in finished.records:
        assert record.wall_s["start"] > 0.05
        assert sum(record.wall_s.values()) == pytest.approx(record.total_s, rel=1e-9)


def test_dry_run_prints_every_case_with_its_time_and_starts_nothing(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--data", images, "--scenario", "scratch", "--seeds", "3", "--dry-run",
                    "--results", tmp_path / "results")  # fmt: skip
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [f"reference/tiny-cnn/scratch/seed{seed}" for seed in range(3)]
    assert all(re.search(r"~\d+ s$", line) for line in lines[:3])
    assert re.match(r"3 cases, about \d+ s; results take about [\d.]+ MB", lines[3])
    assert not (tmp_path / "results").exists()


def test_dry_run_says_what_like_cases_took_before(finished: Finished, images: Path) -> None:
    result = invoke("run", *SMALL, "--data", images, "--scenario", "full", "--dry-run", "--results", finished.results)
    assert re.search(r"full/seed0 +\d+ s$", result.stdout, re.MULTILINE)
    assert "rough estimates" not in result.stdout


def test_dry_run_says_what_the_data_takes_and_that_networks_are_kept(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--data", images, "--image-size", "224", "--scenario", "scratch", "--dry-run",
                    "--save-model", tmp_path / "kept", "--results", tmp_path / "results")  # fmt: skip
    images_32, images_224 = (84 * (side * 8 / 7) ** 2 * 3 / 2**20 for side in (32, 224))
    assert f"the data takes about {images_32 + images_224:.0f} MB" in result.stdout
    assert "--save-model also stores 2 networks, each in two files" in result.stdout
    assert not (tmp_path / "kept").exists()


def test_dry_run_of_the_default_suite_needs_no_options(tmp_path: Path) -> None:
    result = invoke("run", "--dry-run", "--results", tmp_path)
    assert "30 cases" in result.stdout
    assert all(model in result.stdout for model in ("resnet18", "efficientnet-b0", "mobilenet-v2-0.35"))


def test_plugins_bring_models_scenarios_and_datasets(tmp_path: Path) -> None:
    plugins = [word for name in ("model", "scenario", "dataset") for word in ("--plugin", EXAMPLES / f"{name}.py")]
    result = invoke(
        "run", "--backend", "reference", "--model", "two-blocks", "--model", "tiny-cnn", "--scenario", "head-then-all",
        "--data", "light", "--image-size", "32", *plugins, "--results", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    done = records(tmp_path)
    assert [(r.case.model, r.case.scenario.name, r.case.dataset) for r in done] == [
        ("two-blocks", "head-then-all", "light"), ("tiny-cnn", "head-then-all", "light")]  # fmt: skip
    assert done[0].parameters["backbone"] == 3 * 4 * 9 + 4 * 8 * 9 + 2 * (4 + 8)
    assert [len(r.stages) for r in done] == [2, 2]
    assert done[0].test_is_val


def test_a_suite_of_one_s_own_is_a_file_with_cases_and_scenarios(
    images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(f"""
[[case]]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = ["gentle", "scratch"]
data = ["{images}"]
checkpoint = ["{checkpoint}"]
image_size = [32]
augment = ["none"]
batch_size = [8]
epochs = 1

[[scenario]]
name = "gentle"
explanation = "a small rate for everything"

[[scenario.stages]]
epochs = 5
head_lr = 0.001
backbone_lr = 0.0001
""")
    result = invoke("run", "--suite", suite, "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    gentle, scratch = records(tmp_path / "results")
    assert (gentle.case.scenario.name, gentle.case.scenario.stages[0].backbone_lr) == ("gentle", 0.0001)
    assert gentle.case.scenario.stages[0].epochs == 1
    assert scratch.load is None


def test_options_go_before_what_a_suite_says(images: Path, tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(f"""
[[case]]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = ["scratch"]
data = ["{images}"]
image_size = [32]
batch_size = [8]
epochs = 7
""")
    result = invoke("run", "--suite", suite, "--epochs", "2", "--seeds", "2", "--dry-run", "--results", tmp_path)
    assert "2 cases" in result.stdout


def skipping_suite(images: Path, *devices: str) -> str:
    case = '[[case]]\nbackend = ["reference"]\nmodel = ["tiny-cnn"]\nscenario = ["scratch"]\ndata = ["{}"]\n' \
           'image_size = [32]\nbatch_size = [8]\nepochs = 1\naugment = ["none"]\ndevice = ["{}"]\n'  # fmt: skip
    return "\n".join(case.format(images, device) for device in devices)


def test_what_a_suite_cannot_run_here_is_skipped_and_no_failure(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(skipping_suite(images, "cpu", "cuda"))
    result = invoke("run", "--suite", tmp_path / "mine.toml", "--results", tmp_path)
    assert result.exit_code == 0
    assert [(r.status, r.reason) for r in records(tmp_path)] == [
        ("ok", ""), ("skipped", "the reference backend runs on the CPU only")]  # fmt: skip
    assert "the reference backend runs on the CPU only" in result.stdout


def test_nothing_measured_is_3(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(skipping_suite(images, "cuda"))
    assert invoke("run", "--suite", tmp_path / "mine.toml", "--results", tmp_path).exit_code == 3


def test_what_was_asked_for_by_name_and_skipped_is_3(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--scenario", "scratch", "--data", images, "--device", "cpu", "--device", "cuda",
                    "--results", tmp_path)  # fmt: skip
    assert result.exit_code == 3
    assert [r.status for r in records(tmp_path)] == ["ok", "skipped"]


def test_a_case_without_a_checkpoint_is_skipped_never_run_on_the_embedded_one(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--scenario", "full", "--data", images, "--results", tmp_path)
    assert result.exit_code == 3
    (record,) = records(tmp_path)
    assert record.status == "skipped"
    assert record.reason.startswith("tiny-cnn has no published imagenet weights; use --checkpoint FILE")


def test_a_rate_that_diverges_is_a_failed_record_with_a_log_and_3(images: Path, tmp_path: Path) -> None:
    result = invoke("run", *SMALL, "--scenario", "scratch", "--data", images, "--lr", "1e30", "--results", tmp_path)
    assert result.exit_code == 3
    (record,) = records(tmp_path)
    assert record.status == "failed"
    assert re.match(r"loss is not finite at step \d+", record.reason)
    assert "NotFinite" in Path(record.artefacts["log"]).read_text()
    assert record.reason in result.stderr


def test_strict_makes_an_incomplete_checkpoint_a_failure(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    case = ("run", *QUICK, "--model", "two-blocks", "--scenario", "full", "--data", images, "--checkpoint", checkpoint,
            "--results", tmp_path, "--plugin", EXAMPLES / "model.py")  # fmt: skip
    result = invoke(*case)
    assert result.exit_code == 0
    assert "; checkpoint: 0 loaded, " in result.stderr
    assert "features.0.0.weight [8, 3, 3, 3] instead of" in result.stderr
    assert invoke(*case, "--strict").exit_code == 3
    lenient, strict = records(tmp_path)
    assert lenient.load is not None
    assert lenient.load.mismatched
    assert strict.reason.startswith("--strict: the checkpoint does not fit two-blocks: ")


def test_what_a_file_holds_beside_the_model_is_named_and_strict_refuses_it(images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", **tiny_arrays(), **{"ema.decay": np.zeros(2, np.float32)})
    case = ("run", *SMALL, "--scenario", "full", "--data", images, "--checkpoint", tmp_path / "bare.npz",
            "--input-scaling", "imagenet", "--results", tmp_path / "results")  # fmt: skip
    result = invoke(*case)
    assert result.exit_code == 0
    assert "loaded, 1 unexpected (ema.decay)" in result.stderr
    assert invoke(*case, "--strict").exit_code == 3
    lenient, strict = records(tmp_path / "results")
    assert lenient.load is not None
    assert lenient.load.unexpected == ("ema.decay",)
    assert strict.status == "failed"


def test_rows_of_classes_of_the_same_name_are_reused_and_said(images: Path, tmp_path: Path) -> None:
    known = write_tiny(tmp_path / "known.safetensors", classes=("pink", "red", "blue", "grey"))
    case = ("run", *SMALL, "--scenario", "full", "--data", images, "--reuse-head", "--results", tmp_path / "results")
    said = invoke(*case, "--checkpoint", known).stderr
    assert "; reused head rows: 'blue', 'red'" in said
    strange = write_tiny(tmp_path / "strange.safetensors", classes=("ant", "bee", "cat", "dog"))
    assert "; reused head rows: none, because no class name matches" in invoke(*case, "--checkpoint", strange).stderr
    assert [r.load.reused_classes for r in records(tmp_path / "results") if r.load] == [("blue", "red"), ()]
