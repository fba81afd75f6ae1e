"""The pixels that train are the pixels that are evaluated, for every kind of image, input and framework.

As a program of its own it answers for TensorFlow, which shares no process with torchvision.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from harness.errors import Declined, Refused
from tests.backends.pictures import (
    LEVELS,
    NOT_BY_TENSORFLOW,
    READ_BY_BOTH,
    READ_BY_TORCH,
    differences,
    evaluated,
    feed,
    levels,
    written,
)
from tests.backends.programs import answered

EVERY = {**READ_BY_BOTH, **READ_BY_TORCH, **NOT_BY_TENSORFLOW}


@pytest.fixture(scope="module")
def tensorflow() -> dict[str, Any]:
    if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("keras") is None:
        pytest.skip("tensorflow is not installed")
    return answered(__file__, "tensorflow")


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("source", ["arrays", "stream"])
def test_what_the_harness_feeds_is_what_is_evaluated(
    tmp_path: Path, source: Literal["arrays", "stream"], layout: Literal["nhwc", "nchw"]
) -> None:
    split = written(tmp_path, EVERY)
    batches = ((batch.inputs, batch.labels) for batch in feed(split, source, layout).epoch(0))
    found = differences(split, batches, layout)
    assert found == dict.fromkeys(EVERY, 0.0)


def test_torch_natively_trains_on_what_is_evaluated(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    native = importlib.import_module("backends.pytorch.native")
    split = written(tmp_path, EVERY)
    source = feed(split, "native", "nchw")
    found = differences(split, native.epoch(native.pipeline(source, pin=False), source), "nchw")
    assert found.keys() == EVERY.keys()
    assert {name: far for name, far in found.items() if far > 2} == {}


def test_a_file_that_changed_after_it_was_prepared_is_named(tmp_path: Path, tensorflow: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    native = importlib.import_module("backends.pytorch.native")
    source = feed(written(tmp_path, {"a.png": READ_BY_BOTH["plain.png"]}), "native", "nchw")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(Refused, match=r"a\.png: unknown image format; the file changed after preparation"):
        list(native.epoch(native.pipeline(source, pin=False), source))
    assert "a.png: unknown image format; the file changed after preparation" in tensorflow["changed"]


def test_tensorflow_natively_trains_on_what_is_evaluated(tensorflow: dict[str, Any]) -> None:
    found = tensorflow["native"]
    assert READ_BY_BOTH.keys() <= found.keys()
    assert {name: far for name, far in found.items() if far > LEVELS} == {}


@pytest.mark.parametrize("name", NOT_BY_TENSORFLOW)
def test_an_image_that_tensorflow_reads_otherwise_is_declined_by_name(tensorflow: dict[str, Any], name: str) -> None:
    reason = tensorflow["declined"][name]
    assert "reads other pixels than the evaluation from 1 of 2 training images" in reason
    assert f"{name}'" in reason
    assert "--input stream" in reason


def test_one_reason_names_and_counts_every_kind_that_is_declined(tensorflow: dict[str, Any]) -> None:
    reason = tensorflow["all_declined"]
    count = f"from {len(NOT_BY_TENSORFLOW)} of {len(NOT_BY_TENSORFLOW) + 2} training images"
    assert f"reads other pixels than the evaluation {count}" in reason
    assert "BMP of mode P" in reason and "TIFF of mode CMYK" in reason


def test_a_damaged_file_that_only_tensorflow_stumbles_over_is_named(tensorflow: dict[str, Any]) -> None:
    reason = tensorflow["broken"]
    assert "cannot read 1 training images" in reason and "late.png'" in reason


def test_tensorflow_has_another_order_each_epoch_and_repeats_it_for_a_seed(
    tensorflow: dict[str, Any],
) -> None:
    first, second, again = tensorflow["orders"]
    assert sorted(first) == sorted(second) == list(range(len(first)))
    assert first != second
    assert first == again


def test_tensorflow_augments_another_way_each_epoch_and_repeats_it_for_a_seed(tensorflow: dict[str, Any]) -> None:
    first, second, again = tensorflow["augmented"]
    assert first != second
    assert first == again


def test_no_thread_of_autotuning_sleeps_while_an_epoch_ends(tensorflow: dict[str, Any]) -> None:
    # Now and then an iterator is not deleted before that thread wakes, up to minutes later.
    assert tensorflow["autotuned"] is False


@pytest.mark.parametrize("wrong", ["turned", "mirrored", "inverted", "clipped", "indices"])
def test_pixels_that_are_read_wrongly_are_far_outside_the_tolerance(tmp_path: Path, wrong: str) -> None:
    split = written(tmp_path, {"a.png": READ_BY_BOTH["plain.png"]})
    (right,) = split.images
    index = np.unique(right[..., 0], return_inverse=True)[1].reshape(right.shape[:2])
    misread = {
        "turned": np.rot90(right),
        "mirrored": right[:, ::-1],
        "inverted": 255 - right,
        "clipped": np.full_like(right, 255),
        "indices": np.repeat((index % 60).astype(np.uint8)[..., None], 3, axis=-1),
    }[wrong]
    (seen,), (other,) = evaluated(split, "nhwc"), evaluated(split._replace(images=misread[None]), "nhwc")
    assert levels(seen, other, "nhwc") > 4 * LEVELS


def _answers(folder: Path) -> dict[str, Any]:
    from backends.keras3 import native
    from backends.keras3.weights import files

    def declined(chosen: dict[str, bytes]) -> str:
        try:
            files.sources(written(folder, chosen))
        except Declined as reason:
            return str(reason)
        return ""

    good = {"plain.png": READ_BY_BOTH["plain.png"]}
    newer = {name: data for name, data in READ_BY_TORCH.items() if not declined({name: data})}
    split = written(folder, READ_BY_BOTH | newer)
    source = feed(split, "native", "nhwc")
    pipeline = native.Pipeline(source)
    found = {
        "native": differences(split, pipeline.epoch(0), "nhwc"),
        "autotuned": pipeline.dataset.options().autotune.enabled,
        "declined": {name: declined({name: data, **good}) for name, data in NOT_BY_TENSORFLOW.items()},
        "all_declined": declined({**good, "b.png": good["plain.png"], **NOT_BY_TENSORFLOW}),
    }
    return {**found, **_order_and_augmentation(folder), "broken": _broken(folder), "changed": _changed(folder)}


def _changed(folder: Path) -> str:
    from backends.keras3.weights import files

    split = written(folder, {"a.png": READ_BY_BOTH["plain.png"]})
    (folder / "a.png").write_bytes(b"no image")
    try:
        files.sources(split)
    except Refused as reason:
        return str(reason)
    return ""


def _order_and_augmentation(folder: Path) -> dict[str, Any]:
    from backends.keras3 import native
    from harness.data.augment import parse_augment

    split = written(folder, {f"{n}.png": READ_BY_BOTH["plain.png"] for n in range(8)})
    orders, sums = [], []
    for _ in range(2):
        source = feed(split, "native", "nhwc", epochs=2)
        source.augmentations = parse_augment("random-resized-crop,flip,rotation")
        pipeline = native.Pipeline(source)
        for epoch in range(2):
            ((images, labels),) = pipeline.epoch(epoch)
            orders.append(labels.numpy().tolist())
            sums.append(sorted(float(np.abs(image).sum()) for image in images.numpy()))
    return {"orders": orders[:3], "augmented": sums[:3]}


def _broken(folder: Path) -> str:
    """A file that changes after it was looked at stands for one whose fault no header shows."""
    from backends.keras3 import native

    split = written(folder, dict.fromkeys(("early.png", "late.png"), READ_BY_BOTH["plain.png"]))
    pipeline = native.Pipeline(feed(split, "native", "nhwc"))
    (folder / "late.png").write_bytes(READ_BY_BOTH["plain.png"][:400])
    try:
        list(pipeline.epoch(0))
    except Declined as reason:
        return str(reason)
    return ""


def _probe() -> dict[str, Any]:
    import tempfile

    import tensorflow as tf

    # As for a case of one thread.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return _answers(Path(folder))


if __name__ == "__main__":
    print(json.dumps(_probe()))  # noqa: T201
