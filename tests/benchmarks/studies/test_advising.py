"""The study of `advise` on made-up problems: the lines of its table."""

from __future__ import annotations

from click.testing import CliRunner

from benchmarks.advising.simulated import WAYS, Played
from benchmarks.studies.advising import HEADING, main, row


def test_a_line_has_a_figure_for_each_heading() -> None:
    played = [Played(0.01, True, True, 0.9, True), Played(0.03, False, True, 1.0, False)]
    assert len(row("advise", played)) == len(HEADING)
    assert row("advise", played)[:2] == ("advise", "2.00")
    assert row("advise", played)[3:] == ("50.0 %", "100.0 %", "100 %", "1")


def test_every_way_has_a_line() -> None:
    result = CliRunner().invoke(main, ["--problems", "10"])
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[1:]] == list(WAYS)
