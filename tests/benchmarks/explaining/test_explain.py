"""`explain` on the reference backend: planted delays by the real clock, the text, the JSON, and what is stored."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

import benchmarks.explaining.explain as explain_module
from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.commands.measuring.explain import lines
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.comparison_run import open_comparison_run
from benchmarks.comparing.sides import read_sides
from benchmarks.explaining.explain import Limit, Pairs, explain, same_work
from benchmarks.explaining.factors import FactorSet, Switched
from harness.running.evaluate import TRAIN_SAMPLE
from harness.spec import Case
from results.certificates.scope import NONE_MADE
from results.explanations.explanation import SameWork, read_explanations
from results.verdicts.stored_comparisons import read_comparisons
from tests.benchmarks.commanding import QUICK, endings, invoke, refused
from tests.harness.cases import write_tiny
from tests.results.explanations.explained import explanation

SHORT = ("--scenario", "scratch", "--turn", "0.02", "--threads", "1", "--orders", "4", "--order-seed", "1", "--quiet")
TINY = ("explain", "tiny-cnn", *QUICK, *SHORT)


def planted(catalogue: Catalogue) -> FactorSet:
    """Two factors whose delays add up, so that each is a smaller share of a longer step: an interaction."""
    common = {"backend": ("reference",), "model": ("tiny-cnn",), "image_size": (32,), "batch_size": (8,), "epochs": 1,
              "augment": ("none",), "scenario": ("scratch",), "threads": (1,)}  # fmt: skip
    found = FactorSet(read_sides((), (), (), ("B=50%",), catalogue), common, catalogue)
    (one,) = found.factors
    found.factors = [replace(one, name="one"), replace(one, name="two", delays=(0.0, 2.0))]
    return found


def test_delays_planted_in_real_processes_come_back(tmp_path: Path) -> None:
    catalogue = read_catalogue()
    factors, limits = planted(catalogue), Limits(turn_s=0.05)
    with open_comparison_run(tmp_path, limits, catalogue, order_seed=1, quiet=True) as run:
        found = explain(factors, run, catalogue, tmp_path, None, Limit(0.0, orders=4))
    true = [(math.log(1.5) + math.log(3.5 / 3)) / 2, (math.log(3) + math.log(3.5 / 1.5)) / 2]
    for share, log in zip(found.shares.factors, true, strict=True):
        # A delay is at least as long as planted; on a busy machine, a long step is also interrupted more often.
        # An interval of 95 % misses once in twenty, three times its width does not. `test_shares` counts the misses.
        middle, half = share.log_speed_up.value, share.log_speed_up.high - share.log_speed_up.value
        assert -middle > log - 3 * half
        assert half < 1
    assert found.shares.factors[1].log_speed_up.value < found.shares.factors[0].log_speed_up.value
    assert found.same_work.proved
    pairs = [pair for stored in read_comparisons(tmp_path) for pair in stored.pairs]
    assert len(pairs) == found.pairs >= 12
    assert sum(pair.counts for pair in pairs) == 12
    assert {pair.comparison for pair in pairs} == {
        f"explain reference/tiny-cnn/scratch: {names}"
        for names in (
            "A | B",
            "A | A with one of B",
            "A with one of B | B",
            "A | A with two of B",
            "A with two of B | B",
        )
    }


def test_the_command_prints_the_answer_first_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "explanation.json"
    result = invoke(*TINY, "--set", "B.batch-size=16", "--results", tmp_path / "results", "--json-file", file)
    assert result.exit_code == 0, result.output
    answer, why, work, *_ = result.stdout.splitlines()
    assert answer.startswith("reference/tiny-cnn/scratch: ")
    assert why == "They differ in one factor, batch size, which is the whole difference."
    assert work == "Equivalence is not certified (no certificate), so the shares are of speed only."
    assert "interaction: none, with one factor" in result.stdout
    stored = json.loads(file.read_text())
    assert [factor["name"] for factor in stored["factors"]] == ["batch size"]
    assert stored["shares"]["orders"] == 4
    assert endings(tmp_path / "results") == ["done"]


def test_an_environment_is_a_factor_beside_a_setting_and_its_versions_are_named(
    tmp_path: Path, upgraded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def measure(self: Pairs, before: Switched, after: Switched) -> float:
        a, b = self.prepared(before, after).sides
        seen.extend((side.place.python, side.job.case.input) for side in (a, b))
        self.number += 1
        return 0.1 * len(after - before)

    monkeypatch.setattr(Pairs, "measure", measure)
    sides = ("--python", f"B={upgraded}", "--set", "B.input=stream")
    result = invoke(*TINY, *sides, "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    assert "Equivalence is not certified (different versions: numpy " in result.stdout
    assert f"{sys.executable} → {upgraded}" in result.stdout
    both = sys.executable, str(upgraded)
    assert set(seen) == {(python, input) for python in both for input in ("arrays", "stream")}
    (stored,) = read_explanations(tmp_path / "results")
    assert [one.name for one in stored.factors] == ["input", "environment"]
    assert [one.pythons for one in stored.factors] == [("", ""), ("", str(upgraded))]


def test_whole_runs_have_evaluation_and_kept_features_as_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_module, "LEAST_BLOCKS", 1)
    catalogue = read_catalogue()
    common = {"backend": ("reference",), "model": ("tiny-cnn",), "image_size": (32,), "batch_size": (8,), "epochs": 2,
              "augment": ("none",), "scenario": ("freeze-conv",), "threads": (1,),
              "checkpoint": (str(write_tiny(tmp_path / "tiny.safetensors")),)}  # fmt: skip
    specs = read_sides((), (), ("B.features=kept",), (), catalogue)
    factors = FactorSet(specs, common, catalogue, whole=True, samples={"B": 8})
    assert {one.name: one.texts for one in factors.factors} == {
        "features": ("live", "kept"), "evaluation": (f"{TRAIN_SAMPLE} images", "8 images"),
    }  # fmt: skip
    with open_comparison_run(tmp_path, Limits(), catalogue, order_seed=1, quiet=True) as run:
        found = explain(factors, run, catalogue, tmp_path, None, Limit(0.0, orders=2))
    assert found.whole
    assert found.pairs == 6
    runs = [stored.processes for stored in read_comparisons(tmp_path)]
    measured = []
    for both in runs:
        totals = {one.side: one.record.total_s for one in both}
        measured.append(math.log(totals["A"] / totals["B"]))
    assert len(measured) == found.pairs
    sides = {(one.record.case.features, one.record.stages[0].train_sample) for both in runs for one in both}
    assert sides == {("live", 64), ("kept", 64), ("live", 8), ("kept", 8)}
    direct = [value for value, both in zip(measured, runs, strict=True) if "A | B," in both[0].comparison]
    assert found.shares.direct.value == pytest.approx(sum(direct) / 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "A and B are the same"),
        (("--train-sample", "B=8"), "turns of steps have no evaluation; use it with --whole-runs"),
        (("--whole-runs", "--train-sample", "B=all"), "all is not a number of images; write A=512"),
        (("--whole-runs", "--train-sample", "C=8"), "C is not a side"),
        (("--whole-runs", "--stage", "1"), "whole runs have all stages"),
        (("--whole-runs", "--inject-delay", "B=5%"), "only steps can be delayed"),
        (("--python", f"A={sys.executable}"), "A and B are the same"),
        (("--set", "B.colour=red"), "no setting colour"),
        (("--inject-delay", "B=fast"), "is not a percentage"),
        (("--stage", "2", "--set", "B.batch-size=16"), "--stage 2: scratch has 1 stage"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in refused(*TINY, *arguments, "--results", tmp_path)


def test_a_model_that_no_backend_has_is_refused_with_similar_names(tmp_path: Path) -> None:
    line = refused("explain", "tiny-cn", *QUICK, *SHORT, "--results", tmp_path, "--set", "B.batch-size=16")
    assert "no model tiny-cn (did you mean tiny-cnn?)" in line


def test_a_side_that_cannot_run_here_ends_with_3_and_the_reason(tmp_path: Path) -> None:
    result = invoke(*TINY, "--set", "B.compile=true", "--results", tmp_path)
    assert result.exit_code == 3
    assert "side B: the reference backend has no compiler" in result.stderr
    assert endings(tmp_path) == ["failed"]


def test_the_text_of_a_clear_answer() -> None:
    assert list(lines(explanation(0.1, 0.3, 0.0))) == [
        "pytorch/resnet18/full: B is × 1.492 (95 % interval 1.477–1.507) faster than A.",
        "The factors beyond the noise, the largest first: fused × 1.35 (75%), layout × 1.11 (25%).",
        "Both sides did the same work (certificate 12345678, P4).",
        "",
        "factor   A → B      speed ×  95 % interval  share  95 % interval  over orders\n"
        "layout   old → new    1.105    1.094–1.116    25%     24% to 26%        noise\n"
        "fused    old → new    1.350    1.336–1.363    75%     74% to 76%        noise\n"
        "threads  old → new    1.000    0.990–1.010     0%      -1% to 1%        noise",
        "",
        "interaction: the order changes no share beyond the noise (p 0.5)",
        "unexplained: × 1.000 (95 % interval 0.990–1.010) of B over A measured directly, within the noise",
        "4 orders, 20 pairs of processes, 2.0 min; the noise of a pair is 2.0% (7 degrees of freedom)",
    ]


def test_a_slower_side_an_interaction_and_a_rest_are_said() -> None:
    text = list(lines(explanation(-0.3, -0.1, rest=0.2, p=0.001)))
    assert text[0] == "pytorch/resnet18/full: B is × 1.492 (95 % interval 1.477–1.507) slower than A."
    assert "± 5.1%" in text[4]
    assert "interaction: a share depends on the order, by ± 5.1% on average (p 0.001)" in text
    assert "unexplained: × 1.221 (95 % interval 1.209–1.234) of B over A measured directly, beyond the noise" in text


def test_factors_that_cancel_are_named_although_no_side_is_faster() -> None:
    text = list(lines(explanation(0.2, -0.2)))
    assert "it cannot be told which side is faster" in text[0]
    assert text[1] == "The factors beyond the noise, the largest first: layout × 1.22, fused × 0.82."
    assert "No factor alone is beyond the noise." in list(lines(explanation(0.0, 0.0)))


def test_factors_that_cannot_be_separated_are_said_with_the_reason() -> None:
    found = explanation(0.2)
    united = replace(found, factors=(replace(found.factors[0], name="framework + fused", reason="no such kernels"),))
    said = "framework + fused are one factor, because a combination cannot run: no such kernels"
    assert said in list(lines(united))


def test_equal_work_needs_a_proof_unless_no_number_changes(tmp_path: Path) -> None:
    catalogue = read_catalogue()
    case = FactorSet(read_sides((), (), (), ("B=5%",), catalogue), {"backend": ("reference",), "model": ("tiny-cnn",)},
                   catalogue).corner(frozenset()).selected.case  # fmt: skip

    def said(other: Case) -> SameWork:
        return same_work((case, other), catalogue, tmp_path)

    assert said(replace(case, threads=case.threads + 1)) == SameWork(proved=True)
    assert said(replace(case, precision="fp64")).reason == NONE_MADE
    assert said(replace(case, input="stream")) == SameWork(proved=True)
    assert said(replace(case, input="native")).reason == "different pixels, because the input pipeline is native"
    assert said(replace(case, dropout=False)).reason == "different dropout"
    assert said(replace(case, augment=())).reason == "different augment"
    assert said(replace(case, idiom=True)).reason.startswith("native defaults are other")
