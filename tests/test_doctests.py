"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import benchmarks
import finetune_bench
import harness
import results

FREE_OF_FRAMEWORKS = [
    module.name
    for package in (harness, results, benchmarks, finetune_bench)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    # `ray_pool` imports Ray, which is in an environment of its own, and has no examples.
    if not module.name.endswith(("__main__", "conftest", "test_steps", "ray_pool"))
]


@pytest.mark.parametrize("name", FREE_OF_FRAMEWORKS)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
