"""`--json` of every command that prints figures: one document of the documented type, with the values of the text."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import cli
from benchmarks.advising.document import AdviceDocument
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import JsonOption
from benchmarks.choosing.selection import Selection, expand
from benchmarks.commands.inspecting.cache import CacheDocument
from benchmarks.commands.inspecting.doctor import DoctorDocument
from benchmarks.commands.inspecting.selftest import SelftestDocument
from benchmarks.commands.inspecting.show import DatasetView
from benchmarks.commands.inspecting.simulate import SimulateDocument
from benchmarks.commands.measuring import noise
from benchmarks.commands.measuring.bisect import BisectDocument
from benchmarks.commands.measuring.certify import CertifyDocument
from benchmarks.commands.measuring.gate import GateDocument
from benchmarks.commands.measuring.noise import NoiseDocument
from benchmarks.commands.reading.merge import MergeDocument
from benchmarks.commands.reading.verify import VerifyDocument
from benchmarks.comparing.budget import read_limits
from benchmarks.inspecting.predict import Prediction
from benchmarks.inspecting.views import ModelView, TensorView
from benchmarks.selftest import running
from benchmarks.tuning.document import TuneDocument
from benchmarks.tuning.document import document as tune_document
from benchmarks.tuning.race import Standing
from benchmarks.tuning.tune import Acceleration, ProvedAcceleration, Tuned
from benchmarks.tuning.tune import lines as tune_lines
from results.explanations.explanation import Explanation
from results.storage.comparison import Comparison
from results.tables.columns import METRICS, CaseRow
from results.verdicts.history import Series
from results.verdicts.noise import sentences
from results.verdicts.search import Trials
from results.verdicts.stored_comparisons import read_comparisons
from tests.benchmarks.commanding import ROOT, SMALL, invoke, refused
from tests.benchmarks.commands.measuring.test_gate import suite
from tests.benchmarks.conftest import Finished
from tests.results.certificates.test_certificate import certificate
from tests.results.records import build

NO_FIGURES = {"accept", "export", "list", "prepare", "report", "rules"}
"""Commands that print names, paths or files of other programs."""
CASE = (*SMALL, "--scenario", "scratch", "--threads", "1", "--turn", "0.01")


def options(name: str) -> list[JsonOption]:
    command = importlib.import_module(cli.command_modules()[name]).command
    return [one for one in command.params if isinstance(one, JsonOption)]


def document(kind: Any, *arguments: str | Path, code: int = 0) -> Any:
    """The document of a command; nothing else is on stdout, and the type is one that the option documents."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    assert kind in [shape for option in options(str(arguments[0])) for shape in option.shapes()]
    return msgspec.json.decode(result.stdout_bytes, type=kind, strict=True)


def text(*arguments: str | Path, code: int = 0) -> str:
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    return result.stdout


def assert_in_order(parts: Sequence[str], shown: str) -> None:
    place = 0
    for part in parts:
        assert part in shown[place:], part
        place = shown.index(part, place) + len(part)


def test_every_command_that_prints_figures_has_the_option() -> None:
    assert {name for name in cli.command_modules() if not options(name)} == NO_FIGURES


def test_the_tables_of_run_and_table_are_rows_with_the_figures_of_the_text(tmp_path: Path) -> None:
    rows = document(list[CaseRow], "run", *SMALL, "--scenario", "scratch", "--quiet", "--results", tmp_path)
    assert rows == document(list[CaseRow], "table", "--results", tmp_path)
    (row,) = rows
    shown = text("table", "--wide", "--results", tmp_path)
    for name in ("accuracy", "throughput", "train_s", "total_s", "peak_memory_mb"):
        assert METRICS[name].write(getattr(row, name)) in shown


def test_a_shard_without_cases_prints_no_rows(tmp_path: Path) -> None:
    one = ("run", *SMALL, "--scenario", "scratch", "--shard", "2/2", "--results", tmp_path)
    assert document(list[CaseRow], *one) == []
    assert document(list[CaseRow], *one, "--resume") == []


@pytest.mark.parametrize("command", ["run", "compare"])
def test_the_text_of_a_dry_run_has_no_document(command: str) -> None:
    assert "leave out --json" in refused(command, "--dry-run", "--json")


def test_a_history_is_its_series(finished: Finished) -> None:
    series = document(list[Series], "history", "--results", finished.results)
    shown = text("history", "--results", finished.results)
    for one in series:
        values = [METRICS[one.metric].write(point.value) for segment in one.segments for point in segment.points]
        assert_in_order([f"{one.label} {one.metric} on {one.machine}", *values], shown)


def test_a_merge_counts_files(finished: Finished, tmp_path: Path) -> None:
    found = document(MergeDocument, "merge", finished.results, "--results", tmp_path)
    assert found.copied > 0
    again = f"{found.copied + found.known} unchanged"
    assert again in text("merge", finished.results, "--results", tmp_path)


def test_verify_lists_every_difference(finished_copy: Path) -> None:
    found = document(VerifyDocument, "verify", "--results", finished_copy)
    assert found.differences == ()
    assert text("verify", "--results", finished_copy).startswith(f"{found.rows} rows")
    table = finished_copy / "table.json"
    assert invoke("table", "--json", "--out", table, "--results", finished_copy).stdout == ""
    rows = msgspec.json.decode(table.read_bytes())
    table.write_bytes(msgspec.json.encode([{**row, "throughput": row["throughput"] * 2} for row in rows]))
    planted = ("verify", "--table", table, "--results", finished_copy)
    differences = document(VerifyDocument, *planted, code=1).differences
    assert text(*planted, code=1).startswith(differences[0])


def test_the_cache_lists_its_entries(finished: Finished) -> None:
    found = document(CacheDocument, "cache", "--kind", "datasets")
    assert found.size_bytes == sum(one.size_bytes for one in found.entries) > 0
    shown = text("cache", "--kind", "datasets")
    assert_in_order([found.folder, *(f"{one.kind}/{one.name}" for one in found.entries)], shown)
    assert f"{found.size_bytes / 2**20:.1f} MB" in shown


def test_doctor_lists_findings_and_measured_ceilings(tmp_path: Path) -> None:
    asked = ("doctor", "--ceiling", "--backend", "reference", "--model", "tiny-cnn", "--results", tmp_path)
    found = document(DoctorDocument, *asked)
    assert found.ceilings
    for one in found.ceilings:
        assert one.ceiling is not None
        assert one.flops_per_second == pytest.approx(one.ceiling.flops_per_second)
        assert one.ceiling.model == "tiny-cnn"
    assert_in_order([one.subject for one in found.findings], text("doctor"))
    assert document(DoctorDocument, "doctor").ceilings == ()


def test_predictions_are_the_same_in_both_forms_and_in_text(finished: Finished, images: Path) -> None:
    asked = ("predict", finished.records[0].artefacts["model"], images / "test" / "red" / "02.png")
    (found,) = document(list[Prediction], *asked)
    assert msgspec.json.decode(invoke(*asked, "--format", "json").stdout, type=list[Prediction]) == [found]
    assert_in_order([repr(found.label), f"{found.confidence:.1%}"], text(*asked))


def test_show_describes_a_model_a_tensor_and_a_dataset(images: Path) -> None:
    model = document(ModelView, "show", "tiny-cnn", "--backend", "reference")
    shown = text("show", "tiny-cnn", "--backend", "reference")
    assert_in_order([f"backbone {model.backbone:,} parameters, head {model.head:,}", f"{model.macs / 1e9:.3f}"], shown)
    name = next(layer.name for layer in model.layers if layer.parameters) + ".weight"
    tensor = document(TensorView, "show", "tiny-cnn", "--backend", "reference", "--tensor", name)
    shown = text("show", "tiny-cnn", "--backend", "reference", "--tensor", name)
    assert_in_order([f"mean {tensor.mean:.6g}", f"standard deviation {tensor.std:.6g}"], shown)
    data = document(DatasetView, "show", images)
    counts = [", ".join(f"{count} {split}" for split, count in counts.items()) for counts in data.classes.values()]
    assert_in_order(["48 train", *counts, data.sha256], text("show", images))
    assert data.images == {"train": 48, "val": 12, "test": 24}


def test_simulate_gives_every_rate_and_what_is_outside_its_limit() -> None:
    asked = ("simulate", "--comparisons", "10")
    code = invoke(*asked).exit_code  # so few comparisons may miss a limit
    found = document(SimulateDocument, *asked, code=code)
    assert bool(found.failures) == (code == 1)
    rates = [f"{100 * one.regressions:.1f} %" for one in (*found.times, *found.accuracies)]
    assert_in_order([*rates, *found.failures], text(*asked, code=code))


def test_selftest_gives_every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = running.Clean(runs=1, messages=())
    trial = running.SinTrial(
        name="a missing update", rule="V07", magnitude="gross", fault="planted: no rule reports it"
    )
    outcome = running.SelftestOutcome(trials=(trial,), clean=clean)
    module = importlib.import_module(cli.command_modules()["selftest"])
    monkeypatch.setattr(module, "in_parts", lambda seed, on_event: [outcome])
    monkeypatch.setattr(module, "SINS", [type("Named", (), {"name": trial.name})])
    found = document(SelftestDocument, "selftest", code=1)
    assert (found.passed, found.detected, found.planted) == (False, 0, 1)
    assert found.outcome.trials == (trial,)
    assert_in_order([trial.fault, f"{found.detected}/{found.planted}"], text("selftest", code=1))


def test_certify_gives_the_levels_and_the_certificate(tmp_path: Path) -> None:
    asked = ("certify", "tiny-cnn", "--backends", "reference", "reference", "--scenario", "full", "--results", tmp_path)
    found = document(CertifyDocument, *asked)
    checks = [f"{check.worst:.2g} of {check.limit:.2g}" for check in found.certificate.checks]
    assert_in_order([*checks, found.file, f"P{found.level}"], text(*asked))


def test_json_has_priority_over_the_format_of_a_comparison(tmp_path: Path, few_pairs: tuple[str, str]) -> None:
    asked = ("compare", *CASE, "--set", "B.batch-size=16", *few_pairs, "--seeds", "0", "--margin", "90%", "--quiet")
    (found,) = document(list[Comparison], *asked, "--format", "markdown", "--results", tmp_path)
    (stored,) = [one.comparison for one in read_comparisons(tmp_path)]
    assert found == stored


def test_noise_gives_comparisons_and_the_resolution_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "read_limits", lambda *given, **fixed: read_limits(*given, **fixed)._replace(pairs=10))
    found = document(NoiseDocument, "noise", *CASE, "--quiet", "--results", tmp_path)
    (comparison,), (resolution,) = found.comparisons, found.resolutions
    assert comparison.label == resolution.label
    assert any(
        f"{100 * value:.1f} %" in line for value in resolution.visible.values() for line in sentences(resolution)
    )


def test_gate_gives_the_document_of_its_file_and_its_exit_code(tmp_path: Path, few_pairs: tuple[str, str]) -> None:
    asked = ("gate", "--base", ROOT, "--suite", suite(tmp_path, "scratch"), "--seeds", "0", "--turn", "0.01")
    more = (*few_pairs, "--margin", "90%", "--quiet", "--results", tmp_path / "results")
    file = tmp_path / "gate.json"
    found = document(GateDocument, *asked, *more, "--json-file", file)
    assert msgspec.json.decode(file.read_bytes(), type=GateDocument) == found
    assert found.exit_code == 0
    assert [one.label for one in found.comparisons] == ["reference/tiny-cnn/scratch"]


def test_explain_gives_the_document_of_its_file(tmp_path: Path) -> None:
    asked = ("explain", "tiny-cnn", *SMALL[:-2], "--scenario", "scratch", "--turn", "0.02", "--threads", "1")
    more = ("--orders", "4", "--set", "B.batch-size=16", "--quiet", "--results", tmp_path)
    file = tmp_path / "explanation.json"
    found = document(Explanation, *asked, *more, "--json-file", file)
    assert msgspec.json.decode(file.read_bytes(), type=Explanation) == found
    assert [one.name for one in found.factors] == ["batch size"]


def test_bisect_gives_the_candidate_and_the_probabilities(tmp_path: Path) -> None:
    sides = [f"--set={side}.warmup-steps={steps}" for side, steps in zip("ABB", (1, 2, 3), strict=True)]
    asked = ("bisect", *CASE, "--margin", "30%", *sides, "--inject-delay", "2=300%", "--quiet", "--results", tmp_path)
    found = document(BisectDocument, *asked, "--measurements", "24")
    assert (found.first_slower, found.before) == ("warmup-steps=3", "warmup-steps=2")
    assert found.change is not None
    assert math.isclose(sum(found.posterior), 1)
    shown = text(*asked, "--measurements", "24")  # from the stored measurements
    assert_in_order(["first slower: warmup-steps=3", f"{100 * found.change:+.1f} %", f"{found.probability:.1%}"], shown)


def test_simulated_searches_are_counted() -> None:
    found = document(Trials, "bisect", "--simulate", "10")
    assert f"{100 * found.right:.1f} % of {found.trials} searches" in text("bisect", "--simulate", "10")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("without_kept_memory")
def test_tune_gives_the_recommendation_and_the_standings(tmp_path: Path, checkpoint: Path) -> None:
    asked = ("tune", *SMALL, "--checkpoint", checkpoint, "--scenario", "freeze-conv", "--minutes", "1", "--quiet")
    result = invoke(*asked, "--json", "--results", tmp_path)
    found = msgspec.json.decode(result.stdout_bytes, type=TuneDocument)
    assert result.exit_code == (0 if found.best else 1)
    (standing,) = found.standings
    assert standing.name == "features=kept"
    assert standing.low <= standing.speed_up <= standing.high
    if found.best:  # on a busy machine so small a case may not be faster
        assert found.best.settings == {"features": "kept"}
        assert found.best.command.endswith("--features kept")
        assert "--json" not in found.best.command


def test_the_document_of_tune_has_the_figures_of_its_text() -> None:
    (selected,) = expand(Selection(backend=("reference",), model=("tiny-cnn",)), read_catalogue())[:1]
    sealed = certificate(build(), build())
    faster = Standing("features=kept", math.log(0.5), math.log(0.4), math.log(0.6), 7, dropped=False)
    slower = Standing("fused=true", 0.2, 0.1, 0.3, 4, dropped=True)
    best = ProvedAcceleration(Acceleration("features=kept", {"features": "kept"}, selected), faster, sealed)
    tuned = Tuned([faster, slower], best, 8.0, 3, {"compile=true": "no compiler"}, {"fused=true": "planted"})
    found = tune_document(tuned, "run")
    shown = "\n".join(tune_lines(tuned, "run"))
    assert found.best is not None
    assert (found.best.train_s, found.plain_s, found.best.pays_from) == (pytest.approx(4.0), 8.0, 3)
    expected = [f"× {found.standings[0].speed_up:.2f}", found.best.certificate[:8], f"P{found.best.level}",
                f"{found.best.train_s:.1f} s instead of {found.plain_s:.1f} s", found.best.command,
                f"{found.standings[1].speed_up:.2f}", str(found.standings[1].unproved), *found.not_tried]  # fmt: skip
    assert_in_order(expected, shown)
    assert tune_document(tuned._replace(best=None, plain_s=math.nan), "run").plain_s is None


@pytest.mark.timeout(300)
def test_advise_gives_the_choice_and_the_standings(images: Path, checkpoint: Path, tmp_path: Path) -> None:
    fast = ("--backend", "reference", "--model", "tiny-cnn", "--image-size", "32", "--epochs", "2", "--quiet")
    asked = ("advise", images, *fast, "--checkpoint", checkpoint, "--steps", "3", "--results", tmp_path)
    found = document(AdviceDocument, *asked)
    assert found.chosen is not None
    assert found.chosen.low <= found.chosen.accuracy <= found.chosen.high
    assert found.runs == 3
    assert [one.state for one in found.standings].count("chosen") == 1
    assert found.standings[0].name == found.chosen.name


def test_a_refused_command_prints_no_document(tmp_path: Path) -> None:
    assert "does not exist" in refused("table", "--json", "--results", tmp_path / "none")
