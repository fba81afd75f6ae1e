"""The policy of `advise` on made-up problems and on small fields."""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks.advising.interval import score
from benchmarks.advising.policy import NO_TIME, PROBE, REPLICATES, Advising, Contender, Trial
from benchmarks.advising.simulated import WAYS, Played, SimulatedField, problem
from harness.errors import Declined

PROBLEMS = 60


class Fixed:
    """A field with fixed accuracies; every run costs 1. A contender without an accuracy is declined."""

    rungs = 3
    safety = 1.0

    def __init__(self, accuracies: dict[tuple[str, str], float], total: float, images: int = 200) -> None:
        self._accuracies, self.total, self._images = accuracies, total, images
        self.networks: tuple[str, ...] = tuple(dict.fromkeys(network for network, _ in accuracies))
        self.methods: tuple[str, ...] = tuple(dict.fromkeys(method for _, method in accuracies if method != PROBE))
        self.ran: list[tuple[Contender, int]] = []

    def left(self) -> float:
        return self.total - len(self.ran)

    def guess(self, contender: Contender) -> float:
        return 1.0

    def run(self, contender: Contender, replicate: int) -> Trial:
        if self._accuracies.get(contender[:2], 0.0) == 0.0:
            raise Declined("needs a file")
        self.ran.append((contender, replicate))
        accuracy = self._accuracies[contender[:2]] - 0.05 * (self.rungs - 1 - contender.rung)
        return Trial(accuracy, 1 - accuracy, 1.0, 1.0)

    def images(self, replicates: int) -> int:
        return self._images


@pytest.fixture(scope="module")
def played() -> dict[str, list[Played]]:
    return {name: [way(problem(seed), seed) for seed in range(PROBLEMS)] for name, way in WAYS.items()}


def test_its_regret_is_smaller_than_that_of_the_grid_and_of_random_search(played: dict[str, list[Played]]) -> None:
    regrets = {name: fmean(one.regret for one in found) for name, found in played.items()}
    assert regrets["advise"] < min(regrets["grid in order"], regrets["random search"])


def test_the_interval_holds_and_the_choice_is_within_the_resolution(played: dict[str, list[Played]]) -> None:
    assert fmean(one.holds for one in played["advise"]) >= 0.9
    assert fmean(one.near for one in played["advise"]) >= 0.85


def test_the_budget_is_kept(played: dict[str, list[Played]]) -> None:
    assert max(one.used for one in played["advise"]) <= 1.1


def test_the_same_field_gives_the_same_choice() -> None:
    first, second = (Advising(SimulatedField(problem(5), 5)).choose() for _ in range(2))
    assert first == second


def test_a_clear_leader_is_told_apart_with_few_runs() -> None:
    field = Fixed({("a", PROBE): 0.9, ("a", "full"): 0.95, ("b", PROBE): 0.5, ("b", "full"): 0.55}, 50, images=2_000)
    choice = Advising(field).choose()
    assert choice.leader is not None
    assert choice.leader.contender == Contender("a", "full", 2)
    assert choice.leader.runs == 2
    assert choice.rivals == ()
    assert choice.not_tried == {"fine-tuning of b": "its linear probe is worse"}
    assert len(field.ran) < 10


def test_equal_cases_are_not_told_apart_and_the_race_ends() -> None:
    field = Fixed({(n, m): 0.8 for n in "ab" for m in (PROBE, "full")}, 100)
    choice = Advising(field).choose()
    assert len(choice.rivals) == 3
    assert all(one.runs == REPLICATES for one in choice.standings)
    assert len(field.ran) < 100


def test_where_everything_is_declined_there_is_no_leader_but_the_reasons() -> None:
    choice = Advising(Fixed({("a", PROBE): 0.0, ("a", "full"): 0.0}, 50)).choose()
    assert choice.leader is None
    assert choice.not_tried == {"probe of a": "needs a file", "full of a": "needs a file"}


def test_a_network_whose_features_cannot_be_kept_still_races() -> None:
    choice = Advising(Fixed({("a", PROBE): 0.0, ("a", "full"): 0.7}, 50)).choose()
    assert choice.leader is not None
    assert choice.leader.contender.method == "full"


@pytest.mark.parametrize("total", [0, 1, 2, 3, 5, 8])
def test_nothing_begins_that_does_not_fit(total: int) -> None:
    field = Fixed({(n, m): 0.8 for n in "ab" for m in (PROBE, "full", "other")}, total)
    choice = Advising(field).choose()
    assert len(field.ran) <= total
    assert (choice.leader is None) == (total == 0)
    assert total >= 2 or NO_TIME in choice.not_tried.values()


def test_one_network_and_one_method_get_an_answer() -> None:
    choice = Advising(Fixed({("a", PROBE): 0.6, ("a", "full"): 0.9}, 50)).choose()
    assert [one.contender.method for one in choice.standings] == ["full", PROBE]


def test_replicates_have_different_numbers() -> None:
    field = Fixed({("a", PROBE): 0.8, ("a", "full"): 0.8}, 50)
    Advising(field).choose()
    assert len(set(field.ran)) == len(field.ran)


def test_the_interval_is_wider_than_that_of_the_images_alone() -> None:
    one, five = score([0.9], 153), score([0.9] * 5, 153)
    assert one.low < five.low < 0.9 < five.high < one.high <= 1.0
    assert score([1.0], 10).high == 1.0
    assert score([0.0], 10).low == 0.0
