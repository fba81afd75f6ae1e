"""`run --cluster` without Ray, and options that it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.commanding import SMALL, invoke, refused


def test_without_ray_the_command_names_the_package_and_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "benchmarks.cluster.ray_pool", raising=False)
    done = invoke("run", *SMALL, "--cluster", "ray", "--results", tmp_path)
    assert done.exit_code == 3
    assert done.stderr == "error: --cluster needs Ray; run `pip install 'finetune-bench[ray]'`\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--node-label", "gpu=h100"), "--node-label chooses nodes of a cluster; add --cluster"),
        (("--node-label", "gpu", "--cluster", "ray"), "gpu must be KEY=VALUE"),
        (("--node-label", "gpu=a", "--node-label", "gpu=b", "--cluster", "ray"), "--node-label is given twice for gpu"),
        (("--save-model", "models", "--cluster", "ray"), "the networks would stay on the nodes"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in refused("run", *SMALL, *options, "--results", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_cluster_needs_ray_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "benchmarks.cluster.ray_pool", raising=False)
    done = invoke("cluster", "ray")
    assert done.exit_code == 3
    assert done.stderr == "error: cluster needs Ray; run `pip install 'finetune-bench[ray]'`\n"
