"""What `run` says of an image folder: its classes, what it skips, and the option that says which folders are splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from results.storage.objects import get_json
from tests.benchmarks.commanding import SMALL, invoke, records, refused


def run(data: Path, results: Path, *more: str | Path) -> tuple[str, str]:
    """Output and error output of a run of one case that must succeed."""
    result = invoke("run", *SMALL, "--scenario", "scratch", "--data", data, "--results", results, *more)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def photos(images: Path, tmp_path: Path) -> Path:
    """A copy of the three colours, to be changed."""
    return Path(shutil.copytree(images, tmp_path / "photos"))


def test_a_run_names_its_classes_with_their_images_and_counts_what_it_skips(photos: Path, tmp_path: Path) -> None:
    for number in range(3):
        (photos / "train" / "red" / f"{number}.jfif").write_bytes(b"")
    (photos / "test" / "blue" / "0.HEIC").write_bytes(b"")
    (photos / "val" / "blue" / "0.png").write_bytes(b"no image")
    (photos / "README.md").write_bytes(b"")
    said = "6 files skipped: blue 2 (1 ending .heic, 1 unreadable), red 3 (ending .jfif), outside the classes 1 (ending"
    out, err = run(photos, tmp_path / "results")
    assert "photos: 3 classes, images of train/val/test: blue 16/4/8, green 16/4/8, red 16/4/8\n" in err
    assert f"photos: {said}" in err
    assert said in " ".join(out.split())
    (record,) = records(tmp_path / "results")
    assert any(note.startswith(said) for note in record.notes)
    assert record.skipped is not None
    listed = get_json(tmp_path / "results", record.skipped)
    assert dict(listed["skipped"])["train/red/1.jfif"] == "ending .jfif"
    assert dict(listed["skipped"])["val/blue/0.png"] == "unknown image format"
    assert len(listed["skipped"]) == 6


def test_a_record_of_data_without_skipped_files_names_no_list(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "results")
    assert [record.skipped for record in records(tmp_path / "results")] == [None]


def test_naming_the_splits_that_are_recognised_anyway_changes_no_case(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "results")
    run(photos, tmp_path / "results", "--splits", "test=test,train=train,val=val")
    first, second = records(tmp_path / "results")
    assert (first.key, first.version) == (second.key, second.version)


def test_other_split_folders_are_other_data(photos: Path, tmp_path: Path) -> None:
    out, err = run(photos, tmp_path / "results", "--splits", "train=train,test=val", "--epochs", "2")
    assert "images of train/val/test: blue 13/3/4, green 13/3/4, red 13/3/4" in err
    assert "splits: train is train, test is val" in " ".join(out.split())


def test_folders_that_can_be_splits_or_classes_are_refused_until_an_option_decides(
    photos: Path, tmp_path: Path
) -> None:
    for split in ("val", "test"):
        (photos / split).rename(photos / f"{split}bed")
    line = refused("run", *SMALL, "--scenario", "scratch", "--data", photos, "--results", tmp_path / "results")
    assert (
        "train can be the training images, with the classes blue, green, red, or a class beside testbed, valbed" in line
    )
    assert "use --splits train=train or --splits none" in line
    assert not (tmp_path / "results").exists()
    _, err = run(photos, tmp_path / "results", "--splits", "none")
    assert "3 classes, images of train/val: testbed 19/5, train 38/10, valbed 10/2" in err


def test_a_suite_s_file_has_the_option_too(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        f"[[case]]\nbackend = ['reference']\nmodel = ['tiny-cnn']\nscenario = ['scratch']\ndata = ['{photos}']\n"
        "splits = 'train=test,val=val'\nimage_size = [32]\naugment = ['none']\nbatch_size = [4]\nepochs = 1\n"
    )
    result = invoke("run", "--suite", tmp_path / "mine.toml", "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    assert "images of train/val: blue 8/4, green 8/4, red 8/4" in result.stderr


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ("tain=train", "--splits tain=train: write none, or train=FOLDER,val=FOLDER,test=FOLDER"),
        ("train=trian", "has no folder trian (did you mean train"),
        ("val=val", "no train; write train=FOLDER,val=val, or none"),
    ],
)
def test_an_option_that_names_no_folder_is_refused(photos: Path, tmp_path: Path, splits: str, words: str) -> None:
    case = (*SMALL, "--scenario", "scratch", "--results", tmp_path / "results")
    assert words in refused("run", *case, "--data", photos, "--splits", splits)


def test_the_option_is_refused_for_data_that_is_no_folder(tmp_path: Path) -> None:
    case = (*SMALL, "--scenario", "scratch", "--results", tmp_path / "results")
    assert "embedded is not an image folder; leave out --splits" in refused("run", *case, "--splits", "none")


def test_a_refusal_for_too_few_images_names_the_classes_and_counts_what_is_skipped(
    photos: Path, tmp_path: Path
) -> None:
    for file in photos.glob("train/*/*.png"):
        if int(file.stem) >= 12:
            file.rename(file.with_suffix(".jfif"))
    line = refused("run", *SMALL, "--scenario", "scratch", "--data", photos, "--results", tmp_path / "results")
    assert line.endswith("; data: 12 training images of the classes blue, green, red, 36 files skipped")
