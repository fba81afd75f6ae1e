"""Explanations in a results folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import Refused
from results.explanations.explanation import read_explanations, write_explanation
from tests.results.explanations.explained import explanation


def test_stored_explanations_are_read_back_in_order(tmp_path: Path) -> None:
    late = explanation(0.1, 0.3, made="2026-11-29T04:00:00+00:00")
    early = explanation(0.2, made="2026-11-29T03:00:00+00:00")
    for one in (late, early, early):
        write_explanation(tmp_path, one)
    assert read_explanations(tmp_path) == (early, late)
    assert read_explanations(tmp_path / "none") == ()


@pytest.mark.parametrize("content", [b"{", b"{}", b"[1]", b"\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = write_explanation(tmp_path, explanation(0.2))
    file.write_bytes(content)
    with pytest.raises(Refused, match=f"{file.name} is not an explanation.*delete it"):
        read_explanations(tmp_path)
