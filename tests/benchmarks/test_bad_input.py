"""Bad input at the command line: one clear line, an exit code, nothing written. See `docs/bad-input.md`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.benchmarks.commanding import EXAMPLES, QUICK, ROOT, SMALL, invoke, records, refused
from tests.conftest import coloured
from tests.harness.cases import write_tiny

TABLE = ROOT / "docs" / "bad-input.md"


def run_refused(results: Path, *arguments: str | Path) -> str:
    """The line of a run that is refused before anything is written."""
    line = refused("run", *arguments, "--results", results / "results")
    assert not (results / "results").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "kind", "nearest"),
    [
        (("--backend", "pytorhc"), "backend", "pytorch"),
        (("--model", "resnt18"), "model", "resnet18"),
        (("--engine", "tensorfow"), "engine", "tensorflow"),
        (("--scenario", "freeze-con"), "scenario", "freeze-conv"),
        (("--recipe", "tutoral"), "recipe", "tutorial"),
        (("--augment", "flop"), "augmentation", "flip"),
        (("--augment", "random-resized-crop:scal=0.5"), "parameter", "scale"),
        (("--suite", "smoek"), "suite", "smoke"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    tmp_path: Path, arguments: tuple[str, ...], kind: str, nearest: str
) -> None:
    line = run_refused(tmp_path, *arguments)
    assert kind in line
    assert re.search(rf"did you mean '?{nearest}", line), line


def test_an_unknown_dataset_is_refused_with_the_nearest(tmp_path: Path) -> None:
    line = run_refused(tmp_path, *SMALL, "--scenario", "scratch", "--data", "embeded")
    assert "did you mean embedded" in line


@pytest.mark.parametrize(
    ("name", "words"),
    [("photos.zip", "unpack it and name the folder"), ("cat.png", "name the folder"), ("a.TAR", "unpack it and name")],
)
def test_a_file_in_place_of_a_folder_is_refused_as_a_file(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    said = f"{name} is a file; {words}"
    assert said in refused("show", tmp_path / name)
    assert said in run_refused(tmp_path, *SMALL, "--scenario", "scratch", "--data", tmp_path / name)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--device", "cdua"),
        ("--precision", "fp8"),
        ("--input", "disk"),
        ("--bn-mode", "bach"),
        ("--select-epoch", "bset"),
    ],
)
def test_a_word_of_a_closed_list_is_refused_with_the_list(tmp_path: Path, option: str, value: str) -> None:
    line = run_refused(tmp_path, *SMALL, option, value)
    assert f"'{value}' is not one of" in line


def test_an_unknown_option_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert re.search("No such option:? '?--modle.*--model", run_refused(tmp_path, "--modle", "resnet18"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "0"), "--epochs 0: must be at least 1"),
        (("--epochs", "many"), "'many' is not a valid integer"),
        (("--batch-size", "0"), "--batch-size 0: must be at least 1"),
        (
            ("--batch-size", "64"),
            "a batch of 64 is larger than the training set; data: 48 training images of the classes blue, green, red",
        ),
        (
            ("--batch-size", "16"),
            "stage 1 on three colours: too few steps (3): the first step and 3 warm-up steps do not count",
        ),
        (("--seeds", "0"), "--seeds 0: must be at least 1"),
        (("--threads", "0"), "--threads 0: must be at least 1"),
        (("--limit", "0"), "--limit 0: must be at least 1"),
        (("--image-size", "4"), "--image-size 4: must be at least 8"),
        (("--lr", "-1"), "head_lr must not be negative"),
        (("--bn-momentum", "0"), "bn_momentum"),
        (("--warmup-steps", "-1"), "--warmup-steps -1: must be at least 0"),
        (("--workers", "-1"), "--workers -1: must be at least 0"),
        (("--validation-split", "1.5"), "--validation-split 1.5: must be between 0 and 1"),
        (("--validation-split", "0.2"), "has the folder val; leave out --validation-split"),
        (("--test-split", "1"), "--test-split 1.0: must be between 0 and 1"),
        (("--test-split", "0.2"), "has the folder test; leave out --test-split"),
        (("--validation-seed", "-1"), "--validation-seed -1: must be at least 0"),
        (("--validation-seed", "1"), "has the folder val; leave out --validation-seed"),
        (("--timeout", "0"), "--timeout"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_runs(
    images: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    line = run_refused(tmp_path, *SMALL, "--scenario", "scratch", "--data", images, *arguments)
    assert words in line


def test_a_model_that_the_named_backend_does_not_have_is_refused(tmp_path: Path) -> None:
    assert "reference has no model resnet18" in run_refused(
        tmp_path, *QUICK, "--model", "resnet18", "--data", "embedded"
    )


def test_a_plugin_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    assert f"{tmp_path}/nothing.py: no such file" in run_refused(tmp_path, *SMALL, "--plugin", tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('half\\nbaked')", "RuntimeError: half baked"),
        ("def broken(:", "SyntaxError"),
        ("import tensorflow_of_tomorrow", "tensorflow_of_tomorrow is not installed"),
        ("import sys; sys.exit('bye')", "bye"),
        ("MODELS = {'pytorhc': []}", "did you mean pytorch"),
        ("SCENARIOS = [1]", "plugin"),
    ],
)
def test_a_plugin_that_fails_is_refused_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    plugin = tmp_path / "half_baked.py"
    plugin.write_text(text)
    line = run_refused(tmp_path, *SMALL, "--plugin", plugin)
    assert "half_baked.py" in line
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[case]]\nbackends = ['reference']", "backends"),
        ("[[case]]\nepochs = 'ten'", "epochs"),
        ("[[case]]\nepochs = 0", "--epochs 0: must be at least 1"),
        ("[[case]]\nmodel = ['resnt18']", "did you mean resnet18"),
        ("[[cases]]\nmodel = ['resnet18']", "did you mean case"),
        ("[[case]\n", "mine.toml"),
        ("", "mine.toml"),
        ("[[case]]\n[[scenario]]\nname = 'x'\nexplanation = ''\nstages = []", "scenario x has no stages"),
        (
            "[[case]]\n[[scenario]]\nname = 'x'\nexplanation = ''\n[[scenario.stages]]\nepoch = 3\nhead_lr = 1\n"
            "backbone_lr = 1",
            "epoch",
        ),
        (
            "[[case]]\n[[scenario]]\nname = 'x'\nexplanation = ''\n[[scenario.stages]]\nepochs = 0\nhead_lr = 1\n"
            "backbone_lr = 1",
            "scenario x, stage 1: epochs must be at least 1",
        ),
        (
            "[[case]]\n[[scenario]]\nname = 'x'\nexplanation = ''\n[[scenario.stages]]\nepochs = 1\nhead_lr = 1\n"
            "backbone_lr = 1\nfrozen = 'head'",
            "frozen",
        ),
    ],
)
def test_a_suite_file_with_a_slip_is_refused_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    assert words in run_refused(tmp_path, "--suite", tmp_path / "mine.toml")


def test_a_checkpoint_of_another_model_is_refused(images: Path, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "other.safetensors", model="resnet18")
    line = run_refused(tmp_path, *SMALL, "--data", images, "--scenario", "full", "--checkpoint", path)
    assert "is a checkpoint of resnet18, not of tiny-cnn" in line


def test_data_that_is_refused_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "one class" / "train" / "cat").mkdir(parents=True)
    line = run_refused(tmp_path, *SMALL, "--scenario", "scratch", "--data", tmp_path / "one class")
    assert "one class" in line


def test_a_dataset_plugin_with_wrong_arrays_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "floats.py"
    plugin.write_text((EXAMPLES / "dataset.py").read_text().replace("images.astype(np.uint8)", "images.astype(float)"))
    line = run_refused(tmp_path, *SMALL, "--scenario", "scratch", "--data", "light", "--plugin", plugin)
    assert "uint8 [n, side, side, 3] is needed" in line


def test_files_that_cannot_be_read_are_skipped_counted_and_said(images: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "with damage"
    shutil.copytree(images, folder)
    (folder / "train" / "red" / "zz.png").write_bytes(b"\x89PNG broken")
    result = invoke("run", *SMALL, "--scenario", "scratch", "--data", folder, "--results", tmp_path / "results")
    assert result.exit_code == 0
    (record,) = records(tmp_path / "results")
    assert "1 file skipped: red 1 (unreadable)" in record.notes


def test_V50_a_results_file_cut_in_the_middle_of_a_line_still_gives_its_table_and_fails(finished_copy: Path) -> None:
    (file,) = finished_copy.rglob("*.jsonl")
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:3]) + whole[3][:-200])
    result = invoke("table", "--results", finished_copy)
    assert result.exit_code == 3
    assert "cut off while it was written" in result.stdout


def test_nothing_to_tabulate_is_3(tmp_path: Path) -> None:
    result = invoke("table", "--results", tmp_path)
    assert result.exit_code == 3
    assert "holds no record" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("show", "resnt18"), ("show", "tiny-cnn", "--tensor", "features.0.0.wight"), ("list", "modles"), ("predct",)],
)
def test_other_commands_offer_the_nearest_name_too(arguments: tuple[str, ...]) -> None:
    line = refused(*arguments)
    assert any(name in line for name in ("resnet18", "features.0.0.weight", "models", "predict"))


def test_the_noise_of_the_tests_is_the_same_in_every_process() -> None:
    assert coloured("train", 3)[0].sum() == coloured("train", 3)[0].sum()


def table_rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_row_of_the_table_names_a_test_that_exists() -> None:
    rows = [row for row in table_rows() if row[0] != "input"]
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 4, row
        assert row[3], row
        for name in re.findall(r"`([^`]+)`", row[3]):
            file, _, function = name.partition("::")
            tree = ast.parse((ROOT / "tests" / file).read_text())
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert function in defined, f"{row[0]}: {name}"


PROMISED = (
    """
empty folder|one class|a class without images|corrupt|truncated|zero-byte|16 bits|CMYK|palette|animated|1 × 1|20 000
splits under other names|named like a split|can be splits or classes|other endings alone|in two classes|hidden files
names with spaces|newlines|non-ASCII|a symbolic link that loops|classes that differ|the same file
a checkpoint of another model|a truncated checkpoint|pickle|NaN weights|unknown name|a batch larger than the set
zero epochs|shorter than its first step and warm-up|diverges|killed|out of memory|hangs|crashes in native code|prints
a plugin that raises|a full disk|a read-only folder|two runs writing at once|cut in the middle of a line
""".lower()
    .strip()
    .replace("\n", "|")
    .split("|")
)


def test_every_bad_input_that_was_promised_has_a_row() -> None:
    text = " ".join(row[0] for row in table_rows()).lower()
    for words in PROMISED:
        assert words in text, words
