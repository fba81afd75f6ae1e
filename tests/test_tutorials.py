"""Every command of the tutorials is run, in order, and prints what the page shows, except for the figures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.benchmarks.commanding import ROOT, checkout

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"(?:<!-- exit code (\d) -->\n)?```console\n(.*?)```", re.DOTALL)

FIGURE = r"~?[+-]?\d+(?:\.\d+)?(?:e-\d+)?"


class Block(NamedTuple):
    """A command of a page, its exit code, and the lines that it prints; `…` stands for lines that are not shown."""

    command: str
    code: int
    lines: list[str]


def blocks(page: str) -> list[Block]:
    found = []
    for code, text in BLOCK.findall(page):
        command, *lines = (line for line in text.splitlines() if line not in ("", "…"))
        assert [line.startswith("$ ") for line in (command, *lines)] == [True, *(False for _ in lines)]
        found.append(Block(command.removeprefix("$ "), int(code or 0), lines))
    return found


def shown_by(line: str) -> re.Pattern[str]:
    """A pattern for a line with other figures; a figure may have `~` before it, or be missing: `–`."""
    words = (rf"(?:{FIGURE}|–)".join(map(re.escape, re.split(FIGURE, word))) for word in line.split())
    return re.compile(r"^\s*" + r"\s+".join(words) + r"\s*$", re.MULTILINE)


def test_a_line_is_recognised_with_other_figures_and_not_with_other_words() -> None:
    shown = shown_by("  full   pytorch   ~97.9   31.7")
    assert shown.search("  full  pytorch  100.0  ~8")
    assert shown.search("  full  pytorch  –  8")
    assert not shown.search("  freeze-conv  pytorch  100.0  8")
    assert not shown.search("  full  pytorch  100.0")


@pytest.mark.long
@pytest.mark.timeout(1800)  # a busy machine repeats disturbed pairs
@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_a_tutorial_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    if "--backend pytorch" in page.read_text():
        pytest.importorskip("torch", reason="torch is not installed")
    folder = checkout(tmp_path / "checkout")
    (folder / "docs").symlink_to(ROOT / "docs")
    command = tmp_path / "bin" / "finetune-bench"  # the installed one runs the checkout that it was installed from
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m benchmarks "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    found = blocks(page.read_text())
    assert found
    for block in found:
        done = subprocess.run(
            ["bash", "-c", block.command], cwd=folder, env=environment, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == block.code, done.stdout
        for line in block.lines:
            assert shown_by(line).search(done.stdout), f"{line!r} is not in\n{done.stdout}"
