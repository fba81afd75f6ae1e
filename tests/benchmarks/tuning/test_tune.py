"""`tune` on the reference backend: the fastest setting is recommended only with a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.preparing import missing_certificates
from benchmarks.tuning.tune import Acceleration, Tuned, Tuning, candidates
from harness.errors import Declined
from harness.spec import Job
from tests.benchmarks.commanding import invoke, refused
from tests.harness.cases import write_tiny

SMALL = ("--backend", "reference", "--model", "tiny-cnn", "--epochs", "8")


def arguments(folder: Path) -> tuple[str | Path, ...]:
    checkpoint = write_tiny(folder / "tiny.safetensors")
    fixed = ("--scenario", "freeze-conv", "--minutes", "2", "--quiet", "--results", folder / "results")
    return ("tune", *SMALL, "--checkpoint", checkpoint, *fixed)


def names(scenario: str, **settings: Any) -> tuple[set[str], dict[str, str]]:
    wanted = {"backend": ("pytorch",), "model": ("resnet18",), "scenario": (scenario,), **settings}
    (selected,) = expand(Selection(**wanted), read_catalogue(()))
    found, not_tried = candidates(selected)
    return {one.name for one in found}, not_tried


def test_every_combination_but_the_plain_one_is_a_candidate() -> None:
    found, not_tried = names("freeze-conv")
    assert len(found) == 95
    assert not any("features=kept" in one and "fold_norms=true" in one for one in found)
    assert "compute no fixed part" in not_tried["features=kept, fold_norms=true"]
    assert {
        "features=kept",
        "fold_norms=true",
        "fused=true",
        "layout=channels-first, compile=true, features=kept, fused=true",
    } <= found
    assert "changes the numbers" in not_tried["other precision"]


def test_a_mode_of_the_compiler_is_a_candidate_only_with_the_compiler() -> None:
    found, _ = names("full")
    modes = {one for one in found if "compile_mode" in one}
    assert {"compile=true, compile_mode=reduce-overhead", "compile=true, compile_mode=max-autotune"} <= modes
    assert all("compile=true" in one for one in modes)
    compiled, _ = names("full", compile=True)
    assert {"compile_mode=reduce-overhead", "compile=false"} <= compiled
    assert not any("compile=false" in one and "compile_mode" in one for one in compiled)


def test_a_setting_that_the_scenario_cannot_use_is_named_with_the_reason() -> None:
    found, not_tried = names("full")
    alone = {"layout=channels-first", "compile=true", "fused=true", "keep_memory=true"}
    assert alone < found
    assert len(found) == 31
    for name in ("features=kept", "fold_norms=true"):
        assert not_tried[name].startswith("no stage of full keeps a part of the network fixed")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("without_kept_memory")
def test_kept_features_are_recommended_with_their_certificate_and_command(tmp_path: Path) -> None:
    result = invoke(*arguments(tmp_path))
    assert result.exit_code == 0, result.output
    answer, *lines = result.stdout.splitlines()
    assert answer.startswith("features=kept trains × ")
    assert "provably the same (certificate " in answer
    assert any(line.endswith("--features kept") for line in lines)
    assert any("not tried: compile=true" in line and "has no compiler" in line for line in lines)
    (file,) = (tmp_path / "results" / "runs").rglob("*.jsonl")
    assert file.read_text().count('"comparison":"tune features=kept"') >= 6


@pytest.mark.timeout(300)
def test_what_is_fast_but_not_proved_is_not_recommended(tmp_path: Path) -> None:
    with patch.object(missing_certificates, "certify", side_effect=Declined("planted: it trains something else")):
        result = invoke(*arguments(tmp_path))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "Nothing is faster than the plain settings and proved equal to them."
    assert "not proved equal: planted: it trains something else" in result.stdout
    assert "  keep_memory=true: × " in result.stdout


def raced(costs: dict[str, float], **settings: Any) -> Tuned:
    """The outcome of a race in which each change has a planted cost, in logs; nothing is proved."""

    def planted(tuning: Tuning, plain: Job, candidate: Acceleration) -> float:
        return sum(costs.get(name, 0.1) for name in candidate.changes)

    wanted = {"backend": ("reference",), "model": ("tiny-cnn",), "scenario": ("scratch",), **settings}
    (selected,) = expand(Selection(**wanted), read_catalogue(()))
    with patch.object(Tuning, "_sample", planted), patch.object(Tuning, "_proved", return_value=(None, {})):
        return Tuning(selected, read_catalogue(()), Any, Any, 10, lambda event: None).run()


@pytest.mark.parametrize(("of_compile", "fastest"), [(-0.2, "compile=true, compile_mode=reduce-overhead"), (0.2, "")])
def test_modes_of_the_compiler_are_measured_if_it_is_faster_alone(of_compile: float, fastest: str) -> None:
    tuned = raced({"compile": of_compile, "compile_mode": -0.1})
    names = [standing.name for standing in tuned.standings if standing.value < 0]
    assert names[:1] == ([fastest] if fastest else [])
    assert any("compile_mode" in standing.name for standing in tuned.standings) == bool(fastest)
    (left_out,) = (reason for name, reason in tuned.not_tried.items() if name.endswith(" combinations"))
    slow = left_out.removeprefix("with settings that are not faster alone: ").split(", ")
    assert ("compile=true" in slow) == (not fastest)
    assert {"layout=channels-first", "fused=true", "keep_memory=true"} <= set(slow)


def test_a_mode_that_is_slower_alone_is_not_combined_where_the_case_compiles_already() -> None:
    tuned = raced({"compile_mode": 0.1, "fused": -0.2, "keep_memory": -0.2}, compile=True)
    assert tuned.standings[0].name == "fused=true, keep_memory=true"
    assert not any("compile_mode" in one.name and "fused" in one.name for one in tuned.standings)


def test_more_than_one_case_is_refused(tmp_path: Path) -> None:
    said = refused("tune", *SMALL, "--scenario", "full", "--scenario", "freeze-conv", "--results", tmp_path)
    assert "tune takes one case, not 2" in said


def test_an_interrupted_run_says_so_in_its_last_row(tmp_path: Path) -> None:
    with patch.object(Tuning, "run", side_effect=KeyboardInterrupt):
        result = invoke(*arguments(tmp_path))
    assert result.exit_code == 130
    assert "finished pairs are stored in" in result.stderr
    (file,) = (tmp_path / "results" / "runs").rglob("*.jsonl")
    assert '"status":"interrupted"' in file.read_text().splitlines()[-1]
