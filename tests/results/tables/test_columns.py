"""One list of columns: every field of a case has one, and what follows from it is complete.

`python -m tests.results.tables.test_columns` writes the table of `docs/results.md` again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

import results
from benchmarks.choosing.selection import Selection
from benchmarks.cli import main
from benchmarks.commands.measuring.run import NAMED_BY_HAND
from benchmarks.comparing.question import _between_cases
from harness.spec import SETTINGS, key, version
from results.exports.processes import as_csv
from results.exports.training import settings
from results.report.page_data import gather
from results.tables.columns import CASE_TYPES, COLUMNS, METRICS, PROCESS_TYPES
from results.tables.identity import WHOLE, setting_of
from results.tables.render import render
from tests.harness.settings import another
from tests.results.records import build
from tests.results.tables.test_load import store

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "results.md"
BEGIN, END = "<!-- columns -->\n", "<!-- end of columns -->\n"
ROLES = ("identity", "setting", "figure", "mark")
OF_A_CASE = [name for name, setting in SETTINGS.items() if setting.role == "setting"]


def documented() -> str:
    """The table of all columns as markdown."""
    lines = ["| column | of | type | unit | role | meaning |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{one.name}` | {one.of} | {one.type} | {one.unit} | {one.role} | {one.text}{_option(one.name)} |"
        for one in sorted(COLUMNS, key=lambda one: ROLES.index(one.role))
    ]
    return "\n".join(lines) + "\n"


def _option(column: str) -> str:
    option = SETTINGS[column].option if column in SETTINGS else None
    return f"; `--{option.replace('_', '-')}`" if option else ""


def test_the_documentation_has_every_column() -> None:
    assert documented() == GUIDE.read_text().partition(BEGIN)[2].partition(END)[0]


def test_columns_have_one_name_each_and_figures_their_unit() -> None:
    names = [column.name for column in COLUMNS]
    assert len(names) == len(set(names))
    assert set(METRICS) <= set(names)
    assert all(column.text and not column.text.endswith(".") for column in COLUMNS)
    assert {column.role for column in COLUMNS} == set(ROLES)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_field_of_a_case_is_a_column_of_its_role(name: str) -> None:
    (column,) = [column for column in COLUMNS if column.name == name]
    assert (column.role, column.text) == (SETTINGS[name].role, SETTINGS[name].text)
    assert name in PROCESS_TYPES
    assert name in CASE_TYPES or name == "seed"


@pytest.mark.parametrize("name", OF_A_CASE)
def test_a_setting_has_an_option_that_the_command_line_and_a_suite_know(name: str) -> None:
    option = str(SETTINGS[name].option)
    assert option in Selection.__struct_fields__
    shown = CliRunner().invoke(main, ["run", "--help"]).output
    assert f"--{option.replace('_', '-')} " in shown
    assert (option in NAMED_BY_HAND) == SETTINGS[name].must_run


@pytest.mark.parametrize("name", OF_A_CASE)
def test_a_setting_tells_rows_apart_in_table_report_export_and_comparison(name: str, tmp_path: Path) -> None:
    one = build()
    case = replace(one.case, **{name: another(name)})
    other = replace(one, case=case, key=key(case), version=version(case))
    if name in ("device", "layout", "precision") and other.effective:
        other = replace(other, effective=replace(other.effective, **{name: another(name)}))
    store(tmp_path, one, other)
    frame = results.load(tmp_path)
    table = results.table(frame)
    assert table["runs"].tolist() == [1, 1]
    assert name in WHOLE and setting_of(one.case) != setting_of(case)
    assert table[name].nunique(dropna=False) == 2
    assert render(table, "csv").decode().splitlines()[0].split(",").count(name) == 1
    assert as_csv(frame).decode().splitlines()[0].split(",").count(name) == 1
    assert settings(one.case) != settings(case)
    assert [difference.field for difference in _between_cases(one.case, case)] == [name]
    first, second = gather(tmp_path).shown
    assert (first.setting, first.scenario) != (second.setting, second.scenario)


if __name__ == "__main__":
    before, _, rest = GUIDE.read_text().partition(BEGIN)
    GUIDE.write_text(f"{before}{BEGIN}{documented()}{END}{rest.partition(END)[2]}")
