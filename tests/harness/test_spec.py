from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import NODEFAULT
from msgspec.structs import replace

from harness import spec
from harness.spec import (
    SETTINGS,
    Case,
    Job,
    Optimizer,
    Scenario,
    Schedule,
    Setting,
    Stage,
    hashed_fields,
    key,
    version,
)  # fmt: skip
from tests.harness.settings import another

STAGE = Stage(epochs=2, head_lr=0.1, backbone_lr=0.01)
CASE = Case(
    backend="reference",
    model="tiny-cnn",
    scenario=Scenario(name="own", explanation="of a test", stages=(STAGE,)),
    dataset="tiny",
    dataset_sha256="d" * 64,
    image_size=32,
)
OTHERS = [name for name in Case.__struct_fields__ if name != "seed"]


def test_digests_of_a_case_stay_what_they_were() -> None:
    assert (version(CASE), key(CASE)) == ("c84e15ba46066b4c", "b680758de31f2b1c"), (
        "stored runs are told apart by these; a field that is new is `added` in its setting"
    )


@pytest.mark.parametrize("field", OTHERS)
def test_V52_every_field_that_changes_what_a_number_means_changes_the_version(field: str) -> None:
    other = replace(CASE, **{field: another(field)})
    assert version(other) != version(CASE)
    assert key(other) != key(CASE)


@pytest.mark.parametrize("field", [name for name, setting in SETTINGS.items() if setting.default is not NODEFAULT])
def test_a_field_that_is_added_later_is_in_no_digest_while_it_has_its_default(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, other = version(CASE), version(replace(CASE, **{field: another(field)}))
    monkeypatch.setattr(spec, "SETTINGS", {**SETTINGS, field: SETTINGS[field]._replace(added=True)})
    assert field not in hashed_fields(CASE)
    assert version(replace(CASE, **{field: another(field)})) == other
    assert version(CASE) != before or field == "seed" or SETTINGS[field].added


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_field_has_a_description_a_role_and_an_option_or_none_on_purpose(setting: Setting) -> None:
    assert setting.text and not setting.text.endswith(".")
    assert setting.role in ("identity", "setting")
    assert setting.option is None or re.fullmatch("[a-z_]+", setting.option)
    assert (setting.option is None) == (setting.name in ("dataset_sha256", "checkpoint_sha256"))


def test_the_seed_is_a_replicate_not_a_version() -> None:
    other = replace(CASE, seed=1)
    assert version(other) == version(CASE)
    assert key(other) != key(CASE)


@pytest.mark.parametrize("change", [{"epochs": 3}, {"optimizer": Optimizer(name="adam")}, {"keep": "best"},
                                    {"schedule": Schedule(name="step")}, {"bn_momentum": 0.2}])  # fmt: skip
def test_every_detail_of_a_stage_changes_the_version(change: dict[str, Any]) -> None:
    scenario = replace(CASE.scenario, stages=(replace(STAGE, **change),))
    assert version(replace(CASE, scenario=scenario)) != version(CASE)


def test_versions_and_keys_are_sixteen_hex_digits_and_follow_values_not_objects() -> None:
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in (version(CASE), key(CASE)))
    assert key(msgspec.convert(msgspec.to_builtins(CASE), Case)) == key(CASE)


def test_a_case_and_a_job_come_back_from_json_as_they_were() -> None:
    case = replace(CASE, **{name: another(name) for name in OTHERS})
    job = Job(case=case, dataset_path="/data", plugins=("a.py",), strict=True)
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    assert key(msgspec.json.decode(msgspec.json.encode(case), type=Case)) == key(case)


def test_a_field_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="epoch_count"):
        msgspec.convert({"epochs": 1, "head_lr": 0.1, "backbone_lr": 0.1, "epoch_count": 2}, Stage)


@given(blocks=st.integers(0, 9), block=st.integers(0, 9))
def test_the_first_k_blocks_are_frozen_and_the_head_never_is(blocks: int, block: int) -> None:
    stage = replace(STAGE, frozen=blocks)
    assert stage.is_frozen("backbone", block) == (block < blocks)
    assert not stage.is_frozen("head", -1)


def test_frozen_backbone_and_frozen_nothing() -> None:
    assert all(replace(STAGE, frozen="backbone").is_frozen("backbone", block) for block in range(9))
    assert not any(STAGE.is_frozen("backbone", block) for block in range(9))


def test_statistics_follow_the_freezing_unless_the_stage_says_otherwise() -> None:
    half = replace(STAGE, frozen=1)
    assert [half.uses_batch_statistics("backbone", block) for block in (0, 1)] == [False, True]
    live = replace(half, norm="batch")
    assert [live.uses_batch_statistics("backbone", block) for block in (0, 1)] == [True, True]
    still = replace(half, norm="frozen")
    assert [still.uses_batch_statistics("backbone", block) for block in (0, 1)] == [False, False]


def test_labels_name_backend_engine_model_scenario_and_seed() -> None:
    case = replace(CASE, backend="keras3", engine="jax", seed=4)
    assert case.label == "keras3-jax/tiny-cnn/own/seed4"
    assert CASE.backend_name == "reference"
