"""`import finetune_bench`: its names, what it imports, and what its functions return."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import finetune_bench
import harness.contract
import harness.spec
import results
from tests.benchmarks.commanding import ROOT

CASE = {"backend": "reference", "model": "tiny-cnn", "scenario": "scratch", "image_size": 32}


def test_the_names_are_the_public_ones_and_each_exists() -> None:
    assert set(finetune_bench.__all__) == {
        "load", "table", "compare", "audit", "run", "Model", "Scenario", "Stage", "Refused", "Declined",
    }  # fmt: skip
    for name in finetune_bench.__all__:
        assert getattr(finetune_bench, name).__name__ == name
        assert name in dir(finetune_bench)
    assert finetune_bench.load is results.load
    assert finetune_bench.Stage is harness.spec.Stage
    assert finetune_bench.Model is harness.contract.Model
    with pytest.raises(AttributeError, match="no attribute 'tables'"):
        _ = finetune_bench.tables


def test_importing_it_is_quick_and_imports_nothing_large() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import finetune_bench; print(time.perf_counter() - start);"
        "print(*sorted({'torch', 'keras', 'jax', 'pandas', 'numpy', 'msgspec'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, large = done.stdout.splitlines()
    assert float(seconds) < 0.5
    assert large == ""


def test_run_returns_a_row_per_process_of_this_run_only(tmp_path: Path) -> None:
    first = finetune_bench.run(**CASE, epochs=1, report=False, results=tmp_path)
    second = finetune_bench.run(**CASE, epochs=1, seeds=2, report=False, results=tmp_path)
    assert list(first["status"]) == ["ok"]
    assert list(second["seed"]) == [0, 1]
    assert len(finetune_bench.load(tmp_path)) == 3
    assert len(finetune_bench.table(finetune_bench.load(tmp_path))) >= 1


def test_wrong_options_are_refused_with_the_message_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(finetune_bench.Refused, match="scenario"):
        finetune_bench.run(scenario="scratc", results=tmp_path)
    with pytest.raises(finetune_bench.Refused, match="--colour"):
        finetune_bench.run(colour="red", results=tmp_path)


def test_a_case_that_cannot_run_is_a_row_with_its_reason(tmp_path: Path) -> None:
    found = finetune_bench.run(**CASE, precision="bf16", report=False, results=tmp_path)
    assert list(found["status"]) == ["skipped"]
    assert "in bf16" in found["reason"][0]


def test_compare_returns_the_stored_comparison(tmp_path: Path) -> None:
    sides = {"set": "B.threads=1", "inject_delay": "B=5%"}
    (found,) = finetune_bench.compare(**CASE, **sides, seeds=1, pairs=10, turn=0.01, budget=0.05, results=tmp_path)
    assert [side.name for side in found.sides] == ["A", "B"]
    assert found.findings[0].metric == "throughput"
    with pytest.raises(finetune_bench.Refused, match="A and B are the same"):
        finetune_bench.compare(**CASE, results=tmp_path)


def test_audit_needs_a_model_of_a_framework() -> None:
    with pytest.raises(TypeError, match="list is neither a torch module nor a Keras model"):
        finetune_bench.audit([])


def test_audit_of_a_torch_module_reports_what_moved() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with finetune_bench.audit(model, frozen=["0."]) as auditor:
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert "0.weight moved although it is frozen" in auditor.report
