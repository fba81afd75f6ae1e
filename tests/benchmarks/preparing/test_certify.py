"""Certificates of the reference network: against itself, and against itself with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from backends.reference import network, probe, session
from backends.reference.layers import BatchNorm
from backends.reference.network import ReferenceNetwork
from backends.reference.optimizers import Updates
from backends.reference.probe import ReferenceProbe
from backends.reference.session import ReferenceSession
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.preparing.certify import PreparedRequest, Request, arm_of, prepare
from harness.certifying import conventions, questions
from harness.certifying.questions import rehearse
from harness.data import feed
from harness.data.checkpoint import Normalisation
from harness.spec import Job, Precision
from results.certificates.certificate import Check
from results.certificates.evidence import ArmEvidence, EvidencePair, open_answers
from results.certificates.proof import prove

SCENARIOS = ("full", "two-stage")
Change = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def prepared() -> PreparedRequest:
    catalogue = read_catalogue()
    selection = Selection(
        backend=("reference",), model=("tiny-cnn",), scenario=SCENARIOS, head=("mlp",), recipe="embedded"
    )
    cases = expand(selection, catalogue)
    return prepare(Request((cases, cases), (64,), with_checkpoint=False), catalogue, lambda event: None)


@pytest.fixture(scope="module")
def clean(prepared: PreparedRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArmEvidence, ArmEvidence]:
    return answer(prepared.arms[0], tmp_path_factory.mktemp("clean"))


def answer(jobs: list[Job], folder: Path, *, priced: bool = True) -> tuple[ArmEvidence, ArmEvidence]:
    """One arm in float64 and in float32, without a process of its own."""
    found = []
    precision: Precision
    for precision in ("fp64", "fp32"):
        (folder / precision).mkdir()
        tasks = [replace(job, case=replace(job.case, precision=precision)) for job in jobs]
        facts = rehearse(tasks, [64], str(folder / precision), lambda event: None, priced=priced)
        found.append(open_answers(facts, folder / precision))
    return found[0], found[1]


def checks(
    one: tuple[ArmEvidence, ArmEvidence], other: tuple[ArmEvidence, ArmEvidence], prepared: PreparedRequest
) -> list[Check]:
    pair = EvidencePair((one[0], other[0]), (one[1], other[1]))
    return prove(pair, [job.case.scenario for job in prepared.arms[0]])


def test_a_network_is_equal_to_itself_up_to_the_last_level(
    clean: tuple[ArmEvidence, ArmEvidence], prepared: PreparedRequest, tmp_path: Path
) -> None:
    found = checks(clean, answer(prepared.arms[1], tmp_path), prepared)
    assert [check for check in found if not check.passed] == []
    assert {check.level for check in found} == {0, 1, 2, 3, 4}


def padding_side(patch: pytest.MonkeyPatch) -> None:
    pad = np.pad
    patch.setattr(np, "pad", lambda x, width: pad(x, ((0, 0), (0, 2), (0, 2), (0, 0))))


def epsilon(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BatchNorm, "EPS", 1.1e-5)


def momentum(patch: pytest.MonkeyPatch) -> None:
    declare = ReferenceNetwork.declare

    def other(self: ReferenceNetwork, stage: Any, seed: int) -> Any:
        return declare(self, replace(stage, bn_momentum=stage.bn_momentum * 1.01), seed)

    patch.setattr(ReferenceNetwork, "declare", other)


def through_the_map(patch: pytest.MonkeyPatch, turn: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A map that is its own inverse, wrong both ways: what is read back is what was loaded."""
    load, state = ReferenceSession.load, ReferenceSession.state

    def other_state(self: ReferenceSession) -> Any:
        arrays = turn({t.name: t.array for t in state(self)})
        return (t._replace(array=arrays[t.name]) for t in state(self))

    def other_load(self: ReferenceSession, arrays: Mapping[str, Any]) -> None:
        whole = {t.name: t.array for t in other_state(self)} | dict(arrays)
        load(self, turn(whole))

    patch.setattr(ReferenceSession, "load", other_load)
    patch.setattr(ReferenceSession, "state", other_state)


def kernel_transpose(patch: pytest.MonkeyPatch) -> None:
    def turn(arrays: dict[str, Any]) -> dict[str, Any]:
        return {n: np.ascontiguousarray(a.transpose(0, 1, 3, 2)) if a.ndim == 4 else a for n, a in arrays.items()}

    through_the_map(patch, turn)


def swapped_maps(patch: pytest.MonkeyPatch) -> None:
    one, other = "features.2.1.bias", "features.2.1.running_mean"
    through_the_map(patch, lambda arrays: arrays | {one: arrays[other], other: arrays[one]})


def decay_coupling(patch: pytest.MonkeyPatch) -> None:
    sgd = Updates._sgd

    def decoupled(self: Updates, weight: Any, gradient: Any, slots: Any, rate: float) -> None:
        weight *= 1 - rate * self.stage.weight_decay
        plain = Updates(replace(self.stage, weight_decay=0.0), [])
        sgd(plain, weight, gradient, slots, rate)

    patch.setattr(Updates, "_sgd", decoupled)


def adam_epsilon(patch: pytest.MonkeyPatch) -> None:
    adam = Updates._adam

    def other(self: Updates, weight: Any, gradient: Any, slots: Any, rate: float) -> None:
        rule = replace(self.stage.optimizer, eps=1e-7)
        twin = Updates(replace(self.stage, optimizer=rule), [])
        twin.steps = self.steps
        adam(twin, weight, gradient, slots, rate)

    patch.setattr(Updates, "_adam", other)


def schedule_off_by_one(patch: pytest.MonkeyPatch) -> None:
    right = session.factors
    patch.setattr(session, "factors", lambda *facts: np.roll(right(*facts), 1))


def dropout_left_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReferenceNetwork, "drop_nothing", lambda self: None)


def normalisation(patch: pytest.MonkeyPatch) -> None:
    right = feed.normalise
    other = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.2501))
    for module in (feed, questions):
        patch.setattr(module, "normalise", lambda images, constants, layout: right(images, other, layout))


def label_order(patch: pytest.MonkeyPatch) -> None:
    right = network.cross_entropy
    for module in (session, probe):
        patch.setattr(module, "cross_entropy", lambda logits, labels, smoothing: right(logits, labels[::-1], smoothing))


def head_initialisation(patch: pytest.MonkeyPatch) -> None:
    load = ReferenceSession.load

    def other(self: ReferenceSession, arrays: Mapping[str, Any]) -> None:
        load(self, {name: array + 1e-3 if name == "head.2.bias" else array for name, array in arrays.items()})

    patch.setattr(ReferenceSession, "load", other)


def augmentation(patch: pytest.MonkeyPatch) -> None:
    right = conventions.parse_augment
    patch.setattr(conventions, "parse_augment", lambda name: right("flip:probability=0.9" if name == "flip" else name))


DIFFERENCES: list[tuple[Change, int, str]] = [
    (padding_side, 1, "block 0"),
    (epsilon, 1, "block 0"),
    (momentum, 3, "running_"),
    (kernel_transpose, 1, "block 0"),
    (swapped_maps, 1, "block 2"),
    (decay_coupling, 3, "weight"),
    (adam_epsilon, 3, "two-stage"),
    (schedule_off_by_one, 3, "second arm, step"),
    (dropout_left_on, 2, "loss"),
    (normalisation, 1, "normalised images"),
    (label_order, 2, "loss"),
    (head_initialisation, 0, "head.2.bias"),
    (augmentation, 4, "flip"),
]


@pytest.mark.parametrize(("change", "level", "place"), DIFFERENCES, ids=lambda value: getattr(value, "__name__", None))
def test_each_seeded_difference_fails_at_the_level_that_sees_it_and_names_the_place(
    change: Change,
    level: int,
    place: str,
    clean: tuple[ArmEvidence, ArmEvidence],
    prepared: PreparedRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    change(monkeypatch)
    found = checks(clean, answer(prepared.arms[1], tmp_path), prepared)
    failed = [check for check in found if not check.passed]
    assert failed and failed[0].level == level
    said = [f"{check.scenario} {check.what} {check.where}" for check in failed if check.level == level]
    assert any(place in sentence for sentence in said), said


def test_stand_ins_are_named_and_have_a_cost(
    prepared: PreparedRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    effective = ReferenceSession.effective
    monkeypatch.setattr(ReferenceProbe, "stand_ins", lambda self: {"numpy.mean": "reference.mean"})
    monkeypatch.setattr(
        ReferenceSession, "effective", lambda self: replace(effective(self), settings={"idiom": self.case.idiom})
    )
    wide, narrow = answer(prepared.arms[0], tmp_path)
    assert wide.facts.stand_ins == narrow.facts.stand_ins == {"numpy.mean": "reference.mean"}
    assert narrow.facts.settings == {"idiom": False}  # of what is certified, not of what it was held against
    assert arm_of(prepared.arms[0][0], narrow, wide, read_catalogue()).stand_ins_in_float64 == {}
    cost = narrow.facts.cost
    assert wide.facts.cost is None and cost is not None
    assert cost.scenario == "full" and cost.epochs == 7
    assert 0.2 < cost.stand_ins_s / cost.own_s < 5.0 and 0.5 < cost.ratio < 2.0  # the same code twice
    (tmp_path / "unpriced").mkdir()
    _, unpriced = answer(prepared.arms[0], tmp_path / "unpriced", priced=False)
    assert unpriced.facts.stand_ins == narrow.facts.stand_ins and unpriced.facts.cost is None


def test_what_is_replaced_in_float64_alone_is_named_apart(
    prepared: PreparedRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stand_ins(asked: ReferenceProbe) -> dict[str, str]:
        wide = {"numpy.var": "reference.var"} if asked._session.case.precision == "fp64" else {}
        return {"numpy.mean": "reference.mean", **wide}

    monkeypatch.setattr(ReferenceProbe, "stand_ins", stand_ins)
    wide, narrow = answer(prepared.arms[0][:1], tmp_path)
    arm = arm_of(prepared.arms[0][0], narrow, wide, read_catalogue())
    assert arm.stand_ins == {"numpy.mean": "reference.mean"}
    assert arm.stand_ins_in_float64 == {"numpy.var": "reference.var"}
