"""What is said about the harness's own cost, and that its opponents are what they claim to be."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import msgspec
import pytest

from benchmarks.studies.overhead import Measured, _case
from harness.process.launch import launch
from tests.benchmarks.commanding import ROOT


def test_the_ratio_is_the_trimmed_mean_over_pairs_with_its_t_interval() -> None:
    harness = (100.0, 121.0, 110.0, 300.0, 20.0)  # the middle three count, the outer two at the middle ones' ends
    ratio, low, high = Measured(harness=harness, plain=(100.0,) * 5).ratio()
    assert ratio == pytest.approx(1.1)
    spread = math.sqrt(4 * math.log(1.1) ** 2 / 4)  # winsorised: two at either end of the middle
    half = 4.3027 * spread / (0.6 * math.sqrt(5))
    assert (low, high) == pytest.approx((1.1 * math.exp(-half), 1.1 * math.exp(half)), rel=1e-4)


@pytest.mark.parametrize("backend", ["pytorch", "keras3"])
def test_a_plain_loop_is_short_and_knows_nothing_of_the_harness(backend: str) -> None:
    tree = ast.parse(Path(ROOT, "backends", backend, "plain.py").read_text())
    (train,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train")
    assert train.end_lineno is not None
    assert train.end_lineno - train.lineno < 40
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {name.partition(".")[0] for name in imported} & {"harness", "backends", "results", "benchmarks"}


def test_both_loops_take_turns_in_one_process(tmp_path: Path) -> None:
    case = msgspec.to_builtins(_case("pytorch", None, "resnet18", "freeze-conv", 32))
    arguments = {"case": case, "turns": 3, "turn_s": 0.05}
    outcome = launch("benchmarks.studies.overhead:measure", arguments, folder=tmp_path, cores=1)
    said = msgspec.json.decode(outcome.require(), type=Measured)
    assert len(said.harness) == len(said.plain) == 3
    assert min(*said.harness, *said.plain) > 0
    assert 0 < said.empty_step_us < 50
