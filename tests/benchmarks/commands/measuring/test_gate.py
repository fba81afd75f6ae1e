"""`gate` in each situation it has an exit code for, on the reference backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import Result
from msgspec.structs import replace

from benchmarks.commands.measuring.gate import GateDocument
from benchmarks.comparing.gate import GateResult, base_results, exit_code
from results.exports.comparison_formats import as_junit
from results.storage.comparison import Finding
from results.storage.folder import RESULTS
from results.verdicts.accepted import Acceptance, accepted_by, add_accepted, read_accepted
from tests.benchmarks.commanding import ROOT, checkout, frozen_only, invoke, refused

CASE = """
[[case]]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = [{scenarios}]
image_size = [32]
epochs = 1
batch_size = [8]
augment = ["none"]
"""
FAST = ("--seeds", "0", "--turn", "0.01", "--pairs", "10", "--margin", "20%", "--quiet")


def suite(folder: Path, *scenarios: str, checkpoint: Path | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cases.toml"
    given = f'checkpoint = ["{checkpoint}"]\n' if checkpoint else ""
    file.write_text(CASE.format(scenarios=", ".join(f'"{name}"' for name in scenarios)) + given)
    return file


def gate(tmp_path: Path, base: Path | str, *arguments: str | Path) -> Result:
    return invoke("gate", "--base", base, "--results", tmp_path / "results", *FAST, *arguments)


def test_a_slow_down_is_1_and_0_once_it_is_accepted_and_told_in_every_format(tmp_path: Path) -> None:
    file = suite(tmp_path, "scratch")
    leave = ("accept", "reference/*/scratch", "--metric", "throughput", "--reason", "a safer loop")
    assert invoke(*leave, "--max-loss", "900%", "--results", tmp_path / "results").exit_code == 0
    base = checkout(tmp_path / "base")
    old = Acceptance(case="*", metric="throughput", up_to=9.0, reason="an older loss", moment="2026-01-01")
    for folder in (base, tmp_path):
        add_accepted(folder / ("results" if folder == tmp_path else RESULTS), old)
    outs = {kind: tmp_path / f"out.{kind}" for kind in ("junit", "markdown", "json-file", "pytest-benchmark")}
    wanted = [part for kind, path in outs.items() for part in (f"--{kind}", path)]
    said = gate(tmp_path, base, "--suite", file, "--inject-delay", "B=100%", *wanted)
    assert said.exit_code == 0, said.output
    assert "accepted: a safer loop" in said.output
    assert "an older loss" not in said.output  # the base has it too, so it excuses nothing here
    assert "regression" in outs["markdown"].read_text()
    assert not list(ElementTree.parse(outs["junit"]).getroot().iter("failure"))
    compared = subprocess.run(
        [Path(sys.executable).parent / "pytest-benchmark", "compare", outs["pytest-benchmark"]],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "reference/tiny-cnn/scratch[B]" in compared.stdout
    (found,) = msgspec.json.decode(outs["json-file"].read_bytes(), type=GateDocument).comparisons
    assert found.purpose == "gate"
    unasked = replace(found, accepted="")
    assert exit_code(GateResult([unasked], [], [], []), "regression") == 1
    (failure,) = ElementTree.fromstring(as_junit([unasked])).iter("failure")
    assert "throughput" in failure.get("message", "")


def test_nothing_worse_is_0_and_what_is_open_is_5_only_if_it_is_asked_for(tmp_path: Path) -> None:
    file = suite(tmp_path, "scratch")
    fine = gate(tmp_path, ROOT, "--suite", file, "--budget", "0.001")
    assert fine.exit_code == 0, fine.output
    assert "inconclusive" in fine.output
    assert gate(tmp_path, ROOT, "--suite", file, "--budget", "0.001", "--fail-on", "inconclusive").exit_code == 5


def test_a_missing_or_renamed_case_is_3_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = checkout(tmp_path / "base")
    suite(base, "scratch", "warm-head-of-old")
    (base / "cases.toml").write_text((base / "cases.toml").read_text() + OLD)
    suite(tmp_path / "head", "scratch")
    monkeypatch.chdir(tmp_path / "head")
    said = gate(tmp_path, base, "--suite", "cases.toml", "--budget", "0.001", "--junit", tmp_path / "out.xml")
    assert said.exit_code == 3, said.output
    assert "reference/tiny-cnn/warm-head-of-old: missing" in said.output
    (error,) = ElementTree.parse(tmp_path / "out.xml").getroot().iter("error")
    assert error.get("type") == "missing"


OLD = """
[[scenario]]
name = "warm-head-of-old"
explanation = "was renamed since"

[[scenario.stages]]
epochs = 1
head_lr = 0.01
backbone_lr = 0.01
batch_size = 8
"""


def test_a_case_that_fails_is_3_and_the_others_are_measured(
    tmp_path: Path, checkpoint: Path, few_pairs: tuple[str, str]
) -> None:
    file = suite(tmp_path, "scratch", "freeze-conv", checkpoint=checkpoint)
    base = frozen_only(tmp_path / "base")
    said = gate(tmp_path, base, "--suite", file, *few_pairs)
    assert said.exit_code == 3, said.output
    assert "failed – reference/tiny-cnn/scratch: side A: failed – AssertionError" in said.output
    assert "reference/tiny-cnn/freeze-conv" in said.output
    assert "failed – reference/tiny-cnn/freeze-conv" not in said.output


def test_no_comparable_base_is_4(tmp_path: Path) -> None:
    before = checkout(tmp_path / "before", "harness/entry.py")
    said = gate(tmp_path, before, "--suite", suite(tmp_path, "scratch"))
    assert said.exit_code == 4
    assert "it is too old to compare" in said.output
    other = checkout(tmp_path / "other")
    init = other / "harness" / "__init__.py"
    init.write_text(init.read_text().replace("PROTOCOL = 1", "PROTOCOL = 99"))
    said = gate(tmp_path, other, "--suite", suite(tmp_path, "scratch"))
    assert said.exit_code == 4
    assert "uses protocol 99" in said.output
    assert gate(tmp_path, checkout(tmp_path / "third"), "--suite", "nowhere.toml").exit_code in (2, 4)


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    common = ("gate", "--results", tmp_path)
    line = refused(*common, "--base", "nowhere")
    assert "no revision nowhere" in line
    assert "git says: Needed a single revision" in line
    assert "is not a checkout of this project" in refused(*common, "--base", tmp_path)
    assert invoke(*common).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_accepted_passes() -> None:
    slower = Finding(metric="throughput", verdict="regression", change=0.05, low=0.04, high=0.06, p=0.0,
                     replicates=10, margin=0.03, detectable=0.04)  # fmt: skip
    leave = Acceptance(case="pytorch/*", metric="throughput", up_to=0.08, reason="new loop", moment="2026-01-01")
    assert accepted_by(slower, "pytorch/resnet18/full", [leave]) == "new loop"
    assert accepted_by(slower, "keras3-jax/resnet18/full", [leave]) == ""
    larger = Acceptance(case="pytorch/*", metric="throughput", up_to=0.04, reason="new loop", moment="2026-01-01")
    assert accepted_by(slower, "pytorch/resnet18/full", [larger]) == ""


def test_what_the_base_had_accepted_is_spent(tmp_path: Path) -> None:
    old, new = (
        Acceptance(case="*", metric="throughput", up_to=0.08, reason=reason, moment="2026-01-01")
        for reason in ("old", "new")
    )
    for folder, lines in (("base", [old]), ("here", [old, new])):
        for one in lines:
            add_accepted(tmp_path / folder, one)
    assert read_accepted(tmp_path / "here", tmp_path / "base") == [new]
    assert read_accepted(tmp_path / "here", tmp_path / "nowhere") == [old, new]


def test_a_base_has_its_acceptances_where_this_checkout_has_them(tmp_path: Path) -> None:
    assert base_results(ROOT / "ci" / "results", tmp_path) == tmp_path / "ci" / "results"
    assert base_results(tmp_path / "elsewhere", tmp_path / "base") == tmp_path / "base" / RESULTS


def test_an_acceptance_is_a_committed_line_and_a_bad_one_is_named(tmp_path: Path) -> None:
    one = Acceptance(case="a/b/c", metric="accuracy", up_to=1.5, reason="fewer epochs", moment="2026-01-01")
    path = add_accepted(tmp_path, one)
    add_accepted(tmp_path, one)
    assert read_accepted(tmp_path) == [one, one]
    path.write_text(path.read_text() + "{}\n")
    assert "5% is not a side (A or B); write B=5%" in refused("gate", "--base", ROOT, "--inject-delay", "5%")
    assert "line 3" in refused("gate", "--base", ROOT, "--results", tmp_path, "--suite", suite(tmp_path, "scratch"))
    common = ("accept", "a/b/c", "--results", tmp_path, "--reason", "why")
    assert "did you mean throughput" in refused(*common, "--metric", "throughputs", "--max-loss", "5%")
    assert "in points" in refused(*common, "--metric", "accuracy", "--max-loss", "5%")
    assert "is empty" in refused(*common[:-1], " ", "--metric", "accuracy", "--max-loss", "5")
