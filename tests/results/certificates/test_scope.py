"""The scope of a certificate: each field of a case belongs to it, or a proof does not depend on it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from harness.spec import SETTINGS, Case, Scenario, Stage
from results.certificates.certificate import PROVED, Certificate, proved_settings, seal
from results.certificates.scope import NONE_MADE, Subject, batch_sizes, coverage_of, subject_of_case
from tests.harness.settings import another
from tests.results.certificates.test_certificate import KERAS, certificate, check
from tests.results.records import build

INSTALLED = {"pytorch": "torch 2.14.1", "keras3-tensorflow": "keras 3.15.1, tensorflow 2.21.0"}

OUTSIDE = {"backend", "engine", "dataset", "dataset_sha256", "checkpoint", "augment", "reuse_head", "limit", "seed",
           "dropout", "input", "workers", "threads", "warmup_steps", "decoder"}  # fmt: skip
"""Fields of a case that no certificate depends on; each has its reason in `SETTINGS`."""
ARMS = ("backend", "engine")


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
    assert coverage_of(*subjects(case()), [made()]).certificate is not None


def test_a_field_is_outside_the_scope_only_for_a_reason() -> None:
    assert {name for name, setting in SETTINGS.items() if setting.unproved} == OUTSIDE


@pytest.mark.parametrize("field", [name for name in SETTINGS if name not in ARMS])
def test_a_case_that_differs_in_a_field_is_covered_only_if_the_proof_does_not_depend_on_it(field: str) -> None:
    device = "cuda" if field == "device" else "cpu"
    stands = coverage_of(*subjects(case(**{field: another(field)}), device), [made()])
    assert (stands.certificate is not None) == (field in OUTSIDE)
    assert not stands.fell_short


@pytest.mark.parametrize("field", PROVED)
def test_a_certificate_covers_the_settings_it_was_made_with(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = case(**{field: another(field)})
    proof = made(**proved_settings(changed))
    assert coverage_of(*subjects(changed), [proof]).certificate == proof
    assert coverage_of(*subjects(case()), [proof]).reason == f"certificate for another {SETTINGS[field].label}"


def test_a_setting_that_has_no_field_of_its_own_is_kept_in_settings_and_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.certificates.certificate.PROVED", (*PROVED, "workers"))
    monkeypatch.setattr("results.certificates.scope.PROVED", (*PROVED, "workers"))
    old, new = made(), made(**proved_settings(case(workers=2)))
    assert dict(new.settings or {})["workers"] == 2 and b"settings" not in msgspec.json.encode(replace(old, arms=()))
    assert seal(new).sha256 != seal(replace(new, settings={"workers": 3})).sha256
    assert coverage_of(*subjects(case(workers=2)), [new]).certificate == new
    assert coverage_of(*subjects(case()), [old]).certificate == old
    assert coverage_of(*subjects(case(workers=2)), [old]).reason == "certificate for another workers"


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
    covered = coverage_of(*subjects(case(scenario=changed)), [made()]).certificate is not None
    assert covered == (field == "epochs")


@pytest.mark.parametrize("change", [{"start": "random"}, {"head_init": "xavier"}, {"name": "other"}])
def test_what_a_scenario_starts_from_belongs_to_the_scope(change: dict[str, Any]) -> None:
    scenario: Scenario = replace(case().scenario, **change)
    assert coverage_of(*subjects(case(scenario=scenario)), [made()]).certificate is None


def test_a_proof_on_a_cpu_says_nothing_about_a_gpu() -> None:
    on_gpu = subjects(case(device="cuda"), "cuda")
    assert coverage_of(*on_gpu, [made()]).reason == "certificate for another device"


def test_two_rows_that_differ_in_the_scope_have_no_common_certificate() -> None:
    one, other = subjects(case())
    on_gpu = other._replace(scope=other.scope._replace(device="cuda"))
    assert coverage_of(one, on_gpu, [made()]).reason == "different device"


def test_packages_that_the_certificate_does_not_name_do_not_matter_and_those_it_names_do() -> None:
    one, other = subjects(case())
    with_jax = other._replace(packages=f"{other.packages}, jax 0.10.2")
    assert coverage_of(one, with_jax, [made()]).certificate is not None
    older = one._replace(packages="torch 2.13.0")
    assert coverage_of(older, other, [made()]).reason == "certificate for other versions"
    assert coverage_of(one, other._replace(packages=""), [made()]).reason == "certificate for other versions"


def test_a_certificate_that_falls_short_says_where_and_why_and_another_one_may_cover() -> None:
    note = "rounding errors grow 8-fold per step, too fast for a proof over ten steps"
    failing = replace(check(3, "full", passed=False), note=note)
    short = made(checks=(check(0), check(1), check(2), failing))
    stands = coverage_of(*subjects(case()), [short])
    assert stands.fell_short and stands.reason == "P2 only"
    of_rounding = made(checks=(check(0), check(1), check(2), replace(failing, rule="V05", limit=1e-6)))
    assert coverage_of(*subjects(case()), [of_rounding]).reason == "P2 only (rounding)"
    assert coverage_of(*subjects(case()), [short, made()]).certificate == made()


def test_where_nothing_was_made_the_reason_says_so() -> None:
    assert coverage_of(*subjects(case()), []).reason == NONE_MADE


def test_batch_sizes_are_those_of_each_stage() -> None:
    stage = case().scenario.stages[0]
    two = replace(case().scenario, stages=(replace(stage, batch_size=64), stage))
    assert batch_sizes(two) == "64, 16"


FAST = {"features": "kept", "layout": "channels-first"}


def of_one_backend(**changes: Any) -> Subject:
    return subject_of_case(case(**changes), INSTALLED["pytorch"], "cpu")


def accelerated(**settings: Any) -> Certificate:
    versions = {"torch": "2.14.1"}
    return certificate(build(versions=versions), build(versions=versions), accelerated=settings)


def test_a_certificate_of_a_backend_against_itself_covers_its_two_settings_in_both_orders() -> None:
    proof = accelerated(**FAST)
    plain, fast = of_one_backend(), of_one_backend(**FAST)
    assert coverage_of(plain, fast, [proof]).certificate == proof
    assert coverage_of(fast, plain, [proof]).certificate == proof


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        (FAST, FAST),
        ({}, {"features": "kept"}),
        ({}, {"layout": "channels-first"}),
        ({}, {**FAST, "compile": True}),
        ({"layout": "channels-first"}, FAST),
        ({"precision": "bf16"}, {"precision": "bf16", **FAST}),
    ],
)
def test_it_covers_no_other_pair_of_settings(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = coverage_of(of_one_backend(**one), of_one_backend(**other), [accelerated(**FAST)])
    assert (found.certificate, found.fell_short) == (None, False)


def test_a_certificate_of_two_backends_does_not_cover_two_settings_of_one() -> None:
    assert coverage_of(of_one_backend(), of_one_backend(**FAST), [made()]).reason == NONE_MADE
