"""The scope of a certificate: each field of a case belongs to it, or a proof does not depend on it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.spec import Augmentation, Case, Scenario, Stage
from results.certificates.certificate import Certificate
from results.certificates.scope import NONE_MADE, Subject, batch_sizes, standing, subject_of_case
from tests.results.certificates.test_certificate import KERAS, certificate, check
from tests.results.records import build

INSTALLED = {"pytorch": "torch 2.14.1", "keras3-tensorflow": "keras 3.15.1, tensorflow 2.21.0"}

IN_SCOPE: dict[str, Any] = {
    "model": "resnet34",
    "image_size": 96,
    "checkpoint_sha256": "e" * 64,
    "head": "mlp",
    "device": "cuda",
    "precision": "bf16",
    "layout": "channels-first",
    "compile": True,
    "idiom": True,
}
"""Another value of each field of a case whose change makes the same certificate worthless."""
OUTSIDE = {
    "dataset": "what is proved holds for any images",
    "dataset_sha256": "as dataset; rows of other data are never compared",
    "checkpoint": "a name; the digest counts",
    "augment": "the pixels of both rows are compared by their digests (V28)",
    "reuse_head": "other first values of the head, which are compared by their digests (V08)",
    "limit": "fewer of the same images",
    "seed": "a replicate",
    "dropout": "P4 proves rate, scaling and place; P3 runs without",
    "input": "the pixels of both rows are compared by their digests (V28)",
    "workers": "who decodes, not what",
    "threads": "sums in another order; both rows must have the same number (V37)",
    "warmup_steps": "which steps are timed",
}


def case(**changes: Any) -> Case:
    return replace(build().case, **changes)


def subjects(one: Case, device: str = "cpu") -> tuple[Subject, Subject]:
    other = replace(one, **KERAS)
    return (
        subject_of_case(one, INSTALLED["pytorch"], device),
        subject_of_case(other, INSTALLED["keras3-tensorflow"], device),
    )


def made(**changes: Any) -> Certificate:
    versions = [{"torch": "2.14.1"}, {"keras": "3.15.1", "tensorflow": "2.21.0"}]
    return certificate(build(versions=versions[0]), build(versions=versions[1], **KERAS), **changes)


def test_a_certificate_covers_the_case_it_was_made_for() -> None:
    assert standing(*subjects(case()), [made()]).certificate is not None


def test_every_field_of_a_case_is_in_the_scope_or_has_a_reason_not_to_be() -> None:
    told_apart = {"backend", "engine", "scenario"}
    assert set(Case.__struct_fields__) == set(IN_SCOPE) | set(OUTSIDE) | told_apart


@pytest.mark.parametrize("field", IN_SCOPE)
def test_a_case_that_differs_in_a_field_of_the_scope_is_not_covered(field: str) -> None:
    device = IN_SCOPE[field] if field == "device" else "cpu"
    stands = standing(*subjects(case(**{field: IN_SCOPE[field]}), device), [made()])
    assert stands.certificate is None and stands.reason
    assert not stands.fell_short


@pytest.mark.parametrize("field", OUTSIDE)
def test_a_case_that_differs_in_another_field_is_covered(field: str) -> None:
    other: dict[str, Any] = {
        "dataset": "photos", "dataset_sha256": "f" * 64, "checkpoint": "other.pth", "reuse_head": True, "limit": 3,
        "augment": (Augmentation(name="flip"),), "seed": 7, "dropout": False, "input": "stream", "workers": 2,
        "threads": 4, "warmup_steps": 9,
    }  # fmt: skip
    assert standing(*subjects(case(**{field: other[field]})), [made()]).certificate is not None


@pytest.mark.parametrize("field", Stage.__struct_fields__)
def test_of_a_stage_only_the_number_of_epochs_is_outside_the_scope(field: str) -> None:
    scenario = case().scenario
    stage = scenario.stages[0]
    values: dict[str, Any] = {
        "epochs": 11, "head_lr": 0.5, "backbone_lr": 0.5, "frozen": "backbone", "norm": "batch", "bn_momentum": 0.5,
        "optimizer": replace(stage.optimizer, name="adam"), "schedule": replace(stage.schedule, name="cosine"),
        "weight_decay": 0.5, "label_smoothing": 0.5, "batch_size": 4, "keep": "best",
    }  # fmt: skip
    changed = replace(scenario, stages=(replace(stage, **{field: values[field]}),))
    covered = standing(*subjects(case(scenario=changed)), [made()]).certificate is not None
    assert covered == (field == "epochs")


@pytest.mark.parametrize("change", [{"start": "random"}, {"head_init": "xavier"}, {"name": "other"}])
def test_what_a_scenario_starts_from_belongs_to_the_scope(change: dict[str, Any]) -> None:
    scenario: Scenario = replace(case().scenario, **change)
    assert standing(*subjects(case(scenario=scenario)), [made()]).certificate is None


def test_a_proof_on_a_cpu_says_nothing_about_a_gpu() -> None:
    on_gpu = subjects(case(device="cuda"), "cuda")
    assert standing(*on_gpu, [made()]).reason == "certificate of another device"


def test_two_rows_that_differ_in_the_scope_have_no_common_certificate() -> None:
    one, other = subjects(case())
    assert standing(one, other._replace(scope=other.scope._replace(device="cuda")), [made()]).reason == "other device"


def test_packages_that_the_certificate_does_not_name_do_not_matter_and_those_it_names_do() -> None:
    one, other = subjects(case())
    with_jax = other._replace(packages=f"{other.packages}, jax 0.10.2")
    assert standing(one, with_jax, [made()]).certificate is not None
    older = one._replace(packages="torch 2.13.0")
    assert standing(older, other, [made()]).reason == "certificate of other versions"
    assert standing(one, other._replace(packages=""), [made()]).reason == "certificate of other versions"


def test_a_certificate_that_falls_short_says_where_and_why_and_another_one_may_cover() -> None:
    note = "rounding grows 8-fold a step, too fast for a proof over ten steps"
    failing = replace(check(3, "full", passed=False), note=note)
    short = made(checks=(check(0), check(1), check(2), failing))
    stands = standing(*subjects(case()), [short])
    assert stands.fell_short and stands.reason == "P2 only"
    of_rounding = made(checks=(check(0), check(1), check(2), replace(failing, rule="V05", limit=1e-6)))
    assert standing(*subjects(case()), [of_rounding]).reason == "P2 only (rounding)"
    assert standing(*subjects(case()), [short, made()]).certificate == made()


def test_where_nothing_was_made_the_reason_says_so() -> None:
    assert standing(*subjects(case()), []).reason == NONE_MADE


def test_batch_sizes_are_those_of_each_stage() -> None:
    stage = case().scenario.stages[0]
    two = replace(case().scenario, stages=(replace(stage, batch_size=64), stage))
    assert batch_sizes(two) == "64, 16"
