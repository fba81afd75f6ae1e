"""Names of classes, files and folders as file systems allow them, from the folder to the table, report and record."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks.datasets.contact_sheet import sheet
from benchmarks.datasets.folder import list_folder
from benchmarks.datasets.prepare import prepare_folder
from harness.data.dataset import open_dataset
from harness.errors import Declined, Refused, printable
from harness.running.opening import open_case
from harness.spec import Job
from tests.benchmarks.commanding import SMALL, invoke, records, refused
from tests.harness.cases import tiny_case

COMPOSED, SEPARATED = unicodedata.normalize("NFC", "Käfer"), unicodedata.normalize("NFD", "Käfer")
CLASSES = {
    b"caf\xe9": "caf\\xe9",
    b"\xed\xa0\x80": "\\xed\\xa0\\x80",  # a surrogate, as UTF-8 does not allow it
    b"two\nlines": "two\nlines",
    b"space ": "space ",
    b"\x1b[31mred": "\x1b[31mred",
    "\u202eright to left".encode(): "\u202eright to left",
    b"[bold]<b>|,'\"": "[bold]<b>|,'\"",
    SEPARATED.encode(): COMPOSED,
    "🐜".encode(): "🐜",
}
FILES = [b"plain", b"\xff", b" space ", b"new\nline", SEPARATED.encode()]


def write(folder: Path, classes: list[bytes], files: list[bytes], first: int = 0) -> Path:
    for label, name in enumerate(classes):
        place = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        place.mkdir(parents=True)
        for number, file in enumerate(files):
            shade = np.random.default_rng([label, number + first]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(shade).save(os.fsdecode(os.fsencode(place) + b"/" + file + b".png"))
    return folder


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for part, first in (("train", 0), ("val", 10)):
        write(folder / part, list(CLASSES), FILES, first)
    return folder


@pytest.fixture(scope="module")
def run(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    case = (*SMALL, "--scenario", "scratch", "--data", odd, "--results", place / "results")
    result = invoke("run", *case, "--save-model", place / "saved")
    assert result.exit_code == 0, result.output
    return place


def test_a_record_has_every_class_by_its_name(run: Path) -> None:
    (record,) = records(run / "results")
    assert set(record.classes) == set(CLASSES.values())


@pytest.mark.parametrize(
    "command", [("table",), ("table", "--wide", "--explain"), ("verify",), ("report",), ("export", "--to", "csv")]
)
def test_every_reader_of_the_record_succeeds(run: Path, command: tuple[str, ...]) -> None:
    result = invoke(*command, "--results", run / "results")
    assert result.exit_code == 0, result.output


def test_a_report_has_no_control_characters(run: Path) -> None:
    page = (run / "results" / "report.html").read_text(encoding="utf-8")
    assert "caf\\\\xe9" in page
    assert not {"\x1b", "\u202e"} & set(page)


def test_show_prints_a_line_for_each_class_and_draws_them(odd: Path, tmp_path: Path) -> None:
    result = invoke("show", odd, "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    for name in CLASSES.values():
        assert f"class {name!r}: 5 train, 5 val\n" in result.stdout
    assert (tmp_path / "sheet.png").exists()


def test_predict_prints_names_that_are_not_utf8_as_escapes(run: Path, odd: Path) -> None:
    (model,) = (run / "saved").iterdir()
    result = invoke("predict", model, odd)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2 * len(CLASSES) * len(FILES)
    assert "'\\\\xff.png'" in result.stdout and "'new\\nline.png'" in result.stdout


def test_the_native_pipeline_declines_file_names_that_are_not_utf8(odd: Path, tmp_path: Path) -> None:
    data = prepare_folder(odd, name="odd", image_size=16, cache=tmp_path)
    job = Job(case=tiny_case(data), dataset_path=str(data.folder), files_path=str(odd))
    assert open_case(job).dataset.meta.classes == data.meta.classes
    with pytest.raises(
        Declined, match=r"(\d+) of 45 training images have names that are not valid UTF-8, such as .*\\x"
    ):
        open_case(replace(job, case=replace(job.case, input="native")))


NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--data", NOT_UTF8),
        ("run", "--checkpoint", f"{NOT_UTF8}/a.pth"),
        ("run", "--plugin", f"{NOT_UTF8}.py"),
        ("show", NOT_UTF8),
        ("table", "--results", NOT_UTF8),
        ("predict", "model", NOT_UTF8),
        ("compare", f"dir:{NOT_UTF8}", "here"),
    ],
)
def test_an_argument_that_is_not_utf8_is_refused_by_its_escaped_name(arguments: tuple[str, ...]) -> None:
    assert "caf\\xe9" in (line := refused(*arguments))
    assert line.endswith("is not valid UTF-8; rename the file or folder")


def test_a_working_folder_that_is_not_utf8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NOT_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NOT_UTF8)
    assert refused("list", "models").endswith("caf\\xe9 is not valid UTF-8; rename the file or folder")


def test_a_class_in_both_forms_of_unicode_is_one_class(tmp_path: Path) -> None:
    write(tmp_path / "train", [COMPOSED.encode(), b"a"], [b"0", b"1"])
    write(tmp_path / "val", [SEPARATED.encode(), b"a"], [b"0", b"1"], first=5)
    listing = list_folder(tmp_path)
    assert set(listing.classes) == {COMPOSED, "a"}
    assert all(Path(file.path).exists() for files in listing.splits.values() for file in files)


def test_splits_may_be_named_in_the_other_form_of_unicode(tmp_path: Path) -> None:
    write(tmp_path / SEPARATED, [b"a", b"b"], [b"0", b"1"])
    write(tmp_path / "x", [b"a", b"b"], [b"0", b"1"], first=5)
    assert set(list_folder(tmp_path, named_splits=f"train={COMPOSED},val=x").splits) == {"train", "val"}


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"cats", b"cats "), (b"two lines", b"two\nlines"), (COMPOSED.encode(), SEPARATED.encode())],
)
def test_two_classes_that_look_the_same_are_refused_with_both_names(tmp_path: Path, one: bytes, other: bytes) -> None:
    write(tmp_path, [one, other, b"z"], [b"0", b"1"])
    with pytest.raises(Refused, match=r"except for spaces or the form of Unicode, .*; rename one of them") as refusal:
        list_folder(tmp_path)
    names = {ascii(printable(name.decode())) for name in (one, other)}
    assert len(names) == 2 and all(name in str(refusal.value) for name in names)


def test_a_class_whose_name_differs_by_a_space_between_splits_is_quoted(tmp_path: Path) -> None:
    write(tmp_path / "train", [b"cats", b"dogs"], [b"0", b"1"])
    write(tmp_path / "val", [b"cats ", b"dogs"], [b"0", b"1"], first=5)
    with pytest.raises(Refused, match=r"only in val: 'cats '; only in train: cats\)"):
        list_folder(tmp_path)


@pytest.mark.parametrize(("name", "drawn"), [("Käfer", "K\\xe4fer"), ("蚁", "\\u8681"), ("a\nb", "a\\nb")])
def test_a_contact_sheet_draws_escapes_for_what_its_font_does_not_have(tmp_path: Path, name: str, drawn: str) -> None:
    pixels = [sheet_of(tmp_path / str(number), text) for number, text in enumerate((name, drawn))]
    assert np.array_equal(*pixels)


def sheet_of(place: Path, name: str) -> np.ndarray:
    from benchmarks.datasets.arrays import ArraySet, prepare_arrays

    draw = np.random.default_rng(0)
    splits = {
        split: (draw.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8), np.arange(count) % 2)
        for split, count in (("train", 4), ("val", 2))
    }
    folder = prepare_arrays("made", ArraySet(("a", name), splits), cache=place).folder
    assert open_dataset(folder).meta.classes == ("a", name)
    return np.asarray(Image.open(sheet(folder, place / "sheet.png", columns=2, rows=2)))
