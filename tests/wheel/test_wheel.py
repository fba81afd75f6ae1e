"""The wheel in a fresh environment, beside distributions that own the names of the packages of the checkout."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parents[2]
TAKEN = ("harness", "backends", "results", "benchmarks")
CASE = ("--backend", "reference", "--scenario", "scratch", "--epochs", "1", "--image-size", "32")
DATA_FILES = (".safetensors", ".json", ".js", ".css", ".j2", ".typed")
THEIRS = "WHOSE = 'theirs'\n"


class Installed(NamedTuple):
    """An environment with the wheel; a user's folder, which has packages `results` and `benchmarks` too."""

    wheel: Path
    bin: Path
    folder: Path

    def call(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.folder),
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "FINETUNE_BENCH_CACHE": str(self.folder / "cache"),
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def command(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.call(str(self.bin / "finetune-bench"), *words, code=code)

    def python(self, code: str) -> str:
        return self.call(str(self.bin / "python"), "-W", "error", "-c", code).stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    built, home, folder = (tmp_path_factory.mktemp(name) for name in ("dist", "venv", "user"))
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(built), str(ROOT)], check=True, timeout=300)
    (wheel,) = built.glob("*.whl")
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    others = [str(other_distribution(name, built)) for name in TAKEN]
    subprocess.run([*pip, *others, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True, timeout=600)
    for name in ("results", "benchmarks"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("WHOSE = 'the folder of the user'\n")
    return Installed(wheel, home / "bin", folder)


def other_distribution(name: str, folder: Path) -> Path:
    """Write a wheel of another project that owns the package of this name."""
    path, about = folder / f"other_{name}-1.0-py3-none-any.whl", f"other_{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": THEIRS,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: other-{name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for file, text in files.items()}
    record = [f"{file},sha256={digest.decode().rstrip('=')},{len(files[file])}" for file, digest in digests.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{about}/RECORD": "\n".join([*record, f"{about}/RECORD,,", ""])}.items():
            archive.writestr(file, text)
    return path


def test_only_one_name_is_at_the_top(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"finetune_bench"}


def test_every_module_and_data_file_of_the_checkout_is_in_it(installed: Installed) -> None:
    listed = subprocess.run(["git", "ls-files", *TAKEN], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {f"finetune_bench/{name}" for name in listed.splitlines() if name.endswith((".py", *DATA_FILES))}
    assert len(wanted) > 300
    assert wanted <= set(zipfile.ZipFile(installed.wheel).namelist())


def test_the_index_would_accept_both_files(installed: Installed) -> None:
    files = map(str, installed.wheel.parent.glob("finetune_bench*"))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)


def test_the_environment_is_complete_without_a_framework(installed: Installed) -> None:
    installed.call(str(installed.bin / "pip"), "check")
    assert installed.python("from importlib.util import find_spec; print(find_spec('torch'))") == "None\n"


def test_help_lists_the_commands_and_the_version_is_that_of_the_project(installed: Installed) -> None:
    assert "  compare " in installed.command("--help").stdout
    version = installed.python("from importlib.metadata import version; print(version('finetune-bench'))")
    assert installed.command("--version").stdout == f"finetune-bench, version {version}"


def test_a_case_is_run_read_verified_and_reported(installed: Installed) -> None:
    printed = installed.command("run", *CASE, "--results", "stored")
    assert "report: stored/report.html" in printed.stderr
    assert "tiny-cnn" in printed.stdout
    rows = json.loads(installed.command("table", "--results", "stored", "--format", "json").stdout)
    assert "ok" in str(rows)
    installed.command("verify", "--results", "stored")
    installed.command("list", "scenarios")
    installed.command("rules", "V41")


def test_importing_the_package_is_quick_and_imports_nothing_large(installed: Installed) -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import finetune_bench; print(time.perf_counter() - start < 0.5,"
        "*sorted({'torch', 'keras', 'pandas', 'numpy'} & sys.modules.keys()))"
    )
    assert installed.python(code) == "True\n"


def test_the_interface_reads_runs_and_compares_in_a_process_of_the_user(installed: Installed) -> None:
    code = """
import sys
sys.path.remove("")  # the installed distributions, not the folder of the user
import harness, results
import finetune_bench as fb
frame = fb.run(backend="reference", scenario="scratch", epochs=1, image_size=32, results="api", report=False)
print(list(frame["status"]), len(fb.table(fb.load("api"))))
sides = {"set": "B.threads=1", "backend": "reference", "scenario": "scratch", "image_size": 32, "model": "tiny-cnn"}
(found,) = fb.compare(**sides, inject_delay="B=5%", pairs=10, turn=0.01, budget=0.05, seeds=1, results="api")
print(found.label)
print(harness.WHOSE, results.WHOSE, fb.Stage(epochs=1, head_lr=1, backbone_lr=1).epochs, fb.Model.__name__)
try:
    fb.run(scenario="nothing", results="api")
except fb.Refused as error:
    print(error)
"""
    lines = installed.python(code).splitlines()
    assert lines[0] == "['ok'] 1"
    assert "tiny-cnn" in lines[1]
    assert lines[2] == "theirs theirs 1 Model"
    assert "nothing" in lines[3]


def test_a_worker_sees_the_package_of_the_wheel_and_the_packages_of_others(installed: Installed) -> None:
    plugin = installed.folder / "own_plugin.py"
    plugin.write_text(
        "import json, pathlib, sys\nimport benchmarks, results\n"
        "from finetune_bench import Scenario, Stage\nfrom finetune_bench.plugin import Layer, factors\n"
        "found = [results.WHOSE, benchmarks.WHOSE, [p.name for p in pathlib.Path(sys.path[0]).iterdir()]]\n"
        f"pathlib.Path({str(installed.folder / 'seen.json')!r}).write_text(json.dumps(found))\n"
        "SCENARIOS = [Scenario(name='own', explanation='', start='random',"
        " stages=(Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=8),))]\n"
    )
    own = ("--backend", "reference", "--image-size", "32", "--plugin", str(plugin), "--scenario", "own")
    assert "own" in installed.command("run", *own, "--no-report", "--results", "own").stdout
    assert json.loads((installed.folder / "seen.json").read_text()) == ["theirs", "theirs", ["finetune_bench"]]


def test_a_plugin_for_a_checkout_is_told_which_names_to_import(installed: Installed) -> None:
    plugin = installed.folder / "old_plugin.py"
    plugin.write_text("from harness.contract import Model\n")
    message = installed.command("list", "models", "--plugin", str(plugin), code=2).stderr
    assert "cannot import name 'Model'" in message or "plugins import finetune_bench.plugin" in message


@pytest.mark.parametrize(
    "words",
    [("gate", "--base", "main"), ("gate", "--base", "."), ("bisect", "v1", "v2"), ("compare", "rev:main", "here")],
    ids=" ".join,
)
def test_commands_for_revisions_say_that_they_need_a_checkout(installed: Installed, words: tuple[str, ...]) -> None:
    message = installed.command(*words, code=2).stderr
    assert "must run in a git checkout" in message
    assert "--python A=" in message
    assert "--plugin" in message


def test_the_other_distributions_are_as_they_were(installed: Installed) -> None:
    for name in TAKEN:
        print_file = f"import sys; sys.path.remove(''); import {name}; print({name}.__file__)"
        assert Path(installed.python(print_file).strip()).read_text() == THEIRS
    installed.call(str(installed.bin / "pip"), "check")
