from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.augment import AUGMENTATIONS, centre_crop, complete, compose, format_augment, parse_augment, views_of
from harness.errors import Refused
from harness.spec import Augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (73, 73, 3), dtype=np.uint8)
ALL = "random-resized-crop,flip,rotation,shear"


@pytest.mark.parametrize("text", ["none", "centre-crop", "flip", "random-resized-crop", "rotation", "shear", ALL])
def test_every_augmentation_ends_at_the_image_size(text: str) -> None:
    crop = compose(parse_augment(text))(IMAGE, 1, 2, 3, 64)
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.uint8


@pytest.mark.parametrize("text", ["flip", "random-resized-crop", "rotation", "shear"])
def test_seed_epoch_and_sample_each_change_the_pixels_and_nothing_else_does(text: str) -> None:
    def pixels(seed: int, epoch: int, first: int) -> bytes:
        augment = compose(parse_augment(text))
        return b"".join(augment(IMAGE, seed, epoch, sample, 64).tobytes() for sample in range(first, first + 12))

    here = pixels(1, 1, 1)
    assert pixels(1, 1, 1) == here
    assert len({here, pixels(2, 1, 1), pixels(1, 2, 1), pixels(1, 1, 50)}) == 4


def test_the_numbers_of_a_sample_are_fixed_and_changing_them_changes_the_protocol() -> None:
    augment, image = compose(parse_augment("flip")), np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flips = "".join("-f"[int(augment(image, 7, 3, sample, 2)[0, 0, 0] > 0)] for sample in range(32))
    assert flips == "-----f---f-ff-f----ff-ffffff-fff"


@pytest.mark.parametrize(
    ("text", "most"),
    [("none", 1), ("flip", 2), ("flip:probability=0.9,centre-crop", 2), ("views:count=3,rotation", 3),
     ("flip,views:count=4", 4), ("flip,flip", 12), ("rotation", 12), (ALL, 12)],
)  # fmt: skip
def test_where_the_view_is_the_same_the_pixels_are(text: str, most: int) -> None:
    augment, view = compose(parse_augment(text)), views_of(parse_augment(text))
    for sample in range(20):
        seen: dict[object, bytes] = {}
        for epoch in range(12):
            pixels = augment(IMAGE, 5, epoch, sample, 64).tobytes()
            assert seen.setdefault(view(5, epoch, sample), pixels) == pixels
        assert len(seen) <= most


def test_pixels_do_not_depend_on_threads() -> None:
    augment = compose(parse_augment(ALL))
    alone = [augment(IMAGE, 0, 0, sample, 64).tobytes() for sample in range(64)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda sample: augment(IMAGE, 0, 0, sample, 64).tobytes(), range(64)))
    assert together == alone


def test_two_flips_in_a_row_draw_from_numbers_of_their_own() -> None:
    once, twice = compose(parse_augment("flip")), compose(parse_augment("flip,flip"))
    plain = centre_crop(IMAGE, 73)
    outcomes = {
        (np.array_equal(once(IMAGE, 0, 0, s, 73), plain), np.array_equal(twice(IMAGE, 0, 0, s, 73), plain))
        for s in range(40)
    }
    assert len(outcomes) == 4


def test_flip_happens_with_its_probability() -> None:
    for probability in (0.0, 0.3, 1.0):
        augment = compose((Augmentation(name="flip", parameters={"probability": probability}),))
        flipped = [np.array_equal(augment(IMAGE, 0, 0, s, 73), IMAGE[:, ::-1]) for s in range(2000)]
        assert np.mean(flipped) == pytest.approx(probability, abs=0.05)


def test_a_crop_of_the_whole_square_is_the_image_resized() -> None:
    augment = compose(parse_augment("random-resized-crop:scale=1:ratio=1"))
    assert np.array_equal(augment(IMAGE, 0, 0, 0, 73), IMAGE)


def test_crops_cover_the_share_asked_for_and_stay_inside() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3)).copy()
    augment = compose(parse_augment("random-resized-crop:scale=0.25:ratio=1"))
    heights = []
    for sample in range(300):
        column = augment(ramp, 0, 0, sample, 100)[:, 50, 0].astype(int)
        assert (np.diff(column) >= 0).all()
        heights.append((column[-1] - column[0]) / 200)
    assert 0.45 < min(heights) < 0.6
    assert 0.9 < max(heights) <= 1.0


def test_rotation_and_shear_of_nothing_change_nothing_and_fill_with_black() -> None:
    for name in ("rotation", "shear"):
        still = compose((Augmentation(name=name, parameters={"degrees": 0.0}),))
        assert np.array_equal(still(IMAGE, 0, 0, 0, 73), IMAGE)
        turned = compose((Augmentation(name=name, parameters={"degrees": 45.0}),))
        white = np.full((73, 73, 3), 255, dtype=np.uint8)
        assert min(turned(white, 0, 0, s, 73).min() for s in range(10)) == 0


def test_unknown_names_and_parameters_are_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match="did you mean random-resized-crop"):
        parse_augment("random-resize-crop")
    with pytest.raises(Refused, match="did you mean scale"):
        parse_augment("random-resized-crop:scal=0.5")
    with pytest.raises(Refused, match="no parameter size; known: none"):
        parse_augment("centre-crop:size=3")
    with pytest.raises(Refused, match="probability=2 is not between 0 and 1"):
        compose((Augmentation(name="flip", parameters={"probability": 2.0}),))
    with pytest.raises(Refused, match="augmentation flip: a number is given twice for probability"):
        parse_augment("flip:probability=0.5:probability=0.2")
    with pytest.raises(Refused, match="PARAMETER=NUMBER"):
        parse_augment("flip:probability=often")
    with pytest.raises(Refused, match="is not between"):
        parse_augment("rotation:degrees=nan")


def test_views_repeat_after_their_count() -> None:
    apply = compose(parse_augment("random-resized-crop,flip,views:count=3"))
    seen = [apply(IMAGE, 5, epoch, 0, 32).tobytes() for epoch in range(9)]
    assert len(set(seen)) == 3
    assert seen[:3] == seen[3:6] == seen[6:]
    free = compose(parse_augment("random-resized-crop,flip"))
    assert seen[:3] == [free(IMAGE, 5, epoch, 0, 32).tobytes() for epoch in range(3)]


def test_an_image_smaller_than_the_image_size_is_refused() -> None:
    with pytest.raises(Refused, match="73x73 are smaller than --image-size 96"):
        compose(())(IMAGE, 0, 0, 0, 96)


@given(
    st.lists(
        st.one_of(
            st.builds(lambda p: Augmentation(name="flip", parameters={"probability": p}), st.floats(0, 1)),
            st.builds(lambda d: Augmentation(name="rotation", parameters={"degrees": d}), st.floats(0, 180)),
            st.sampled_from([Augmentation(name=name) for name in AUGMENTATIONS]),
        ),
        max_size=4,
    )
)
def test_text_of_augmentations_reads_back(augmentations: list[Augmentation]) -> None:
    whole = tuple(complete(a) for a in augmentations)
    assert parse_augment(format_augment(augmentations)) == whole
