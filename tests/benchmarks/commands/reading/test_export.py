from __future__ import annotations

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest
from msgspec.structs import replace

import results
from benchmarks.commands.reading.export import TARGETS
from benchmarks.preparing.embedded_networks import SHIPPED
from harness.data.checkpoint import read_meta
from harness.process.ask import ask
from tests.benchmarks.commanding import ROOT, invoke, refused
from tests.benchmarks.conftest import Finished
from tests.results.exports.sides import store_sides
from tests.results.records import build
from tests.results.tables.test_load import store

GUIDE = (ROOT / "docs" / "exports.md").read_text()
COMMANDS = re.findall(r"^\$ finetune-bench (export .*)$", GUIDE, re.MULTILINE)
SERVED = ("tensorboard", "mlflow", "wandb", "model-card", "dataset")
"""Their libraries are not installed beside the frameworks; tests/results/exports has their tests."""


def test_the_guide_has_a_command_for_every_target() -> None:
    assert {shlex.split(command)[2] for command in COMMANDS} == set(TARGETS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if shlex.split(c)[2] not in SERVED])
def test_the_commands_of_the_guide_write_their_files(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path / "bench-results", build(), build(scenario="freeze-conv"))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    done = invoke(*words)
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / words[words.index("--out") + 1]).read_bytes()


@pytest.mark.parametrize(
    ("target", "module", "extra"),
    [
        ("tensorboard", "tensorboard", "tensorboard"),
        ("mlflow", "mlflow", "mlflow"),
        ("wandb", "wandb", "wandb"),
        ("badge", "anybadge", "badge"),
        ("pytest-benchmark", "pytest_benchmark", "pytest-benchmark"),
        ("model-card", "huggingface_hub", "huggingface"),
        ("dataset", "huggingface_hub", "huggingface"),
    ],
)
def test_a_missing_library_is_one_line_with_the_extra_to_install(
    target: str, module: str, extra: str, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    out = "http://127.0.0.1:1" if target == "mlflow" else tmp_path / "out"
    done = invoke(
        *("export", "--results", finished.results, "--to", target, "--out", out),
        *("--metric", "accuracy", *(() if target == "dataset" else ("--where", "scenario=full"))),
    )
    assert (done.exit_code, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert f"--to {target} needs {module}" in line
    assert f"pip install 'finetune-bench[{extra}]'" in line
    assert not (tmp_path / "out").exists()


def test_every_extra_that_is_named_exists() -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("optional-dependencies")[2]
    assert all(
        re.search(rf"^{re.escape(name)} = ", extras, re.MULTILINE) for name in re.findall(r"bench\[(.*?)\]", GUIDE)
    )


def test_the_terminal_gets_what_a_file_would(finished: Finished, tmp_path: Path) -> None:
    export = ("export", "--results", finished.results, "--to", "markdown")
    invoke(*export, "--out", tmp_path / "summary.md")
    assert invoke(*export).stdout == (tmp_path / "summary.md").read_text()


def test_conditions_choose_the_records(finished: Finished) -> None:
    content = invoke(
        *("export", "--results", finished.results, "--to", "csv", "--where", "scenario=full", "--where", "seed=1"),
    ).stdout_bytes
    read = pd.read_csv(io.BytesIO(content))
    assert (read["scenario"].tolist(), read["seed"].tolist()) == (["full"], [1])
    assert read["accuracy"][0] == results.load(finished.results)["accuracy"][1]


def test_missing_cases_are_told_and_end_with_3(finished_copy: Path) -> None:
    (file,) = finished_copy.rglob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    done = invoke("export", "--results", finished_copy, "--to", "csv")
    assert done.exit_code == 3
    assert "has no record of 1 of them" in done.stderr
    assert done.stdout.count("\n") == 4


def test_two_cases_under_one_version_are_told_and_end_with_1(tmp_path: Path) -> None:
    relabelled = replace(build(seed=1), case=replace(build(seed=1).case, dropout=False))
    store(tmp_path, build(), relabelled)
    for options in (("markdown",), ("badge", "--metric", "accuracy")):
        done = invoke("export", "--results", tmp_path, "--to", *options)
        assert done.exit_code == 1
        assert ": 2 different cases are pooled" in done.stderr


def test_a_badge_is_of_one_figure_of_one_case(finished: Finished, tmp_path: Path) -> None:
    badge = ("export", "--results", finished.results, "--to", "badge")
    assert "--metric" in refused(*badge)
    several = refused(*badge, "--metric", "accuracy")
    assert "not 2; choose with --where: scenario (full, freeze-conv)" in several
    invoke(*badge, "--metric", "accuracy", "--where", "scenario=full", "--label", "mine", "--out", tmp_path / "b.json")
    frame = results.table(results.load(finished.results))
    shown = json.loads((tmp_path / "b.json").read_text())
    assert shown["label"] == "mine"
    assert shown["message"].startswith(f"{frame['accuracy'][0] * 100:.1f} ± ")


def test_a_badge_of_nothing_but_arms_is_refused(tmp_path: Path) -> None:
    store_sides(tmp_path, build(), build(seed=1))
    badge = ("export", "--results", tmp_path, "--to", "badge")
    assert "are sides of comparisons" in refused(*badge, "--metric", "accuracy")


def test_what_cannot_be_chosen_or_written_is_refused(finished: Finished, tmp_path: Path) -> None:
    export = ("export", "--results", finished.results, "--to")
    assert "not of the form NAME=VALUE" in refused(*export, "csv", "--where", "full")
    assert "did you mean scenario or" in refused(*export, "csv", "--where", "scenari=full")
    assert "no record matches; scenario is full, freeze-conv" in refused(*export, "csv", "--where", "scenario=none")
    assert "cannot be written" in refused(*export, "csv", "--out", tmp_path / "nowhere" / "x.csv")
    for folder in ("tensorboard", "wandb", "model-card", "dataset"):
        assert "give it with --out" in refused(*export, folder)
    assert "leave out --where" in refused(*export, "dataset", "--where", "seed=1", "--out", tmp_path / "d")
    (run,) = finished.results.rglob("*.jsonl")
    assert "leave out --where" in refused("export", "--results", run, "--to", "dataset", "--out", tmp_path / "d")
    assert "MLFLOW_TRACKING_URI" in refused(*export, "mlflow")
    assert "does not exist" in refused("export", "--results", tmp_path / "nothing", "--to", "csv")


def test_a_script_comes_with_the_weights_that_its_run_started_from(tmp_path: Path) -> None:
    digest = read_meta(SHIPPED / "mobilenet-v2-0.35.safetensors").sha256
    facts = {"model": "mobilenet-v2-0.35", "checkpoint": "embedded", "checkpoint_sha256": digest}
    store(tmp_path, build(**facts), build(scenario="freeze-conv", **facts))
    export = ("export", "--results", tmp_path, "--to", "script")
    case = "pytorch/mobilenet-v2-0.35/freeze-conv/seed0"
    done = invoke(*export, case, "--out", tmp_path / "mine.py")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"of the run {case}" in " ".join((tmp_path / "mine.py").read_text().split())
    arrays = ask(names_in, {"path": str(tmp_path / "mobilenet-v2-0.35.pth")}, list[str])
    assert "features.0.0.weight" in arrays
    assert not [name for name in arrays if name.startswith(("head.", "classifier."))]


def names_in(path: str) -> list[str]:
    """The names of the tensors of a PyTorch file; runs in a worker."""
    from backends.pytorch.weights.convert import read_state

    return sorted(read_state(path))


def test_a_script_of_no_single_case_or_of_other_weights_is_refused(finished: Finished, tmp_path: Path) -> None:
    facts = {"model": "mobilenet-v2-0.35", "checkpoint": "embedded"}
    store(tmp_path, build(**facts), build(scenario="freeze-conv", dataset="other", **facts))
    export = ("export", "--results", tmp_path, "--to", "script")
    assert "a script trains one case, not 2; name it, or use --where: scenario" in refused(*export)
    assert "is not BACKEND/MODEL/SCENARIO" in refused(*export, "full")
    assert "no record matches" in refused(*export, "pytorch/resnet18/full")
    assert "other weights than those of the run" in refused(*export, "pytorch/mobilenet-v2-0.35/full")
    store(tmp_path / "file", build(model="resnet18", checkpoint="mine.pth"))
    assert "give it with --checkpoint" in refused("export", "--results", tmp_path / "file", "--to", "script")
    done = invoke("export", "--results", finished.results, "--to", "script", "reference/tiny-cnn/full")
    assert done.exit_code == 3
    assert "no script for the backend reference" in done.stderr
