"""The rules that `tests/conftest.py` lays down hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.datasets.cache import cache_folder

ROOT = Path(__file__).resolve().parent.parent


ALLOWED = """
import pytest
def test_cuda(): pytest.skip('no CUDA here')
@pytest.mark.skipif(True, reason='needs ../shared')
def test_shared(): pass
@pytest.mark.xfail(reason='a known flaw', strict=True)
def test_flaw(): assert False
def test_something(): pass
"""
UNASKED = """
def test_lazy(): pytest.skip('not today')
@pytest.mark.skip
def test_without_a_reason(): pass
def test_missing(): pytest.importorskip('tensorflow_of_tomorrow')
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_ci_fails_on_tests_that_are_skipped_without_leave_and_names_them(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(ALLOWED + UNASKED)
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('tensorflow_of_tomorrow')")
    done = run(tmp_path, "--no-unexpected-skips")
    assert done.returncode == 1, done.stdout
    _, _, named = done.stdout.partition("skipped without leave")
    for name in ("test_lazy: Skipped: not today", "test_without_a_reason: ", "test_missing: ", "test_whole.py: "):
        assert name in named
    assert not [name for name in ("test_cuda", "test_shared", "test_flaw", "test_something") if name in named]


def test_ci_allows_the_skips_on_its_list(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(ALLOWED)
    assert run(tmp_path, "--no-unexpected-skips").returncode == 0


def test_without_the_option_a_skip_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(ALLOWED + UNASKED)
    assert run(tmp_path).returncode == 0


def test_tests_have_a_cache_of_their_own_and_one_thread() -> None:
    assert "FINETUNE_BENCH_TEST_CACHE" in os.environ or "pytest-" in str(cache_folder())
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
