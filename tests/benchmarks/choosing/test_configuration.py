"""Defaults of options from `[tool.finetune-bench]` of a `pyproject.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.storage.rows import RunRow
from tests.benchmarks.commanding import ROOT, SMALL, invoke, refused, rows

SHORT = ("run", "--dry-run")
CASE = """
results = "kept"
[tool.finetune-bench.run]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = ["scratch"]
image-size = [32]
batch_size = [8]
epochs = 1
report = false
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "pyproject.toml"
    file.write_text(f"[tool.finetune-bench]\n{text}")
    return file


def test_a_command_takes_the_defaults_and_says_which(project: Path) -> None:
    file = write(project, CASE)
    done = invoke(*SHORT)
    assert done.stdout.startswith("reference/tiny-cnn/scratch/seed0")
    words = "--backend reference --model tiny-cnn --scenario scratch --image-size 32 --epochs 1 --batch-size 8"
    assert f"defaults from {file}: {words} --results {project}/kept\n" in done.stderr


def test_the_command_line_wins_and_what_it_replaces_is_not_named(project: Path) -> None:
    write(project, CASE)
    done = invoke(*SHORT, "--scenario", "full", "--epochs", "2")
    assert done.stdout.startswith("reference/tiny-cnn/full/seed0")
    assert "--scenario" not in done.stderr
    assert "--epochs" not in done.stderr


def test_a_table_of_a_command_wins_over_the_values_for_every_command(project: Path) -> None:
    write(project, 'results = "every"\n[tool.finetune-bench.table]\nresults = "own"\n')
    assert f"{project}/own does not exist" in invoke("table").stderr
    assert f"{project}/every does not exist" in invoke("history").stderr


def test_a_value_for_every_command_is_for_those_that_have_the_option(project: Path) -> None:
    write(project, 'results = "every"\n')
    done = invoke("list", "suites")
    assert (done.exit_code, done.stderr) == (0, "")


def test_the_nearest_folder_above_that_has_the_table_is_used_and_paths_begin_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, 'results = "kept"\n')
    below = project / "package" / "deep"
    below.mkdir(parents=True)
    (project / "package" / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.chdir(below)
    assert f"{project}/kept does not exist" in invoke("table").stderr


def test_no_config_ignores_the_file_even_a_damaged_one(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.finetune-bench\n")
    assert "pyproject.toml cannot be read" in refused("list", "suites")
    assert invoke("--no-config", "list", "suites").exit_code == 0


def test_the_words_of_the_file_are_stored_with_the_run(project: Path) -> None:
    write(project, CASE)
    assert invoke("run").exit_code == 0
    (run,) = [row for row in rows(project / "kept") if isinstance(row, RunRow)]
    command = list(run.command)
    assert command[0] == "run"
    assert command[command.index("--model") + 1] == "tiny-cnn"


def test_the_processes_that_a_command_starts_take_no_defaults(project: Path) -> None:
    assert invoke("run", *SMALL, "--scenario", "scratch", "--results", project / "kept").exit_code == 0
    write(project, '[tool.finetune-bench.table]\nout = "lost.txt"\n')
    assert "follow from the raw rows" in invoke("verify", "--results", project / "kept").stdout
    assert not (project / "lost.txt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.finetune-bench.run]\nmodels = []", "[tool.finetune-bench.run]: no option models (did you mean model"),
        ("[tool.finetune-bench.rum]", "[tool.finetune-bench.rum]: no command rum (did you mean run"),
        ("result = 'x'", "[tool.finetune-bench]: no option result (did you mean results"),
        ("run = 3", "[tool.finetune-bench]: run must be a table, [tool.finetune-bench.run]"),
        ("results = 3", "[tool.finetune-bench]: results = 3: must be a text in quotes"),
        ("[tool.finetune-bench.run]\nepochs = '1'", "epochs = '1': must be a whole number"),
        ("[tool.finetune-bench.run]\nepochs = true", "epochs = true: must be a whole number"),
        ("[tool.finetune-bench.run]\nepochs = [1]", "epochs takes one value, not a list"),
        ("[tool.finetune-bench.run]\nlr = 'small'", "lr = 'small': must be a number"),
        ("[tool.finetune-bench.run]\nreport = 1", "report = 1: must be true or false"),
        ("[tool.finetune-bench.run]\ndevice = 'gpuu'", "device = 'gpuu': 'gpuu' is not one of"),
        ("[tool.finetune-bench.run]\ntimeout = -1", "timeout = -1: -1.0 is not in the range"),
    ],
)
def test_a_wrong_table_key_or_value_is_one_line_with_the_file(project: Path, text: str, message: str) -> None:
    file = write(project, text)
    line = refused("table")
    assert line.startswith(f"error: {file}: ")
    assert message in line


def test_a_value_that_is_no_table_is_refused(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool]\nfinetune-bench = 3\n")
    assert "must be a table, [tool.finetune-bench]" in refused("table")
    (project / "pyproject.toml").write_text("tool = 3\n")
    assert invoke("list", "suites").exit_code == 0


def test_the_example_of_the_page_is_accepted(project: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "pipeline.md").read_text()
    (project / "pyproject.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert "target-accuracy 0.9" in invoke(*SHORT).stderr
