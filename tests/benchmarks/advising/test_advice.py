"""The text of `advise`, from made-up outcomes."""

from __future__ import annotations

from typing import Any

from benchmarks.advising.advice import Advice, Images, TwinScore, lines, percent
from benchmarks.advising.document import document
from benchmarks.advising.interval import score
from benchmarks.advising.policy import PROBE, Contender, RaceResult, Ranked

BEST, NEAR, FAR = (
    Contender("m with pytorch", "full", 2),
    Contender("m with pytorch", PROBE, 2),
    Contender("n with pytorch", "full", 0),
)
NAMES = {BEST: "full of m with pytorch", NEAR: "the probe", FAR: "full of n with pytorch, stopped after 6 epochs"}
IMAGES = Images("photos", 49, 153, "bees", 83 / 153, held_out=True)


def text(*standings: Ranked, accuracy: float = 0.92, **facts: Any) -> str:
    return "\n".join(lines(advice(*standings, accuracy=accuracy, **facts)))


def advice(*standings: Ranked, accuracy: float = 0.92, **facts: Any) -> Advice:
    not_tried = {"full of o": "it needs o.pth", "probe of o": "it needs o.pth"}
    chosen: dict[str, Any] = {
        "images": IMAGES,
        "choice": RaceResult(standings, not_tried, {"probes": 60.4, "race": 300.0}),
        "score": score([accuracy], 153) if standings else None,
        "seeds": 1,
        "others": [],
        "names": NAMES,
        "twins": (),
        "several_backends": False,
        "before_s": 12.0,
        "spent_s": 580.0,
        "limit": "10 min",
        "runs": 9,
        "command": "run it",
    }
    return Advice(**{**chosen, **facts})


def standing(contender: Contender, distance: float, training_s: float = 80.0) -> Ranked:
    return Ranked(contender, 0.9, training_s, 2, distance)


def test_the_answer_is_first_and_the_command_last() -> None:
    first, *_, last = text(standing(BEST, 0)).splitlines()
    assert first == (
        "On photos, the best accuracy within 10 min was full of m with pytorch: 92.0 % (95 % interval 86.0–96.5) on "
        "153 test images that did not choose it, after 80.0 s of training (1 seed)."
    )
    assert last == "  run it"


def test_cases_that_cannot_be_told_apart_are_counted_and_the_fastest_is_named() -> None:
    said = text(standing(BEST, 0), standing(NEAR, 1.0, 2.0), standing(FAR, 3.0))
    assert "On the validation images (49 in each run) it cannot be told from 1 other case; the fastest of these" in said
    assert "  the probe: 90.0 % of validation images, 2.00 s, 2 runs, cannot be told from it" in said
    assert (
        "  full of n with pytorch, stopped after 6 epochs: 90.0 % of validation images, 80.0 s, 2 runs, worse" in said
    )


def test_a_clear_leader_is_said_to_be_better() -> None:
    assert "every other case is worse by more than they resolve" in text(standing(BEST, 0), standing(FAR, 3.0))


def test_an_accuracy_that_the_largest_class_reaches_is_said() -> None:
    assert "It cannot be told from always answering 'bees', which is right for 54.2 %" in text(
        standing(BEST, 0), accuracy=0.6
    )
    assert "always answering" not in text(standing(BEST, 0))


def test_cases_within_the_resolution_of_the_test_images_are_counted() -> None:
    said = text(standing(BEST, 0), others=[0.9, 0.95, 0.99, 0.5])
    assert (
        "The resolution of 153 test images is ± 4.3 points; 2 of 4 other measured cases within it, 1 better by more"
        in said
    )


def test_what_was_not_tried_and_the_budget_are_listed() -> None:
    said = text(standing(BEST, 0))
    assert "  not tried, because it needs o.pth: full of o, probe of o" in said
    assert "Spent: 9 runs in 580 s of at most 10 min (preparation 12 s, probes 60 s, race 300 s)." in said


def test_without_a_measured_case_it_cannot_be_told() -> None:
    said = text()
    assert said.startswith("On photos, it cannot be told which case is best: nothing was measured within 10 min.")
    assert "it needs o.pth: full of o" in said


def test_another_framework_is_named_with_its_certificate_or_without_its_time() -> None:
    twin = TwinScore("m with keras3-jax", 0.91, 70.0, "abcd1234, P4")
    said = text(standing(BEST, 0), twins=(twin,))
    assert "With keras3-jax the same case reached 91.0 % after 70.0 s (certificate abcd1234, P4)." in said
    assert "their times are not" in text(standing(BEST, 0), several_backends=True)


def test_a_score_on_the_images_that_chose_is_called_optimistic() -> None:
    said = text(standing(BEST, 0), images=IMAGES._replace(held_out=False))
    assert "153 validation images, which chose it" in said
    assert "the score is optimistic" in said


def test_the_document_has_the_figures_of_the_text() -> None:
    twin = TwinScore("m with keras3-jax", 0.91, 70.0, "abcd1234, P4")
    made = advice(standing(BEST, 0), standing(NEAR, 1.0, 2.0), standing(FAR, 3.0), twins=(twin,))
    found, said = document(made), "\n".join(lines(made))
    assert found.chosen is not None
    bounds = "–".join(percent(value) for value in (found.chosen.low, found.chosen.high))
    assert f"{found.chosen.name}: {percent(found.chosen.accuracy)} % (95 % interval {bounds})" in said
    for one in found.standings:
        assert f"  {one.name}: {percent(one.val_accuracy)} % of validation images, " in said
        assert f"{one.runs} runs, {one.state}\n" in said
    assert f"{percent(found.twins[0].accuracy)} % after {found.twins[0].train_s:.1f} s" in said
    assert all(reason in said and name in said for name, reason in found.not_tried.items())
    assert f"preparation {found.preparation_s:.0f} s, probes {found.spent['probes']:.0f} s" in said
    assert document(advice()).chosen is None
