"""The Dockerfile: its instructions, and each `RUN` in a plain shell, because the tests have no Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.benchmarks.commanding import ROOT

KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """The instructions with their arguments, continued lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def ignored() -> list[str]:
    return (ROOT / ".dockerignore").read_text().splitlines()


def test_it_has_known_instructions_and_copies_what_is_there() -> None:
    found = instructions()
    assert {name for name, _ in found} <= KNOWN
    assert [name for name, _ in found[:2]] == ["ARG", "FROM"]
    stages = [rest for name, rest in found if name == "FROM"]
    assert all(stage.startswith("python:${PYTHON}-slim") for stage in stages)
    kept = {line[1:] for line in ignored() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    assert "constraints.txt" in kept
    for name, rest in found:
        if name == "COPY" and "--from" not in rest:
            assert rest.split()[0] in {".", *kept}


def run(script: str, folder: Path, home: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """A `RUN` as Docker starts it, with the packages of this environment instead of a package index."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": os.pathsep.join([str(home / "bin"), os.environ["PATH"]]), "DEVICE": "cpu", "EXTRAS": "all",
        "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **values,
    }  # fmt: skip
    return subprocess.run(
        ["/bin/sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(600)
def test_each_run_works_in_a_plain_shell_and_leaves_a_program(tmp_path: Path) -> None:
    home, build, install = (tmp_path / name for name in ("python", "build", "install"))
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/*/site-packages")
    others = tmp_path / "packages"  # all but this project, which pip would find installed already
    others.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("finetune_bench", "__editable__")):
            (others / entry.name).symlink_to(entry)
    (site / "other-packages.pth").write_text(str(others))
    build.mkdir()
    for name in (line[1:] for line in ignored() if line.startswith("!")):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, build / name)
    wheel, packages, check = (rest for name, rest in instructions() if name == "RUN")
    made = run(wheel, build, home)
    assert made.returncode == 0, made.stderr
    shutil.copytree(build / "dist", install / "dist")
    shutil.copy(ROOT / "constraints.txt", install)
    refused = run(packages, install, home, DEVICE="gpu")
    assert (refused.returncode, refused.stderr) == (2, "DEVICE must be cpu or cuda, not gpu\n")
    installed = run(packages, install, home)
    assert installed.returncode == 0, installed.stderr
    checked = run(check, install, home, FINETUNE_BENCH_CACHE=str(tmp_path / "cache"))
    assert checked.stdout.startswith("finetune-bench, version "), checked.stderr
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o777
    (tmp_path / "work").mkdir()
    listed = run("finetune-bench list suites", tmp_path / "work", home)
    assert "smoke" in listed.stdout
    package = run("python -P -c 'import finetune_bench; print(finetune_bench.__file__)'", tmp_path / "work", home)
    assert Path(package.stdout.strip()).is_relative_to(site)
    assert sys.prefix not in package.stdout
