"""From findings to a verdict: what counts, what does not, and in which words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from results.storage.comparison import LOOKS, Comparison, Finding, SideFacts, Verdict
from results.verdicts.accuracy_verdict import judge_accuracy
from results.verdicts.conclusion import adjusted, conclude, describe, holm
from results.verdicts.estimate import decide, estimate, judge


def finding(metric: str, verdict: Verdict, change: float = 0.1) -> Finding:
    return Finding(metric=metric, verdict=verdict, change=change, low=change - 0.01, high=change + 0.01, p=0.001,
                   replicates=10, margin=0.03, detectable=0.05)  # fmt: skip


def whole(findings: list[Finding], again: list[Finding] | None = None) -> Comparison:
    sides = (SideFacts(name="A", text="here"), SideFacts(name="B", text="here"))
    return Comparison(name="c", label="a case", sides=sides, findings=tuple(findings),
                      confirmation=tuple(again or ()), verdict="inconclusive")  # fmt: skip


def test_a_regression_counts_only_if_it_is_found_again() -> None:
    slow = finding("throughput", "regression")
    assert conclude(whole([slow], [slow])).verdict == "regression"
    once = conclude(whole([slow], [finding("throughput", "no change", 0.0)]))
    assert once.verdict == "inconclusive"
    assert "not confirmed by a re-run" in once.sentence
    assert conclude(whole([slow]), confirmed=False).verdict == "regression"
    other = finding("process memory", "regression")
    assert conclude(whole([slow, other], [finding("throughput", "no change"), other])).verdict == "regression"


def test_V49_an_arm_that_is_faster_because_it_learned_less_is_a_regression() -> None:
    faster = finding("throughput", "improvement", -0.2)
    less = judge_accuracy([95.0, 95.2, 94.9, 95.1, 95.0], [92.8, 93.1, 93.0, 92.9, 93.2])
    said = conclude(whole([faster, less], [less]))
    assert said.verdict == "regression"
    assert said.sentence.startswith("accuracy -2.0 points")


def test_no_change_needs_every_metric_to_say_so() -> None:
    same, open_ = finding("throughput", "no change", 0.0), finding("accuracy", "inconclusive", 0.0)
    assert conclude(whole([same, finding("process memory", "no change", 0.0)])).verdict == "no change"
    assert conclude(whole([same, open_])).verdict == "inconclusive"


def test_words_say_how_the_metric_itself_changed() -> None:
    assert describe(finding("throughput", "regression", math.log(1.25))).startswith("throughput -20.0 %")
    assert describe(finding("process memory", "regression", math.log(1.25))).startswith("process memory +25.0 %")


def test_p_is_adjusted_over_the_cases_metric_by_metric() -> None:
    cases = [whole([finding("throughput", "no change"), finding("process memory", "no change")]) for _ in range(3)]
    assert [one.findings[0].p_adjusted for one in adjusted(cases)] == [0.003] * 3
    assert holm([0.04]) == [0.04]


@settings(max_examples=25)  # an adjustment takes a tenth of a second
@given(values=st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8), parts=st.integers(1, 4))
def test_p_adjusted_in_parts_is_never_smaller_than_adjusted_together(values: list[float], parts: int) -> None:
    cases = [whole([replace(finding("throughput", "no change"), p=p)]) for p in values]
    together = [one.findings[0].p_adjusted or 0.0 for one in adjusted(cases)]
    for part in range(parts):
        own = cases[part::parts]
        apart = [one.findings[0].p_adjusted or 0.0 for one in adjusted(own, len(cases))]
        assert all(ours >= theirs - 1e-12 for ours, theirs in zip(apart, together[part::parts], strict=True))


ratios = st.lists(st.floats(-0.2, 0.2), min_size=LOOKS[0], max_size=LOOKS[-1])


@given(ratios)
def test_swapping_the_arms_swaps_the_verdict(values: list[float]) -> None:
    there, back = decide(values, 0.03), decide([-value for value in values], 0.03)
    mirrored = {"regression": "improvement", "improvement": "regression"}
    assert back.verdict == mirrored.get(there.verdict, there.verdict)
    assert back.estimate.low == pytest.approx(-there.estimate.high)


@given(ratios, st.floats(1e6, 1e9))
def test_one_absurd_pair_changes_no_estimate_beyond_its_neighbours(values: list[float], absurd: float) -> None:
    honest = sorted(values[1:])
    found = estimate([*values[1:], absurd])
    assert honest[0] - 1e-9 <= found.value <= honest[-1] + 1e-9


@given(ratios, st.floats(0.01, 0.2))
def test_a_wider_margin_never_makes_a_regression(values: list[float], margin: float) -> None:
    found = estimate(values)
    if judge(found, margin) != "regression":
        assert judge(found, margin * 1.5) != "regression"


def test_pairs_between_two_looks_count_for_nothing_and_too_few_are_an_error() -> None:
    draw = np.random.default_rng(0)
    values = (0.03 * draw.standard_normal(LOOKS[-1])).tolist()
    assert decide(values[:14], 0.03) == decide(values[:10], 0.03)
    assert not decide([0.02, -0.02] * 5, 0.001).final
    with pytest.raises(ValueError, match="9 pairs are too few; the first look needs 10"):
        decide(values[:9], 0.03)


def test_accuracy_needs_equivalence_for_no_change_and_two_seeds_for_anything() -> None:
    close = judge_accuracy([95.0, 95.1, 95.0, 94.9, 95.0], [95.0, 95.0, 95.1, 94.9, 95.1])
    assert close.verdict == "no change"
    assert close.detectable > 1.0  # a fall of just a point is at the margin half of the time
    loose = judge_accuracy([95.0, 93.0, 97.0], [94.0, 96.0, 95.0])
    assert loose.verdict == "inconclusive"
    assert loose.detectable > 3.0
    assert judge_accuracy([90.0, 90.0], [90.0, 90.0]).verdict == "no change"
    with pytest.raises(ValueError, match="at least two seeds"):
        judge_accuracy([95.0], [94.0, 95.0])
