"""What a worker asks of a session: is everything loaded, and is the head the one that answers?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from backends.reference import MODELS, open_session
from backends.reference.session import ReferenceSession
from benchmarks.datasets.writing import PreparedDataset
from harness.errors import Refused
from harness.rules import Breach, require
from harness.running.checks import head_in_name_only, not_loaded
from tests.harness.cases import run_here, scenario, tiny_case

IMAGES = np.random.default_rng(0).standard_normal((8, 32, 32, 3)).astype(np.float32)


def session_for(data: PreparedDataset, head: Literal["linear", "mlp"], classes: int = 3) -> ReferenceSession:
    made = open_session(tiny_case(data, head=head), MODELS["tiny-cnn"], classes)
    assert isinstance(made, ReferenceSession)
    return made


def test_V02_what_was_loaded_is_what_is_there_tensor_by_tensor(tiny_dataset: PreparedDataset) -> None:
    session = session_for(tiny_dataset, "linear")
    start = {tensor.name: tensor.array + np.float32(1) for tensor in session.state()}
    session.load(start)
    assert list(not_loaded(session, start)) == []
    start["features.1.1.running_var"][3] = np.nextafter(start["features.1.1.running_var"][3], np.float32(9))
    with pytest.raises(
        Refused, match=r"^V02: features\.1\.1\.running_var differs from the array that was loaded into it$"
    ):
        require(not_loaded(session, start))


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("classes", [2, 3, 200])
def test_V08_a_head_that_answers_passes(
    tiny_dataset: PreparedDataset, head: Literal["linear", "mlp"], classes: int
) -> None:
    session = session_for(tiny_dataset, head, classes)
    assert list(head_in_name_only(session, tiny_case(tiny_dataset, head=head), classes, IMAGES)) == []


def wider(session: ReferenceSession) -> None:
    honest = session.predict
    session.predict = lambda images: np.concatenate([honest(images)] * 2, axis=1)  # type: ignore[method-assign]


def another(session: ReferenceSession) -> None:
    session.predict = lambda images: images.mean((1, 2))  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(wider, "6 logits for 3 classes: head is a head in name only"), (another, "the logits do not follow it")],
)
def test_V08_a_head_in_name_only_is_found(
    tiny_dataset: PreparedDataset, change: Callable[[ReferenceSession], None], sentence: str
) -> None:
    session = session_for(tiny_dataset, "linear")
    change(session)
    (breach,) = head_in_name_only(session, tiny_case(tiny_dataset), 3, IMAGES)
    assert breach.rule == "V08"
    assert sentence in breach.text


def test_V08_a_head_for_other_classes_is_found(tiny_dataset: PreparedDataset) -> None:
    (breach,) = head_in_name_only(session_for(tiny_dataset, "linear", 5), tiny_case(tiny_dataset), 3, IMAGES)
    assert breach == Breach("V08", "", "the head has 5 outputs for 3 classes")


def test_V08_asking_the_head_spoils_no_figure(tiny_dataset: PreparedDataset, tmp_path: Path) -> None:
    """Logits and the kept network are from before it was asked."""
    record = run_here(tiny_dataset, tiny_case(tiny_dataset), tmp_path, save_model=str(tmp_path))
    with np.load(tmp_path / "logits.npz") as arrays:
        assert record.test is not None
        right = arrays["logits"].argmax(axis=1) == arrays["labels"]
    assert record.test.accuracy == right.mean()
    from harness.data.checkpoint import read_checkpoint

    kept = read_checkpoint(Path(record.artefacts["model"]) / "model.safetensors")
    assert kept.arrays["head.weight"].any()


def test_a_record_holds_the_evidence_that_rules_ask_for(tiny_dataset: PreparedDataset) -> None:
    record = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(start="random")))
    (stage,) = record.stages
    assert record.images == {"train": 48, "val": 12, "test": 24}
    assert stage.seen is not None
    assert stage.seen.work is not None
    work: Any = stage.seen.work
    assert (work.forwards, work.backwards, work.updates, work.samples, work.inferences) == (12, 12, 12, 96, 0)
    assert (stage.seen.slots_at_start, stage.seen.drawn_early) == (0.0, 0)
    assert stage.labels_sha256 is not None
    assert stage.colours is not None
    assert len(stage.colours) == 6
    assert stage.drained_s < 0.01
    assert record.numerics is not None
    assert record.numerics.product_bits > 18
    assert record.subnormals == 0
    assert record.empty_step_us is not None
    assert 0 < record.empty_step_us < 50
