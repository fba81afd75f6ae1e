"""The files that a plug-in brings: its own, a module beside it, and a package in development mode."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.plugins import load
from harness.process.imports import digest_of, imported_files


def test_a_plug_in_and_its_modules_are_listed_and_nothing_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = imported_files()
    developed = tmp_path / "src" / "developed_package"
    developed.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(developed.parent))
    folder = tmp_path / "plugins"
    folder.mkdir()
    (developed / "__init__.py").write_text("WIDTH = 3\n")
    (folder / "beside_it.py").write_text("import json, colorsys, wave\n")
    (folder / "some_model.py").write_text("import beside_it, developed_package, msgspec\n")
    load(str(folder / "some_model.py"))
    new = {path: digest for path, digest in imported_files().items() if path not in before}
    assert {Path(path).relative_to(tmp_path).as_posix() for path in new} == {
        "plugins/some_model.py", "plugins/beside_it.py", "src/developed_package/__init__.py"
    }  # fmt: skip
    assert all(digest == hashlib.sha256(Path(path).read_bytes()).hexdigest() for path, digest in new.items())


def test_a_file_that_is_gone_has_no_digest(tmp_path: Path) -> None:
    assert digest_of(tmp_path / "nowhere.py") == ""
