"""The settings that differ between two sides are the factors; what cannot be separated is one factor."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.comparing.sides import read_sides
from benchmarks.explaining.factors import FactorSet, Switched, inseparable, subsets
from harness.errors import Declined, Refused
from harness.running.evaluate import TRAIN_SAMPLE

CATALOGUE = read_catalogue()
BOTH = {"model": ("resnet18",)}
RESNET = {"model": ("resnet18",), "backend": ("pytorch",)}


def factors(*settings: str, common: dict[str, Any] = RESNET, delays: tuple[str, ...] = ()) -> FactorSet:
    return FactorSet(read_sides((), (), settings, delays, CATALOGUE), common, CATALOGUE)


def texts(found: FactorSet) -> dict[str, tuple[str, str]]:
    return {factor.name: factor.texts for factor in found.factors}


def test_each_setting_that_differs_is_a_factor_with_its_two_values() -> None:
    found = factors(
        "A.native-defaults=true", "A.layout=channels-first", "B.threads=2", "A.threads=1", "B.precision=bf16",
        delays=("B=5%",),
    )  # fmt: skip
    assert texts(found) == {
        "native layers": ("on", "off"),
        "layout": ("channels-first", "channels-last"),
        "threads": ("1", "2"),
        "precision": ("fp32", "bf16"),
        "optimizer rule": ("own", "matched"),
        "injected delay": ("0%", "5%"),
    }


def test_the_optimizer_as_shipped_is_a_factor_apart_from_the_layers_as_shipped() -> None:
    keras = {"model": ("mobilenet-v2-0.35",), "backend": ("keras3",)}
    found = factors("B.native-defaults=true", common=keras)
    assert texts(found) == {"native layers": ("off", "on"), "optimizer rule": ("matched", "own")}
    cases = {switched: found.corner(switched).selected.case for switched in subsets(2)}
    assert [(one.idiom, one.own_optimizer) for one in cases.values()] == [
        (False, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip
    assert [one.optimizer_rule for one in cases.values()] == ["auto", "matched", "own", "auto"]


def test_the_two_parts_of_native_defaults_count_as_one_of_the_six_factors() -> None:
    five = ("B.threads=9", "B.layout=channels-first", "B.compile=true", "B.precision=bf16", "B.bn-mode=batch")
    assert len(factors("B.native-defaults=true", *five).factors) == 7


def test_evaluation_is_a_factor_if_the_numbers_of_images_differ() -> None:
    specs = read_sides((), (), ("B.threads=9",), (), CATALOGUE)
    same = FactorSet(specs, RESNET, CATALOGUE, whole=True, samples={"A": TRAIN_SAMPLE})
    assert list(texts(same)) == ["threads"]
    found = FactorSet(specs, RESNET, CATALOGUE, whole=True, samples={"A": 7, "B": 8})
    assert texts(found)["evaluation"] == ("7 images", "8 images")
    assert [found.corner(switched).train_sample for switched in subsets(2)] == [7, 7, 8, 8]


def test_a_side_that_names_its_optimizer_rule_keeps_it() -> None:
    keras = {"model": ("mobilenet-v2-0.35",), "backend": ("keras3",)}
    found = factors("B.native-defaults=true", common={**keras, "optimizer_rule": "matched"})
    assert texts(found) == {"native defaults": ("off", "on")}
    assert not found.corner(found.all).selected.case.own_optimizer


def test_a_setting_with_the_same_value_on_both_sides_is_no_factor() -> None:
    found = factors("B.layout=channels-last", "A.fused=true", "B.fused=true", "B.compile=true")
    assert list(texts(found)) == ["compile"]
    assert found.corner(frozenset()).selected.case.fused
    assert texts(factors("B.compile=true", common={**RESNET, "compile": False})) == {"compile": ("off", "on")}


def test_a_combination_is_the_case_with_some_factors_of_b() -> None:
    found = factors("A.layout=channels-first", "B.compile=true", "B.batch-size=8", delays=("A=5%",))
    case, _, delay, python, _ = found.corner(frozenset({1, 3}))
    assert (case.case.layout, case.case.compile, delay, python) == ("channels-first", True, 0.0, None)
    assert case.case.scenario.stages[0].batch_size != 8
    assert found.corner(frozenset()).delay == 0.05
    assert found.name(frozenset()) == "A"
    assert found.name(frozenset({1, 3})) == "A with compile, injected delay of B"
    assert found.name(found.all) == "B"


def test_backend_and_engine_are_one_factor() -> None:
    found = factors("A.backend=pytorch", "B.backend=keras3", "B.engine=jax", "B.threads=9", common=BOTH)
    assert texts(found)["framework"] == ("pytorch", "keras3-jax")
    assert len(found.factors) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), "A and B are the same"),
        (("B.layout=channels-last",), "A and B are the same"),
        (("B.colour=red",), "no setting colour"),
        (("B.threads=many",), "many is not a value of threads"),
        (("C.threads=2",), "C is not a side"),
        (("B.scenario=scratch",), "scenario must be the same on both sides; write --scenario scratch"),
        (("B.model=resnet34",), "model must be the same on both sides; write MODEL"),
        (("A.image-size=64",), "image-size must be the same on both sides; write --image-size 64"),
        (("B.data=elsewhere",), "data must be the same on both sides"),
        (("B.features=kept",), "kept features are computed between epochs, .+ measure --whole-runs"),
        (("B.backend=keras3", "B.engine=theano"), "no engine theano"),
        (
            ("B.threads=9", "B.layout=channels-first", "B.compile=true", "B.fused=true", "B.precision=bf16",
             "B.bn-mode=batch", "B.batch-size=4"),
            r"A and B differ in 7 factors \(threads, .+\), and at most 6",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_sides_that_cannot_be_explained_are_refused_with_a_remedy(settings: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused, match=said):
        factors(*settings)


def test_several_cases_are_refused() -> None:
    with pytest.raises(Refused, match=r"one case for each side, not 2 .+choose it with --backend"):
        factors("B.compile=true", common=BOTH)


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
def test_native_defaults_are_one_factor_where_the_frameworks_own_rule_is_the_matched_one() -> None:
    found = factors("A.native-defaults=true", "B.threads=9")
    found.group(found.declined())
    assert texts(found) == {"threads": (str(found.corner(frozenset()).selected.case.threads), "9"),
                            "native defaults": ("on", "off")}  # fmt: skip
    assert not any(factor.reason for factor in found.factors)


@pytest.mark.skipif(not (find_spec("torch") and find_spec("tensorflow")), reason="torch or tensorflow is not installed")
def test_a_setting_that_one_backend_has_not_is_one_factor_with_the_framework() -> None:
    found = factors("A.backend=pytorch", "B.backend=keras3", "A.fused=true", "A.batch-size=4", common=BOTH)
    found.group(found.declined())
    united = {factor.name: factor for factor in found.factors}
    assert set(united) == {"batch size", "framework + fused"}
    assert united["framework + fused"].texts == ("pytorch, on", "keras3-tensorflow, off")
    assert united["framework + fused"].reason.startswith("Keras' optimizers have no choice of kernels")
    assert not any(found.corner(switched).selected.case.fused for switched in (found.all, frozenset({1})))


def test_a_side_that_cannot_run_is_declined_with_its_name() -> None:
    found = factors("B.compile=true", common={"model": ("tiny-cnn",), "backend": ("reference",)})
    with pytest.raises(Declined, match="side B: the reference backend has no compiler"):
        found.group(found.declined())


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(list(subsets(n)))))))
def test_whatever_is_declined_every_combination_of_the_parts_runs(drawn: tuple[int, set[Switched]]) -> None:
    count, declined = drawn
    declined -= {frozenset(), frozenset(range(count))}
    parts = [part for part, _ in inseparable(count, dict.fromkeys(declined, "a reason"))]
    assert sorted(itertools.chain(*parts)) == list(range(count))
    for chosen in subsets(len(parts)):
        assert frozenset().union(*(parts[number] for number in chosen)) not in declined


def test_nothing_is_united_if_everything_runs() -> None:
    assert [reason for _, reason in inseparable(4, {})] == [""] * 4
