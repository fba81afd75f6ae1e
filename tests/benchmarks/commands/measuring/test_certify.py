"""`certify` as a command: its file, its cache, its exit codes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from benchmarks.cli import main
from harness.data.checkpoint import read_meta
from results.certificates.certificate import read_certificate, seal

COMMAND = ("certify", "tiny-cnn", "--backends", "reference", "reference", "--scenario", "full")


def test_certify_writes_a_certificate_and_takes_it_from_the_cache_the_next_time(tmp_path: Path) -> None:
    command = [*COMMAND, "--results", str(tmp_path)]
    first = CliRunner().invoke(main, command)
    assert (first.exit_code, first.stdout.splitlines()[-1]) == (0, "P4"), first.output
    (file,) = (tmp_path / "certificates").glob("tiny-cnn-*.json")
    written = file.stat().st_mtime_ns
    assert CliRunner().invoke(main, command).stdout == first.stdout
    assert file.stat().st_mtime_ns == written
    _the_level_asked_for_decides_and_no_cache_certifies_again(command, file)
    edited = file.read_text().replace('"level": 3', '"level": 2', 1)
    file.write_text(edited)
    again = CliRunner().invoke(main, command)
    assert "was changed after it was written" in again.stderr and again.exit_code == 0
    assert file.read_text() != edited


def _the_level_asked_for_decides_and_no_cache_certifies_again(command: list[str], file: Path) -> None:
    """A sealed certificate of a lower level lies in the cache: it answers, until nothing made before is accepted."""
    made = read_certificate(file)
    lower = seal(replace(made, checks=tuple(replace(c, passed=c.passed and c.level < 4) for c in made.checks)))
    file.write_bytes(msgspec.json.encode(lower))
    endings = {}
    for level in ("P3", "P4"):
        outcome = CliRunner().invoke(main, [*command, "--level", level])
        endings[level] = (outcome.exit_code, outcome.stdout.splitlines()[-1])
    assert endings == {"P3": (0, "P3"), "P4": (1, "P3")}
    again = CliRunner().invoke(main, [*command, "--level", "P4", "--no-cache"])
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "P4"), again.output
    assert read_certificate(file).level() == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alexnet", "--backends", "pytorch", "keras3"], "keras3 does not have alexnet; it is in pytorch"),
        (["resnet81", "--backends", "pytorch", "keras3"], "resnet18"),
        (["tiny-cnn", "--backends", "reference", "referenec"], "reference"),
        (["tiny-cnn", "--backends", "reference", "reference", "--precision", "fp32", "--precision", "bf16"], "once"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["certify", *arguments, "--results", str(tmp_path)])
    assert outcome.exit_code == 2 and said in outcome.stderr and "Traceback" not in outcome.stderr


def test_the_checkpoint_counts_also_where_the_first_scenario_starts_from_random_values(
    checkpoint: Path, tmp_path: Path
) -> None:
    command = ["certify", "tiny-cnn", "--backends", "reference", "reference", "--checkpoint", str(checkpoint)]
    outcome = CliRunner().invoke(
        main, [*command, "--scenario", "scratch", "--scenario", "full", "--results", str(tmp_path)]
    )
    assert outcome.exit_code == 0, outcome.output
    (file,) = (tmp_path / "certificates").iterdir()
    assert read_certificate(file).checkpoint_sha256 == read_meta(checkpoint).sha256


def test_a_backend_is_certified_against_itself_with_a_setting(tmp_path: Path) -> None:
    command = ["certify", "tiny-cnn", "--backend", "reference", "--set", "features=kept", "--results", str(tmp_path)]
    outcome = CliRunner().invoke(main, command)
    assert outcome.exit_code == 0, outcome.output
    printed = outcome.stdout.splitlines()
    assert printed[0] == "tiny-cnn, reference against features=kept, fp32, from random values"
    assert [line for line in printed if line.startswith("NO")] == []
    assert printed[-1] == "P4"
    (file,) = (tmp_path / "certificates").glob("*.json")
    found = read_certificate(file)
    assert found.accelerated == {"features": "kept"}
    assert set(found.scenarios) == {"freeze-conv", "two-stage"}  # full keeps nothing fixed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "reference"], "or one --backend with --set"),
        (["--set", "features=kept"], "or one --backend with --set"),
        (["--backends", "reference", "reference", "--backend", "reference", "--set", "features=kept"], "give either"),
        (["--backend", "reference", "--set", "features=live"], "reference has this value of features anyway"),
        (["--backend", "reference", "--set", "precision=bf16"], "precision changes the numbers, so there is no proof"),
        (["--backend", "reference", "--set", "batch_size=4"], "batch_size changes the training, so there is no proof"),
        (["--backend", "reference", "--set", "features=dead"], "live, kept"),
        (["--backend", "reference", "--set", "features=kept,features=live"], "--set is given twice for features"),
        (["--backend", "reference", "--set", "features=kept", "--scenario", "full"], "no stage of full keeps a part"),
    ],
)
def test_a_setting_that_cannot_be_certified_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["certify", "tiny-cnn", *arguments, "--results", str(tmp_path)])
    assert outcome.exit_code == 2
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
