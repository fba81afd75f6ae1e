"""Imports without garbage collection, and without packages that are not wanted."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from harness.lazy import import_quickly

ASKING = """
import gc
collected = gc.isenabled()
try:
    import wanted_type
except ImportError:
    wanted_type = None
"""


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "asking.py").write_text(ASKING)
    (tmp_path / "wanted_type.py").write_text("")
    (tmp_path / "broken.py").write_text("import asking\nraise ValueError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("asking", "wanted_type", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "asking"


def test_a_module_is_imported_without_garbage_collection(asking: str) -> None:
    module = import_quickly(asking)
    assert not module.collected
    assert module.wanted_type is not None
    assert gc.isenabled()


def test_what_exists_after_an_import_is_left_out_of_later_collections(asking: str) -> None:
    frozen = gc.get_freeze_count()
    module = import_quickly(asking)
    assert gc.get_freeze_count() > frozen
    assert not any(one is module.__dict__ for one in gc.get_objects())  # lists what is collected later


def test_a_package_seems_not_to_be_installed_during_the_import_alone(asking: str) -> None:
    module = import_quickly(asking, without=("wanted_type", "no_such_package"))
    assert module.wanted_type is None
    assert "no_such_package" not in sys.modules
    import wanted_type

    assert wanted_type.__file__


def test_a_package_that_is_imported_already_stays(asking: str) -> None:
    import wanted_type

    module = import_quickly(asking, without=("wanted_type",))
    assert module.wanted_type is wanted_type is sys.modules["wanted_type"]


def test_a_failed_import_leaves_nothing_hidden(asking: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        import_quickly("broken", without=("wanted_type",))
    import wanted_type

    assert wanted_type.__file__
    assert gc.isenabled()
