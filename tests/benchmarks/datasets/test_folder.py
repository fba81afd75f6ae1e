from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.datasets.folder import Listing, inventory, list_folder
from harness.errors import Refused


def image(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade % 256, shade // 256, 7)).save(path, format="PNG")
    return path


def made(folder: Path, layout: dict[str, int]) -> Path:
    shade = 0
    for place, count in layout.items():
        (folder / place).mkdir(parents=True)
        for number in range(count):
            shade += 1
            image(folder / place / f"{number}.png", shade)
    return folder


def counts(listing: Listing) -> dict[str, list[int]]:
    return {
        split: [sum(f.label == label for f in files) for label in range(len(listing.classes))]
        for split, files in listing.splits.items()
    }


FLAT = {"b": 10, "a": 20}


def test_train_and_val_are_taken_as_they_are(tmp_path: Path) -> None:
    listing = list_folder(made(tmp_path, {"train/b": 3, "train/a": 4, "val/a": 2, "val/b": 1}))
    assert listing.classes == ("a", "b")
    assert counts(listing) == {"train": [4, 3], "val": [2, 1]}
    assert listing.test_is_val
    assert [f.name for f in listing.splits["val"]] == ["val/a/0.png", "val/a/1.png", "val/b/0.png"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_validation_folder_may_have_any_of_its_usual_names(tmp_path: Path, name: str) -> None:
    listing = list_folder(made(tmp_path, {"train/a": 2, "train/b": 2, f"{name}/a": 1, f"{name}/b": 1}))
    assert counts(listing)["val"] == [1, 1]


def test_with_train_and_test_alone_validation_images_come_from_train(tmp_path: Path) -> None:
    listing = list_folder(made(tmp_path, {"train/a": 10, "train/b": 20, "test/a": 5, "test/b": 5}))
    assert counts(listing) == {"train": [8, 16], "test": [5, 5], "val": [2, 4]}
    assert not listing.test_is_val
    assert any("0.2 of each class" in note for note in listing.notes)


def test_one_folder_is_divided_by_class_and_by_seed_and_always_alike(tmp_path: Path) -> None:
    made(tmp_path, FLAT)

    def chosen(seed: int, share: float | None = 0.3) -> list[str]:
        listing = list_folder(tmp_path, share, seed)
        names = [f.name for files in listing.splits.values() for f in files]
        assert len(names) == len(set(names)) == 30
        return [f.name for f in listing.splits["val"]]

    assert counts(list_folder(tmp_path, 0.3)) == {"train": [14, 7], "val": [6, 3]}
    assert counts(list_folder(tmp_path)) == {"train": [16, 8], "val": [4, 2]}
    assert chosen(0) == chosen(0) != chosen(1)


def test_copies_never_end_on_both_sides_of_a_split(tmp_path: Path) -> None:
    made(tmp_path, {"a": 6, "b": 6})
    for number in range(3):
        image(tmp_path / "a" / f"copy{number}.png", number + 1)
    for seed in range(10):
        listing = list_folder(tmp_path, 0.3, seed)
        sides = [{f.sha256 for f in files} for files in listing.splits.values()]
        assert not sides[0] & sides[1]
    assert "6 files have the same content as another (a 6); all copies stay in the training images" in listing.notes
    assert listing.copies == [(f"a/{number}.png", f"a/copy{number}.png") for number in range(3)]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_class_of_copies_is_refused_for_its_copies_not_for_its_number(tmp_path: Path, share: float) -> None:
    folder = made(tmp_path, {"a": 6, "b": 6})
    for number in range(6):
        (folder / f"a/{number} - Copy.png").write_bytes((folder / f"a/{number}.png").read_bytes())
    with pytest.raises(Refused, match=r"class 'a': 12 of its 12 images have copies, .*remove the copies") as caught:
        list_folder(folder, validation_split=share)
    assert "too few" not in str(caught.value)


def test_names_with_a_backslash_are_named_as_the_reason_for_missing_folders(tmp_path: Path) -> None:
    for name in ("photos\\cats\\1.png", "photos\\dogs\\1.png"):
        image(tmp_path / name, 9)
    with pytest.raises(Refused, match=r"contains no folders, but names with a backslash.*unpack its archive again"):
        list_folder(tmp_path)


def test_endings_are_torchvisions_in_either_case(tmp_path: Path) -> None:
    made(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    for number, name in enumerate(["x.JPG", "x.jpeg", "x.WebP", "x.bmp", "x.tiff", "none.gif", "read.txt", "noending"]):
        image(tmp_path / "train/a" / name, 100 + number)
    listing = list_folder(tmp_path)
    assert counts(listing)["train"] == [6, 1]
    assert {one.name: (one.owner, one.reason) for one in listing.skipped} == {
        "train/a/noending": ("a", "ending (none)"),
        "train/a/none.gif": ("a", "ending .gif"),
        "train/a/read.txt": ("a", "ending .txt"),
    }
    assert any(note.startswith("1 .jpeg used") for note in listing.notes)


def test_files_that_are_hidden_outside_a_class_or_in_an_unused_folder_are_counted(tmp_path: Path) -> None:
    made(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1, "extra/a": 1, "train/b/@eaDir": 1})
    image(tmp_path / "train/a/.hidden.png", 200)
    image(tmp_path / "__MACOSX/train/a/._0.png", 203)
    image(tmp_path / "train/.ipynb_checkpoints/x.png", 201)
    image(tmp_path / "train/loose.png", 202)
    listing = list_folder(tmp_path)
    assert listing.classes == ("a", "b")
    assert {one.name: (one.owner, one.reason) for one in listing.skipped} == {
        "__MACOSX/train/a/._0.png": ("", "hidden or a system file"),
        "extra/a/0.png": ("", "in a folder that is not used"),
        "train/.ipynb_checkpoints/x.png": ("", "hidden or a system file"),
        "train/a/.hidden.png": ("a", "hidden or a system file"),
        "train/b/@eaDir/0.png": ("b", "hidden or a system file"),
        "train/loose.png": ("", "outside the class folders"),
    }
    assert "folders that are not used: extra" in listing.notes


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    made(tmp_path, {"train/a": 1, "train/b": 1, "train/a/more/deep": 2, "val/a": 1, "val/b": 1})
    assert counts(list_folder(tmp_path))["train"] == [3, 1]


def test_looping_links_are_skipped_and_counted_and_other_links_followed(tmp_path: Path) -> None:
    made(tmp_path / "data", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    made(tmp_path / "else", {"where": 0})
    image(tmp_path / "else/where/far.png", 300)
    train = tmp_path / "data/train"
    (train / "a/up").symlink_to(train)
    (train / "a/self.png").symlink_to(train / "a/self.png")
    (train / "a/gone.png").symlink_to(train / "a/nowhere.png")
    (train / "loop").symlink_to(tmp_path / "data")
    (train / "b/else").symlink_to(tmp_path / "else/where")
    listing = list_folder(tmp_path / "data")
    assert listing.classes == ("a", "b")
    assert counts(listing)["train"] == [2, 3]
    assert {one.name for one in listing.skipped} == {
        *("train/a/up", "train/a/self.png", "train/a/gone.png", "train/loop")
    }
    assert {one.reason for one in listing.skipped} == {"a broken or looping symbolic link"}


@pytest.mark.parametrize("name", ["two words", "Käfer", "蚂蚁", "line\nbreak", "quote'\"", "-dash", "50%"])
def test_names_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    made(tmp_path, {"a": 5, name: 5})
    image(tmp_path / "a" / f"{name}.png", 500)
    listing = list_folder(tmp_path)
    assert set(listing.classes) == {"a", name}
    assert f"a/{name}.png" in [f.name for files in listing.splits.values() for f in files]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Cats", "cats"), "Cats, cats"),
        (("DOGS", "Dogs", "dogs"), "DOGS, Dogs, dogs"),
        (("stra\u00dfe", "STRASSE"), "STRASSE, stra\u00dfe"),
        (("K\u00e4fer", "K\u00c4FER"), "K\u00c4FER, K\u00e4fer"),
        (("a", "A", "b", "B"), "A, a; B, b"),
    ],
)
@pytest.mark.parametrize("splits", [("",), ("train/", "val/")])
def test_classes_that_differ_only_in_case_stay_apart_and_are_noted(
    tmp_path: Path, names: tuple[str, ...], said: str, splits: tuple[str, ...]
) -> None:
    listing = list_folder(made(tmp_path, {split + name: 5 for split in splits for name in (*names, "other")}))
    assert set(listing.classes) == {*names, "other"}
    (note,) = (note for note in listing.notes if note.startswith("classes whose names differ only in case"))
    assert note.endswith(f"one folder on Windows and macOS: {said}")


def test_names_that_differ_in_more_than_case_are_not_noted(tmp_path: Path) -> None:
    listing = list_folder(made(tmp_path, {"cats": 5, "cat": 5, "c ats": 5}))
    assert not any("differ only" in note for note in listing.notes)


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    made(tmp_path, {"a": 5})
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for number in range(5):
        image(odd / f"{number}.png", 600 + number)
    assert list_folder(tmp_path).classes == ("a", "caf\\xe9")


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({}, "contains no folders"),
        ({"only": 3}, "has one class, 'only'; at least two"),
        ({"train": 3}, "has no class folders; at least two"),
        ({"a": 0, "b": 0}, "has no images; add some"),
        ({"a": 3, "b": 0}, r"no images in class 'b' \(train\)"),
        ({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 0}, r"no images in class 'b' \(val\)"),
        ({"val/a": 2, "val/b": 2}, "has val but no folder train"),
        (
            {"train/a": 2, "train/b": 2, "val/a": 2, "val/c": 2},
            r"train and val have different classes \(only in val: c; only in train: b\)",
        ),
        ({"train/a": 2, "train/b": 2, "test/a": 2}, r"train and test have different classes \(only in train: b\)"),
        (
            {"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1},
            "has val and valid; keep one of them, or choose with --splits train=train,val=val",
        ),
        ({"a": 1, "b": 5}, r"class 'a' has too few images \(1\)"),
    ],
)
def test_unusable_folders_are_refused(tmp_path: Path, layout: dict[str, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        list_folder(made(tmp_path, layout))


def test_V24_files_in_two_splits_are_refused_with_their_number_and_all_can_be_listed(tmp_path: Path) -> None:
    made(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 2, "val/b": 2, "test/a": 1, "test/b": 1})
    (tmp_path / "val/b/again.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())
    with pytest.raises(
        Refused, match=r"1 image is in .*\(train and val: 1\), such as 'train/a/1.png' and 'val/b/again"
    ):
        list_folder(tmp_path)
    (tmp_path / "test/b/0.png").write_bytes((tmp_path / "train/b/0.png").read_bytes())
    (tmp_path / "test/a/0.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())
    with pytest.raises(Refused, match=r"2 images are in .*\(train and val and test: 1, train and test: 1\)"):
        list_folder(tmp_path)
    assert inventory(tmp_path) == (
        [],
        [("train/a/1.png", "val/b/again.png", "test/a/0.png"), ("train/b/0.png", "test/b/0.png")],
    )


def test_copies_in_a_class_and_in_two_classes_are_counted_per_class_and_all_listed(tmp_path: Path) -> None:
    made(tmp_path, {"train/a": 3, "train/b": 3, "train/c": 3, "val/a": 1, "val/b": 1, "val/c": 1})
    for first, second in (("a/0.png", "a/twice.png"), ("a/1.png", "b/other.png"), ("b/0.png", "c/other.png")):
        (tmp_path / "train" / second).write_bytes((tmp_path / "train" / first).read_bytes())
    listing = list_folder(tmp_path)
    assert counts(listing)["train"] == [4, 4, 4]
    assert (
        "6 files have the same content as another (a 3, b 2, c 1); 2 images are in more than one class" in listing.notes
    )
    assert ("train/b/0.png", "train/c/other.png") in listing.copies


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"a/x.png": 1, "b/x.jfif": 3},
            r"class 'b' \(train\); its 3 files are skipped \(ending .jfif\); convert or rename",
        ),
        ({"a/x.png": 1, "b/x.HEIC": 2, "b/x.avif": 1}, r"class 'b' .* \(2 ending .heic, 1 ending .avif\)"),
        ({"a/x.png": 1, "b/x": 1}, r"class 'b' .*; its file is skipped \(ending \(none\)\)"),
        ({"a/x.png": 1, "b/.x.png": 2}, r"class 'b' .*; its 2 files are skipped \(hidden or a system file\)"),
        ({"a/x.cr2": 1, "b/x.nef": 2}, r"has no images; its 3 files are skipped \(2 ending .nef, 1 ending .cr2\)"),
        (
            {"train/a/x.png": 1, "train/b/x.png": 1, "test/a/x.svg": 1, "test/b/x.svg": 1},
            r"class 'a' \(test\); .*\.svg",
        ),
    ],
)
def test_a_class_of_other_endings_alone_is_refused_with_these_and_those_that_are_read(
    tmp_path: Path, files: dict[str, int], words: str
) -> None:
    for name, count in files.items():
        for number in range(count):
            path = tmp_path / name
            image(path.with_name(path.name.replace("x", f"x{number}", 1)), number)
    with pytest.raises(Refused, match=words) as refused:
        list_folder(tmp_path)
    assert str(refused.value).endswith(".jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp")


def test_a_missing_folder_and_an_impossible_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not a folder"):
        list_folder(tmp_path / "none")
    with pytest.raises(Refused, match="not between 0 and 1"):
        list_folder(made(tmp_path / "d", FLAT), 1.5)
    with pytest.raises(Refused, match="leave out --validation-split"):
        list_folder(made(tmp_path / "e", {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1}), 0.2)


def test_a_share_of_the_images_is_the_test_set_whatever_validates(tmp_path: Path) -> None:
    folder = made(tmp_path, FLAT)
    one, other = (list_folder(folder, seed=seed, test_split=0.25) for seed in (0, 1))
    assert counts(one) == {"train": [12, 6], "test": [5, 2], "val": [3, 2]}
    assert not one.test_is_val
    assert one.splits["test"] == other.splits["test"]
    assert one.splits["val"] != other.splits["val"]
    assert "test images: 0.25 of each class of the training images, always the same" in one.notes


def test_options_that_divide_what_is_divided_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path, {"train/a": 9, "train/b": 9, "val/a": 1, "val/b": 1, "test/a": 1, "test/b": 1})
    with pytest.raises(Refused, match="leave out --test-split"):
        list_folder(folder, test_split=0.2)
    with pytest.raises(Refused, match="leave out --validation-seed"):
        list_folder(folder, seed=1)
    with pytest.raises(Refused, match="--test-split 2 is not between 0 and 1"):
        list_folder(folder, test_split=2.0)
    with pytest.raises(Refused, match=r"too few images \(1\) to use 0.5 of them for testing"):
        list_folder(made(tmp_path / "two", {"a": 1, "b": 4}), test_split=0.5)


@pytest.mark.parametrize("closed", ["a/0.png", "a", "."])
def test_what_may_not_be_read_is_refused(closed: str) -> None:
    with tempfile.TemporaryDirectory() as place, as_nobody(Path(place)):
        folder = made(Path(place) / "data", FLAT)
        (folder / closed).chmod(0)
        try:
            with pytest.raises(Refused, match=r"cannot be read; change its permissions"):
                list_folder(folder)
        finally:
            (folder / closed).chmod(0o700)


@contextlib.contextmanager
def as_nobody(place: Path) -> Iterator[None]:
    """Root may read everything, so the test gives that up for a while."""
    if os.geteuid() != 0:
        yield
        return
    place.chmod(0o777)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
