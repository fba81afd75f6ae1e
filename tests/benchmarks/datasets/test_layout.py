"""Which folders are splits and which are classes, for folders as people and their tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.datasets.folder import list_folder
from benchmarks.datasets.layout.read import Layout, read_layout
from benchmarks.datasets.layout.scan import scan
from harness.errors import Refused


def folder(root: Path, *files: str) -> Path:
    """Files under a folder; a name that ends in a slash becomes a folder with three images."""
    for name in files:
        every = [f"{name}{number}.jpg" for number in range(3)] if name.endswith("/") else [name]
        for one in every:
            (root / one).parent.mkdir(parents=True, exist_ok=True)
            (root / one).write_bytes(one.encode())
    return root


def layout(root: Path, splits: str | None = None) -> Layout:
    return read_layout(root, scan(root), splits)


def places(found: Layout) -> dict[str, set[str]]:
    return {split: {"/".join(place) for place in classes.values()} for split, classes in found.splits.items()}


def split_folders(*names: str) -> list[str]:
    return [f"{name}/{kind}/" for name in names for kind in ("cats", "dogs")]


@pytest.mark.parametrize(
    "names",
    [
        {"train": "training_set", "test": "test_set"},
        {"train": "Train", "test": "Test"},
        {"train": "TRAIN", "val": "VALID", "test": "TEST"},
        {"train": "train2017", "val": "val2017"},
        {"train": "train_images", "test": "test_images"},
        {"train": "trainImages", "val": "validationImages"},
        {"train": "01_train", "val": "02_valid", "test": "03_test"},
        {"train": "Training Data", "test": "Testing Data"},
        {"train": "train-split", "val": "dev-split"},
        {"train": "trainset", "val": "valset"},
        {"train": "train", "test": "holdout"},
        {"train": "train", "test": "Hold-Out"},
        {"train": "train", "val": "validation", "test": "eval"},
        {"train": "train", "val": "evaluation", "test": "test"},
        {"train": "trainval", "test": "test"},
        {"train": "ILSVRC2012_img_train", "val": "ILSVRC2012_img_val"},
        {"train": "cats-and-dogs.train", "test": "cats-and-dogs.test"},
        {"train": "train_kaggle", "test": "test_hidden"},
        {"train": "minitrain", "val": "minival"},
        {"train": "train (1)", "test": "test (2)"},
    ],
)
def test_split_folders_are_recognised_whatever_stands_around_the_word(tmp_path: Path, names: dict[str, str]) -> None:
    found = layout(folder(tmp_path, *split_folders(*names.values())))
    assert places(found) == {split: {f"{name}/cats", f"{name}/dogs"} for split, name in names.items()}
    assert any(note.startswith("splits: train is ") for note in found.notes)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (split_folders("data/train", "data/val"), {"train": "data/train", "val": "data/val"}),
        (
            split_folders("a/b/images/train", "a/b/images/test"),
            {"train": "a/b/images/train", "test": "a/b/images/test"},
        ),
        (
            [*split_folders("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/"],
            {"train": "seg_train/seg_train", "test": "seg_test/seg_test"},
        ),
        (split_folders("train/images", "valid/images"), {"train": "train/images", "val": "valid/images"}),
        (
            [*split_folders("images/train", "images/val"), "labels/train/0.txt", "annotations.json"],
            {"train": "images/train", "val": "images/val"},
        ),
        (
            [
                *split_folders("chest/train", "chest/test", "chest/chest/train", "__MACOSX/chest/train"),
                "chest/.DS_Store",
            ],
            {"train": "chest/train", "test": "chest/test"},
        ),
        (
            [*split_folders("train", "valid", "test"), "README.roboflow.txt", "train/_annotations.csv", "data.yaml"],
            {"train": "train", "val": "valid", "test": "test"},
        ),
        (
            [*split_folders("Training", "Test"), "test-multiple_fruits/", "papers/one.pdf"],
            {"train": "Training", "test": "Test"},
        ),
        ([*split_folders("train", "test"), *split_folders("train_masked")], {"train": "train", "test": "test"}),
        (["banner.jpg", "a/loose.jpg", *split_folders("a/train", "a/test")], {"train": "a/train", "test": "a/test"}),
        (["train/loose.jpg", *split_folders("train/data", "val")], {"train": "train/data", "val": "val"}),
        (split_folders("train"), {"train": "train"}),
        (split_folders("seg_train"), {"train": "seg_train"}),
        (["train/bus/", "train/train/", "val/bus/", "val/train/"], None),
    ],
)
def test_splits_are_found_inside_wrapping_folders_and_beside_others(
    tmp_path: Path, files: list[str], expected: dict[str, str] | None
) -> None:
    found = layout(folder(tmp_path, *files))
    if expected is None:
        assert places(found) == {split: {f"{split}/bus", f"{split}/train"} for split in ("train", "val")}
    else:
        assert places(found) == {split: {f"{at}/cats", f"{at}/dogs"} for split, at in expected.items()}


@pytest.mark.parametrize(
    ("files", "classes", "note"),
    [
        (["bus/", "car/", "train/"], "bus car train", "train is a class"),
        (["bus/", "car/", "val/"], "bus car val", "val is a class"),
        (["good/", "TEST/"], "good TEST", "TEST is a class"),
        (["valid/", "invalid/"], "valid invalid", "valid is a class"),
        (["zip/bus/", "zip/train/"], "zip/bus zip/train", "train is a class"),
        (["freight train/", "model train/"], "freight train|model train", ""),
        (["pregnancy test/", "litmus test/", "contest/"], "pregnancy test|litmus test|contest", ""),
        (["trains/", "buses/"], "trains buses", ""),
        (["0/", "1/", "2/"], "0 1 2", ""),
        (["cats/images/", "dogs/images/"], "cats dogs", ""),
        (
            ["cats/tabby/", "cats/siam/", "dogs/pug/", "dogs/collie/"],
            "cats dogs",
            "cats, dogs are the classes; the images in their folders (siam, tabby, collie, pug) are used together",
        ),
        (["cats/cats/", "dogs/", "owls/export/"], "cats dogs owls", ""),
        (["cats/", "cats/cats/", "dogs/"], "cats dogs", ""),
        (["cats/", "dogs/", "loose.jpg", "banner.png"], "cats dogs", ""),
        (
            ["flower_photos/rose/", "flower_photos/tulip/", "LICENSE.txt"],
            "flower_photos/rose flower_photos/tulip",
            "read",
        ),
        (
            ["PetImages/Cat/", "PetImages/Dog/", "readme.docx", "__MACOSX/x/._a.jpg"],
            "PetImages/Cat PetImages/Dog",
            "read",
        ),
    ],
)
def test_folders_of_images_are_classes_even_one_that_is_named_like_a_split(
    tmp_path: Path, files: list[str], classes: str, note: str
) -> None:
    found = layout(folder(tmp_path, *files))
    assert places(found) == {"train": set(classes.split("|" if "|" in classes else None))}
    assert any(note in said for said in found.notes) if note else found.notes == []


BOTH_WAYS = [
    (["bus/", "car/", "train/steam/", "train/diesel/"], "with the classes diesel, steam, or a class beside bus, car"),
    ([*split_folders("train", "extra")], "or a class beside extra; use --splits train=train or --splits none"),
    (["x/train/a/", "x/train/b/", "x/bus/"], "use --splits train=x/train or --splits none"),
    (
        split_folders("fold1", "fold2"),
        "fold1, fold2 contain the same folders, cats, dogs; .*--splits train=fold1,test=fold2",
    ),
    (["fold1/loose.jpg", *split_folders("fold1", "fold2")], "fold1, fold2 contain the same folders"),
    (split_folders("entrenamiento", "prueba"), "contain the same folders, cats, dogs; .*use --splits none"),
    (["man/left/", "man/right/", "woman/left/", "woman/right/"], "if man, woman are the classes, use --splits none"),
    (["train/", "test/"], "test, train are named like splits but contain images, not class folders; .*--splits none"),
    (["car/", "train/", "test/"], "test, train are named like splits but contain images"),
    (["trainA/", "trainB/", "testA/", "testB/"], "testA, testB, trainA, trainB are named like splits"),
    (["train_cats/", "train_dogs/", "test_cats/", "test_dogs/"], "are named like splits"),
    (["images/val2017/", "images/train2017/", "labels/train2017/0.txt"], "train2017, val2017 are named like splits"),
    (
        ["cats/train/", "cats/test/", "dogs/train/", "dogs/test/"],
        "class 'cats' contains folders named like splits, test",
    ),
    (
        ["dogs/", "cats/photos/train/", "cats/photos/val/"],
        "class 'cats' contains folders named like splits, .* --splits none",
    ),
    (
        ["images/cats/", "images/dogs/", "masks/"],
        "images is named like a folder around the classes; use --data .*/images",
    ),
    ([*split_folders("train"), "test/"], "test contains images but no class folders, .*--splits train=train"),
    ([*split_folders("train", "train_2"), *split_folders("test")], "has train and train_2; keep one of them"),
    (
        split_folders("train", "Train", "val"),
        "has Train and train; keep one of them, or choose with --splits train=Train,val=val",
    ),
    (split_folders("val", "test"), "has test, val but no folder train; give it with --splits train=FOLDER"),
    (split_folders("learn", "test"), "has test but no folder train"),
    (
        ["cats/", "dogs/", "more/birds/", "more/owls/"],
        "more contains the folders birds, owls, but cats, dogs have images; use --splits none if more is one class, "
        "or move its folders up beside it if they are classes",
    ),
    (["bus/city/", "bus/coach/", "train/"], "bus contains the folders city, coach, but train has images"),
    (["cats/", "dogs/", "animals/cats/", "animals/dogs/"], "animals contains the folders cats, dogs"),
    (["zip/cats/", "zip/dogs/", "zip/extra/cats/", "zip/extra/dogs/"], "zip/extra contains .* use --splits none"),
    (["cats/", "cats/dogs/0.jpg", "dogs/"], "cats contains dogs, and another class has this name; use --splits none"),
    (
        [f"{split}/{kind}" for split in ("train", "val") for kind in ("pets/cats/", "pets/dogs/", "cars/")],
        "train/pets contains the folders cats, dogs, but cars .*; use --splits train=train,val=val if pets is one",
    ),
    (
        ["cats/", "dogs/", "test/cats/", "test/dogs/"],
        "test can hold images of the classes cats, dogs to evaluate, .*use --splits train=.,test=test or --splits none",
    ),
    (["x/cats/", "x/dogs/", "x/val/cats/", "x/val/dogs/"], "use --splits train=x,val=x/val or --splits none"),
    (
        ["cats/", "dogs/", "Test/cats/", "Test/dogs/", "valid/cats/", "valid/dogs/"],
        "Test, valid can hold images of the classes cats, dogs to .*use --splits train=.,val=valid,test=Test or",
    ),
    (
        [*split_folders("train", "val"), "train/", "train/more1.jpg", "train/more2.jpg", "train/more3.jpg"],
        "train has as many images outside its class folders as in them; .* with --splits train=train,val=val, or use",
    ),
    (["train/", *split_folders("val")], "train contains images but no class folders, so their classes are unknown"),
    (
        ["cats/0.jpg", "dogs/0.jpg", "a.jpg", "b.jpg"],
        "2 images are outside its folders and 2 in them; .*leave them out with --splits none",
    ),
    (["train/a/", "train/b/", "test/a/", "test/c/"], "different classes .*or name the folders to use with --splits"),
]


@pytest.mark.parametrize(("files", "words"), BOTH_WAYS)
def test_what_can_be_read_both_ways_is_refused_with_the_option_that_decides(
    tmp_path: Path, files: list[str], words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        list_folder(folder(tmp_path, *files))
    assert "\n" not in str(refused.value)
    assert "--splits" in str(refused.value)


@pytest.mark.parametrize(
    ("files", "splits", "expected"),
    [
        (["bus/", "train/a/", "train/b/"], "none", {"train": {"bus", "train"}}),
        (["bus/", "train/a/", "train/b/"], "train=train", {"train": {"train/a", "train/b"}}),
        (["train/", "test/"], "none", {"train": {"train", "test"}}),
        (["cats/train/", "cats/test/", "dogs/train/"], "none", {"train": {"cats", "dogs"}}),
        (["zip/man/left/", "zip/man/right/", "zip/woman/left/"], "none", {"train": {"zip/man", "zip/woman"}}),
        (
            split_folders("fold1", "fold2", "fold 3"),
            "train=fold 3,val=fold2,test=fold1",
            {split: {f"{at}/cats", f"{at}/dogs"} for split, at in
             (("train", "fold 3"), ("val", "fold2"), ("test", "fold1"))},
        ),
        (
            split_folders("x/val", "x/valid", "x/a,b"),
            "test=x/valid,train=x/a,b/",
            {"train": {"x/a,b/cats", "x/a,b/dogs"}, "test": {"x/valid/cats", "x/valid/dogs"}},
        ),
        (
            ["cats/", "dogs/", "x.jpg", *split_folders("test")],
            "train=.,test=test",
            {"train": {"cats", "dogs"}, "test": {"test/cats", "test/dogs"}},
        ),
        (
            ["x/cats/", "x/dogs/", *split_folders("x/test", "x/val")],
            "train=x,val=x/val,test=x/test",
            {
                "train": {"x/cats", "x/dogs"},
                "val": {"x/val/cats", "x/val/dogs"},
                "test": {"x/test/cats", "x/test/dogs"},
            },
        ),
        (["cats/", "dogs/", "more/birds/", "more/owls/"], "none", {"train": {"cats", "dogs", "more"}}),
        (["cats/0.jpg", "dogs/0.jpg", "a.jpg", "b.jpg"], "none", {"train": {"cats", "dogs"}}),
        (split_folders("train/seg", "test"), "train=train/seg", {"train": {"train/seg/cats", "train/seg/dogs"}}),
    ],
)  # fmt: skip
def test_the_option_decides(tmp_path: Path, files: list[str], splits: str, expected: dict[str, set[str]]) -> None:
    assert places(layout(folder(tmp_path, *files), splits)) == expected


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ("", "write none, or train=FOLDER"),
        ("nothing", "write none, or train=FOLDER"),
        ("train", "write none, or train=FOLDER"),
        ("train=a,train=b", "write none, or train=FOLDER"),
        ("train=a,dev=b", "write none, or train=FOLDER"),
        ("test=a", "no train; write train=FOLDER,test=a, or none"),
        ("train=fold", r"has no folder fold \(did you mean fold2 or fold1\?\); nearest: "),
        ("train=../elsewhere", "has no folder ../elsewhere"),
        ("train=fold1,test=fold1", "fold1 is also in another split"),
        ("train=fold1,test=fold1/cats", "fold1/cats is also in another split"),
    ],
)
def test_an_option_that_names_no_splits_is_refused(tmp_path: Path, splits: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        layout(folder(tmp_path, *split_folders("fold1", "fold2")), splits)
