"""The certificates that are kept with the documentation: whole, of the last level, made by a command of their page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.commands.measuring.certify import command
from benchmarks.preparing.certify import LONG_SIZES
from results.certificates.certificate import Certificate, read_certificate, seal, write_certificate
from tests.results.certificates.test_certificate import KERAS, certificate, check
from tests.results.records import build

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "certificates"
PAGE = (FOLDER / "README.md").read_text()
NONE_KEPT = "None is kept yet."
LINES = re.findall(r"^\$ finetune-bench certify (.*)$", PAGE, re.MULTILINE)


def asked(line: str) -> dict[str, Any]:
    return command.make_context("certify", shlex.split(line)).params


def makes(line: str, made: Certificate) -> bool:
    """Whether a command of the page makes such a file: same model, arms and checkpoint, and long."""
    options = asked(line)
    sizes = set(LONG_SIZES) if options["long"] else set()
    return (
        options["model"] == made.model
        and set(options["backends"]) == {arm.backend for arm in made.arms}
        and [Path(one).name for one in options["checkpoint"]] == [made.checkpoint]
        and sizes <= set(made.image_sizes)
    )


def faults(folder: Path) -> list[str]:
    """What is wrong with the files of a folder, a sentence each."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            made = read_certificate(path)
        except ValueError as error:
            found.append(str(error))
            continue
        if made.level() != 4:
            found.append(f"{path.name} is of level P{made.level()}, not P4")
        if not any(makes(line, made) for line in LINES):
            found.append(f"{path.name} is made by no command of the page")
    return found


def test_every_certificate_that_is_kept_is_whole_of_the_last_level_and_made_by_a_command_of_the_page() -> None:
    assert faults(FOLDER) == []


def test_the_page_says_whether_any_certificate_is_kept() -> None:
    assert (NONE_KEPT in PAGE) == (not list(FOLDER.glob("*.json")))


def test_nine_commands_make_them_three_models_on_three_engines() -> None:
    commands = [asked(line) for line in LINES]
    assert len({(options["model"], options["backends"]) for options in commands}) == len(commands) == 9
    assert all(options["long"] and options["level"] == "P4" for options in commands)
    assert {options["results"] for options in commands} == {Path("docs")}


@pytest.fixture
def kept() -> Certificate:
    made = certificate(build(model="resnet18", backend="pytorch"), build(model="resnet18", **KERAS))
    checks = (*made.checks, check(4))
    return seal(
        replace(made, image_sizes=(64, *LONG_SIZES), checkpoint="resnet18_tinyimagenet64.pth", checks=checks),
    )


def test_a_file_that_does_not_belong_there_is_named(kept: Certificate, tmp_path: Path) -> None:
    whole = write_certificate(tmp_path, kept, "whole")
    assert faults(whole.parent) == []
    edited = write_certificate(tmp_path, replace(kept, seconds=2.0), "edited")
    write_certificate(tmp_path, seal(replace(kept, checks=kept.checks[:-1])), "lower")
    write_certificate(tmp_path, seal(replace(kept, image_sizes=(64,))), "short")
    assert faults(whole.parent) == [
        f"{edited} was changed after it was written, so it is not used; make it again with `certify`",
        "resnet18-lower.json is of level P3, not P4",
        "resnet18-short.json is made by no command of the page",
    ]
