"""The documentation site: every page is in its table of contents, and the generated reference agrees with the code."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.scenarios import RECIPES, SCENARIOS
from benchmarks.cli import main
from benchmarks.comparing import gate
from harness.running.record import STATUSES
from harness.spec import SETTINGS
from tests.benchmarks.commanding import ROOT, invoke

DOCS = ROOT / "docs"
DATA = ("campaign", "certificates", "examples", "figures", "generated", "peers")
"""Folders of docs/ that hold data; their README.md may be a page."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = _load()
ENTRIES = [
    entry
    for tree in re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    for entry in tree.splitlines()
    if entry and not entry.startswith(":")
]
WRITTEN = sorted(
    path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in DATA and path.name != "index.md"
)
PAGES = [*WRITTEN, DOCS / "index.md", *DOCS.glob("*/README.md")]
COMMANDS = [
    pytest.param(command, id=f"{path.relative_to(DOCS)}: {command[:60]}")
    for path in PAGES
    for command in re.findall(r"^\$ finetune-bench (.*)$", path.read_text(), re.MULTILINE)
]


def cells(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables of a page, without backticks."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_page_is_in_one_of_the_four_tables_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    assert re.findall(r"^:caption: (.*)$", index, re.MULTILINE) == ["Tutorials", "How-to", "Reference", "Explanation"]
    assert len(ENTRIES) == len(set(ENTRIES))
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in WRITTEN}
    generated = {f"generated/{name}" for name in REFERENCE.PAGES}
    assert pages | generated <= set(ENTRIES)
    assert {entry for entry in set(ENTRIES) - generated if not (DOCS / f"{entry}.md").is_file()} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_a_page_has_the_names_and_options_that_it_uses(command: str) -> None:
    words = shlex.split(command, comments=True)
    flags = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    name, *words = words[len(flags) :]
    main.make_context("benchmarks", [*flags, name])  # the options of the program
    end = next((place for place, word in enumerate(words) if word in ("|", ">", ">>", "&&")), len(words))
    found = main.get_command(click.Context(main), name)
    assert found is not None
    found.make_context(name, words[:end])  # raises what the command line would say


def test_the_page_of_settings_has_every_field_with_its_option_and_default() -> None:
    rows = {row[0]: row for row in cells(REFERENCE.settings())}
    options = set(re.findall(r"--[\w-]+", invoke("run", "--help").stdout))
    for name, setting in SETTINGS.items():
        _, text, option, default, _, role, kind = rows[name]
        assert (role, text, kind) == (setting.role, setting.text, setting.exactness or "–")
        assert (option in options) if option else setting.option is None
        if setting.default is msgspec.NODEFAULT:
            assert default == "–"
        else:
            assert json.loads(default) == json.loads(msgspec.json.encode(setting.default))


def test_the_page_of_scenarios_has_every_stage_of_every_recipe() -> None:
    text = REFERENCE.scenarios()
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name, make in SCENARIOS.items():
        header, *rows = cells(parts[name])
        found = [(row[0], int(row[header.index("epochs")]), float(row[header.index("head lr")])) for row in rows]
        made = [(one.name, stage) for one in RECIPES.values() for stage in make(one).stages]
        assert found == [(recipe, stage.epochs, pytest.approx(stage.head_lr)) for recipe, stage in made]


def test_the_page_of_models_says_which_backend_has_which_model_and_which_weights() -> None:
    catalogue = read_catalogue()
    rows = list(cells(REFERENCE.models()))
    header = next(row for row in rows if row[0] == "model")
    offered = {
        (backend, row[0])
        for row in rows
        for backend, cell in zip(header[2:], row[2:], strict=False)
        if cell == "yes" and len(row) == len(header)
    }
    assert offered == {(backend, model) for backend, facts in catalogue.backends.items() for model in facts.models}
    facts_of_models = [model for facts in catalogue.backends.values() for model in facts.models.values()]
    addresses = {one.url for model in facts_of_models for one in model.published.values()}
    assert addresses == {cell for row in rows for cell in row if cell.startswith("https://")}


def test_the_page_of_statuses_explains_every_status_and_every_exit_code_of_the_gate() -> None:
    rows = {row[0]: row[1] for row in cells(REFERENCE.statuses())}
    assert set(REFERENCE.MEANINGS) == set(STATUSES) <= set(rows)
    codes = (gate.FINE, gate.REGRESSION, gate.USAGE, gate.FAILED, gate.NO_BASE, gate.UNDECIDED)
    assert set(map(int, re.findall(r"\b\d\b", rows["gate"]))) == set(codes)


def test_the_schema_describes_every_field_of_the_stored_rows() -> None:
    text = REFERENCE.schema()
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    types = {"run": "RunRow", "process": "ProcessRow", "pair": "PairRow", "verdict": "VerdictRow", "end": "EndRow"}
    files = (ROOT / "tests" / "golden" / "stored").rglob("*.jsonl")
    stored = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {row["row"] for row in stored} >= {"run", "process", "end"}
    for row in stored:
        assert set(row) <= {cell[0] for cell in cells(parts[types[row["row"]]])}
        assert set(row.get("record", ())) <= {cell[0] for cell in cells(parts["Record"])}


def test_pages_are_written_again_only_if_they_changed(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    REFERENCE.write(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(before) == {f"{name}.md" for name in REFERENCE.PAGES}
    (folder / "models.md").write_text("old")
    REFERENCE.write(folder)
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before[path.name]}
    assert changed == {"models.md"}
