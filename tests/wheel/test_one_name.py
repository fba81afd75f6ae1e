"""The build backend changes the imports of this project's packages, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def one_name() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_name", ROOT / "build-backend" / "one_name.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from harness import PROTOCOL", "from finetune_bench.harness import PROTOCOL"),
        ("    from results.a import b  # late", "    from finetune_bench.results.a import b  # late"),
        ("import results", "from finetune_bench import results"),
        ("import results as r", "import finetune_bench.results as r"),
        ("import os, results.a", "import os; import finetune_bench.results.a; from finetune_bench import results"),
        ("from . import harness", "from . import harness"),
        ("import resultset", "import resultset"),
        ("text = 'from harness import x'", "text = 'from harness import x'"),
    ],
)  # fmt: skip
def test_an_import_names_the_package_inside(one_name: ModuleType, before: str, after: str) -> None:
    source = f"if True:\n{before}\n" if before.startswith(" ") else f"{before}\n"
    assert one_name.with_prefix(source) == source.replace(before, after)


def test_an_import_that_cannot_be_changed_ends_the_build(one_name: ModuleType) -> None:
    with pytest.raises(ValueError, match="line 2: write `import results` on one line"):
        one_name.with_prefix("\nimport \\\n    results\n")


def test_a_source_tree_keeps_its_lines_and_has_no_import_of_the_checkout_left(
    one_name: ModuleType, tmp_path: Path
) -> None:
    one_name.lay_out(ROOT, tmp_path)
    for path in (tmp_path / "finetune_bench").rglob("*.py"):
        inside = path.relative_to(tmp_path / "finetune_bench")
        origin = ROOT / inside if inside.parts[0] in one_name.INSIDE else ROOT / "finetune_bench" / inside
        text = path.read_text()
        assert len(text.splitlines()) == len(origin.read_text().splitlines())
        tree = ast.parse(text)
        froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not {name.partition(".")[0] for name in (*froms, *names)} & set(one_name.INSIDE)
