"""`gate` of two environments with a user's own model and images, and the complete runs of the base that it keeps."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import Result
from msgspec.structs import replace

from benchmarks.commands.measuring.gate import GateDocument
from benchmarks.comparing.base_runs import BaseRuns
from benchmarks.comparing.comparison_run import ComparisonRun
from benchmarks.datasets.cache import cache_entries
from harness.process.environment import HERE
from harness.process.imports import digest_of
from harness.spec import Job
from results.storage.objects import get_arrays, get_json, put_arrays, put_json
from results.storage.rows import Pair, ProcessRow
from tests.benchmarks.commanding import EXAMPLES, ROOT, checkout, invoke, refused, rows
from tests.benchmarks.commands.measuring.test_gate import FAST
from tests.results.records import build

OWN = """
[[case]]
backend = ["reference"]
model = ["two-blocks"]
scenario = ["scratch"]
data = ["light"]
image_size = [32]
epochs = 1
batch_size = [8]
augment = ["none"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plug-in for a model, which imports a module beside it, one for images, and a suite."""
    monkeypatch.setenv("FINETUNE_BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(EXAMPLES / "dataset.py", folder / "dataset.py")
    model = (EXAMPLES / "model.py").read_text()
    (folder / "model.py").write_text(
        model.replace("(3, 4), (4, 8)", "(3, WIDTH), (WIDTH, 8)") + "\nfrom wide import WIDTH\n"
    )
    (folder / "wide.py").write_text("WIDTH = 4\n")
    (folder / "own.toml").write_text(OWN)
    return folder


@pytest.fixture
def seeds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pairs, which the kept runs have nothing to do with."""

    def none(*_: object, **__: object) -> Iterator[Pair]:
        return iter(())

    monkeypatch.setattr(ComparisonRun, "_pairs", none)


def gate(own: Path, *arguments: str | Path) -> Result:
    plugins = ("--plugin", own / "model.py", "--plugin", own / "dataset.py", "--suite", own / "own.toml")
    return invoke("gate", *FAST, *plugins, "--results", own / "results", *arguments)


def starts(own: Path, side: str) -> list[str]:
    """When the complete runs of a side began, in the order of the rows."""
    return [row.record.started for row in rows(own / "results") if isinstance(row, ProcessRow) and row.side == side]


@pytest.mark.usefixtures("seeds_only")
def test_an_upgrade_is_checked_with_ones_own_model_and_names_the_package_that_changed(
    own: Path, upgraded: Path
) -> None:
    file = own / "gate.json"
    said = gate(own, "--python", f"A={sys.executable}", "--python", f"B={upgraded}", "--json-file", file)
    assert said.exit_code == 0, said.output
    document = msgspec.json.decode(file.read_bytes(), type=GateDocument)
    (found,) = document.comparisons
    assert (found.label, found.purpose) == ("reference/two-blocks/scratch", "gate")
    assert {one.field: one.b for one in found.differs if one.field == "numpy"} == {"numpy": "9.9"}
    assert not (document.missing or document.new or document.failed)
    assert gate(own, "--python", f"B={upgraded}", "--fail-on", "inconclusive").exit_code == 5


@pytest.mark.usefixtures("seeds_only")
def test_complete_runs_of_the_base_are_measured_once(own: Path, upgraded: Path) -> None:
    sides = ("--python", f"A={sys.executable}", "--python", f"B={upgraded}", "--seeds", "2")
    first = gate(own, *sides)
    assert first.exit_code == 0, first.output
    assert "from the cache" not in first.output
    second = gate(own, *sides)
    assert "side A: 2 of its runs are from the cache" in second.output
    a = starts(own, "A")
    assert (len(a), a[:2]) == (4, a[2:])
    assert len(starts(own, "B")) == 4
    assert invoke("verify", "--results", own / "results").exit_code == 0
    assert [entry.kind for entry in cache_entries()].count("base-runs") == 2


@pytest.mark.usefixtures("own")
def test_a_kept_run_is_found_only_if_nothing_changed_that_its_accuracy_depends_on(
    tmp_path: Path, upgraded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "beside.py"
    module.write_text("WIDTH = 4")
    here, target = tmp_path / "here", tmp_path / "there"
    record = build(seed=1)
    record = replace(record, logits=put_arrays(here, {"logits": np.eye(2)}), skipped=put_json(here, ["one.txt"]))
    job = Job(case=record.case, dataset_path="images", plugins=("model.py",))
    kept = BaseRuns(HERE)
    assert kept.find(job, target) is None
    kept.keep(job, record, {str(module): digest_of(module)}, here)
    assert kept.find(job, target) == record
    assert get_arrays(target, record.logits or "")["logits"].tolist() == np.eye(2).tolist()
    assert get_json(target, record.skipped or "") == ["one.txt"]
    for change in ({"seed": 2}, {"dataset_sha256": "e" * 64}, {"checkpoint_sha256": "e" * 64}, {"threads": 2}):
        assert kept.find(replace(job, case=replace(job.case, **change)), target) is None
    assert BaseRuns(HERE._replace(python=str(upgraded))).find(job, target) is None
    other = checkout(tmp_path / "other", "backends/reference/numerics.py")
    assert BaseRuns(HERE._replace(root=other)).find(job, target) is None
    with monkeypatch.context() as limited:
        limited.setenv("ATEN_CPU_CAPABILITY", "avx2")
        assert BaseRuns(HERE).find(job, target) is None
    assert BaseRuns(HERE).find(job, target) == record
    module.write_text("WIDTH = 8")
    assert kept.find(job, target) is None
    kept.keep(job, record, {str(module): digest_of(module)}, here)
    assert kept.find(job, target) == record


def test_a_base_or_two_environments_are_named_and_not_both(tmp_path: Path) -> None:
    common = ("gate", "--results", tmp_path / "results")
    python = f"A={sys.executable}"
    assert "give --base REVISION, or two environments: --python A=old/bin/python" in refused(*common)
    assert "give --base REVISION, or two environments" in refused(*common, "--base", ROOT, "--python", python)
    assert "old/bin/python cannot be run" in refused(*common, "--python", "A=old/bin/python")
    assert "A and B are the same" in refused(*common, "--python", python)
