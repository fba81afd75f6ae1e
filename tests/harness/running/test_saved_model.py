from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends.reference import MODELS, open_session
from benchmarks.datasets.writing import PreparedDataset
from harness.contract import Session
from harness.data.checkpoint import NORMALISATIONS, read_checkpoint
from harness.errors import Refused
from harness.running.saved_model import CARD, NEUTRAL, Card, keep_model, read_card
from harness.spec import Case
from tests.harness.cases import tiny_case


@pytest.fixture
def case(tiny_dataset: PreparedDataset) -> Case:
    return tiny_case(tiny_dataset)


@pytest.fixture
def session(case: Case) -> Session:
    made = open_session(case, MODELS["tiny-cnn"], 3)
    made.load({t.name: np.full(t.array.shape, number / 7, t.array.dtype) for number, t in enumerate(made.state())})
    return made


def keep(session: Session, case: Case, data: PreparedDataset, folder: Path) -> Path:
    return Path(keep_model(session, case, data.meta, NORMALISATIONS["imagenet"], str(folder))["model"])


def test_both_files_hold_every_tensor_as_it_is(
    session: Session, case: Case, tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    home = keep(session, case, tiny_dataset, tmp_path)
    own = {tensor.name: tensor.array for tensor in session.state()}
    neutral = read_checkpoint(home / NEUTRAL).arrays
    other = open_session(case, MODELS["tiny-cnn"], 3)
    other.load_native(str(home / read_card(home).native))
    native = {tensor.name: tensor.array for tensor in other.state()}
    assert own.keys() == neutral.keys() == native.keys()
    for name, array in own.items():
        np.testing.assert_array_equal(neutral[name], array)
        np.testing.assert_array_equal(native[name], array)


def test_the_card_says_what_the_files_cannot(
    session: Session, case: Case, tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    home = keep(session, case, tiny_dataset, tmp_path)
    assert read_card(home) == Card(
        case=case, classes=("red", "green", "blue"), normalisation=NORMALISATIONS["imagenet"], side=32,
        native="model.npz",
    )  # fmt: skip
    meta = read_checkpoint(home / NEUTRAL).meta
    assert (meta.classes, meta.head, meta.image_size) == (("red", "green", "blue"), "head.", 32)
    assert meta.origin == "reference/tiny-cnn/own/seed0 on tiny"
    assert meta.recipe["stages"][0]["epochs"] == 2


def test_two_cases_are_kept_side_by_side(
    session: Session, case: Case, tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    other = tiny_case(tiny_dataset, seed=1)
    assert keep(session, case, tiny_dataset, tmp_path) != keep(session, other, tiny_dataset, tmp_path)


def test_a_folder_without_a_card_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=rf"has no {CARD}; give a folder that `run --save-model` wrote"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"case": 1}'])
def test_a_card_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(Refused, match=CARD):
        read_card(tmp_path)
