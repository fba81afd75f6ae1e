from __future__ import annotations

import re

import pytest

from benchmarks.choosing.scenarios import SCENARIOS
from benchmarks.commands.inspecting.list import KINDS
from tests.benchmarks.commanding import EXAMPLES, invoke


def test_everything_is_listed_with_a_line() -> None:
    text = invoke("list").stdout
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert all(f"\n{kind}\n" in f"\n{text}" for kind in KINDS)
    named = {line.split()[0] for line in lines}
    assert {"pytorch", "keras3", "reference", "resnet18", "mobilenet-v2", "tiny-cnn", *SCENARIOS, "embedded", "flip",
            "tutorial", "smoke"} <= named  # fmt: skip
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_can_be_listed_alone(kind: str) -> None:
    heading, *lines = invoke("list", kind).stdout.splitlines()
    assert heading == kind
    assert lines
    assert all(line.startswith("  ") for line in lines)


def test_what_plugins_bring_is_listed_beside_the_rest() -> None:
    plugins = [word for name in ("model", "scenario", "dataset") for word in ("--plugin", EXAMPLES / f"{name}.py")]
    text = invoke("list", *plugins).stdout
    assert re.search("^  two-blocks +reference$", text, re.MULTILINE)
    assert re.search("^  head-then-all +the head alone at 0.1, then everything at 0.01$", text, re.MULTILINE)
    assert "light " in text
