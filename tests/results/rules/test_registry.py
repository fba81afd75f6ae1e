"""Every id that a user can meet is explained, every explanation has a check, and the product makes every check."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from harness.rules import Breach, Rule, Scope, ask, read_breaches, require, without
from results.rules.registry import RULES, SCOPES, TRAPS, as_markdown, rules_of
from tests.benchmarks.commanding import invoke, refused

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path for package in ("harness", "results", "backends", "benchmarks") for path in (ROOT / package).rglob("*.py")
]
PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.rglob("*.json")]


def ids_in(path: Path) -> set[str]:
    """Ids in the strings, docstrings and names of functions of a source file, or anywhere in another file."""
    if path.suffix != ".py":
        return set(re.findall(r"\bV\d\d\b", path.read_text(encoding="utf-8")))
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = [node.name.upper().strip("_") for node in nodes if isinstance(node, ast.FunctionDef)]
    return {id for text in (*strings, *names) for id in re.findall(r"(?<![A-Z0-9])V\d\d(?![0-9])", text)}


def test_every_id_in_code_documentation_and_stored_files_is_explained() -> None:
    unexplained = {str(path): ids for path in (*SOURCES, *PAGES) if (ids := ids_in(path) - TRAPS.keys())}
    assert unexplained == {}


def test_an_id_without_an_entry_would_be_found(tmp_path: Path) -> None:
    source = tmp_path / "rules.py"
    source.write_text('def v98_odd():\n    """Odd."""\n    return f"void ({1}, V97)"\n')
    assert ids_in(source) == {"V98", "V97"}


def test_every_entry_has_a_check_and_every_check_an_entry() -> None:
    assert {rule.id for rule in RULES} == set(TRAPS)
    assert list(TRAPS) == sorted(TRAPS)
    for rule in RULES:
        assert callable(rule.check)
        assert rule.sentence.endswith((".", "?")), rule
    assert len({(rule.id, rule.scope, rule.sentence) for rule in RULES}) == len(RULES)


def test_every_scope_is_explained_and_used() -> None:
    assert set(SCOPES) == set(get_args(Scope)) == {rule.scope for rule in RULES}


@pytest.mark.parametrize("scope", SCOPES)
def test_the_product_asks_the_rules_of_every_scope(scope: Scope) -> None:
    """Each tuple of rules that the registry lists is used in a module besides it and the one that defines it."""
    tuples = {
        "dataset": "image_in_two_splits", "session": "checks.not_loaded", "audit": "ask(TENSOR_RULES", "record":
        "ask(RECORD_RULES", "files": "ask(FILE_RULES", "times": "ask(TIME_RULES", "mark": "time_rules.MARK_RULES",
        "pair": "in PAIR_RULES", "certificate": "ask(CERTIFICATE_RULES", "table": "ask(TABLE_RULES", "folder":
        "*missing_cases(",
    }  # fmt: skip
    assert [path for path in SOURCES if tuples[scope] in path.read_text(encoding="utf-8")]


def test_one_id_has_one_meaning_and_its_checks_have_names_of_their_own() -> None:
    labels = [rule.label for rule in RULES if rule.label]
    assert len(set(labels)) == len(labels)
    threads = {rule.scope: rule.sentence for rule in rules_of("V37")}
    assert threads == {
        "times": "The process used more cores or threads than its case allows.",
        "pair": "One side has more threads than the other.",
    }


def test_the_page_about_rules_is_that_of_the_registry() -> None:
    assert (ROOT / "docs/rules.md").read_text(encoding="utf-8") == as_markdown() == invoke("rules", "--markdown").stdout


def test_the_command_lists_every_rule_and_explains_one() -> None:
    listed = invoke("rules").stdout
    assert [line[:3] for line in listed.splitlines()[1:] if line[0] == "V"] == list(TRAPS)
    explained = invoke("rules", "v41").stdout
    assert explained.startswith(f"V41: {TRAPS['V41']}\n")
    assert all(f"\n{rule.scope}: {rule.sentence}\n" in explained for rule in rules_of("V41"))


def test_an_unknown_rule_is_refused_with_the_nearest_names() -> None:
    assert "no rule V99 (did you mean V" in refused("rules", "V99")


def test_a_breach_carries_its_rule_and_is_read_back_from_a_stored_reason() -> None:
    odd: Rule[[int]] = Rule("V07", "Odd.", "record", lambda number: [("here", "odd")] if number % 2 else [])
    assert ask([odd], 3) == [Breach("V07", "here", "odd")]
    assert ask([odd], 4) == []
    reason = "; ".join(map(str, [*ask([odd], 1), Breach("V45", "", "a half; or less")]))
    assert list(read_breaches(reason)) == [Breach("V07", "", "here: odd"), Breach("V45", "", "a half; or less")]
    assert list(read_breaches("no CUDA; V45 is no id here")) == ["no CUDA; V45 is no id here"]


def test_a_check_that_answers_yes_has_its_label_as_text_and_can_be_switched_off() -> None:
    void: Rule[[bool]] = Rule("V51", "Rounded.", "times", lambda rounded: rounded, "rounded times")
    assert list(void(True)) == [Breach("V51", "", "rounded times")]
    assert list(void(False)) == []
    with without(["V51"]):
        assert list(void(True)) == []
        require(void(True))
