"""The action and the example workflow: each `run:` step in a shell as GitHub's runner starts it; `gh` is a script."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import msgspec
import pytest
import yaml

from benchmarks.commands.measuring.gate import GateDocument
from tests.benchmarks.commanding import ROOT, SMALL
from tests.benchmarks.commands.measuring.test_gate import suite

FOLDER = ROOT / ".github" / "actions" / "finetune-bench"
ACTION: dict[str, Any] = yaml.safe_load((FOLDER / "action.yml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "gate-workflow.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""How GitHub's runner starts `shell: bash`."""
GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
  *--jq*) printf '%s' "$KNOWN" ;;
  *) [ -z "$READ_ONLY" ] ;;
esac
"""
FAST = "--seeds 0 --turn 0.02 --pairs 10 --margin 90% --quiet"


class Job(NamedTuple):
    """A job's folder, its environment with a Python, and what expressions of the workflow stand for."""

    home: Path
    python: Path
    environment: Mapping[str, str]
    names: dict[str, str]

    @property
    def out(self) -> Path:
        return Path(self.names["runner.temp"], self.names["inputs.artifact"])

    @property
    def summary(self) -> str:
        file = self.home / "summary.md"
        return file.read_text() if file.exists() else ""

    @property
    def calls(self) -> list[str]:
        file = self.home / "calls"
        return file.read_text().splitlines() if file.exists() else []


def written(text: str, names: Mapping[str, str]) -> str:
    """A text with the values of its `${{ … }}`. An unknown name is a KeyError."""
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda found: names[found[1]], text)


def holds(condition: str, names: Mapping[str, str], *, failed: bool) -> bool:
    """Whether a step runs: by default only if no step before it failed."""
    parts = [part.strip() for part in condition.split("&&")]
    if "always()" not in parts and failed:
        return False
    for part in parts:
        if part not in ("", "always()"):
            name, value = re.fullmatch(r"([\w.-]+) == '(.*)'", part).groups()  # type: ignore[union-attr]
            if names[name] != value:
                return False
    return True


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees the packages of this one, so that the action's installation needs no network."""
    home = tmp_path_factory.mktemp("python")
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/*/site-packages")
    (site / "other-packages.pth").write_text(sysconfig.get_path("purelib"))
    return home


@pytest.fixture
def job(python: Path, tmp_path: Path) -> Job:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gh").write_text(GH)
    (tools / "gh").chmod(0o755)
    (tmp_path / "runner").mkdir()
    # PIP_NO_BUILD_ISOLATION=0 means no isolation: pip reads the value as that of `build_isolation`.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "PYTHON"))}
    environment = {
        **kept, "PATH": os.pathsep.join([str(tools), str(python / "bin"), os.environ["PATH"]]), "CI": "true",
        "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": str(FOLDER),
        "GITHUB_WORKSPACE": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CALLS": str(tmp_path / "calls"), "KNOWN": "", "READ_ONLY": "",
    }  # fmt: skip
    names = {
        "github.base_ref": "main", "github.repository": "somebody/project", "github.token": "none",
        "github.event_name": "pull_request", "github.event.pull_request.number": "7", "github.run_id": "1",
        "runner.temp": str(tmp_path / "runner"), "runner.os": "Linux",
    }  # fmt: skip
    return Job(tmp_path, python, environment, names)


def start(job: Job, inputs: Mapping[str, str], **environment: str) -> int:
    """Run the steps of the action in order; return the exit code of the first one that fails, or 0."""
    values = {name: str(facts.get("default", "")) for name, facts in ACTION["inputs"].items()} | dict(inputs)
    job.names.update({f"inputs.{name}": written(value, job.names) for name, value in values.items()})
    code = 0
    for step in STEPS:
        if step.get("name") == "Install" and (job.python / "bin" / "finetune-bench").exists():
            continue  # an earlier job of this file installed it
        if "run" not in step or not holds(step.get("if", ""), job.names, failed=bool(code)):
            continue
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an expression in a script is a way to run foreign code; use env"
        script, output = job.home / "step.sh", job.home / "output"
        script.write_text(step["run"])
        output.write_text("")
        own = {name: written(value, job.names) for name, value in step.get("env", {}).items()}
        facts = {**job.environment, "GITHUB_OUTPUT": str(output), **own, **environment}
        done = subprocess.run([*SHELL, script], cwd=job.home, env=facts, capture_output=True, text=True, check=False)
        code = code or done.returncode
        with (job.home / "log").open("a") as log:
            log.write(f"{step['name']}: {done.returncode}\n{done.stdout}{done.stderr}\n")
        pairs = (line.partition("=") for line in output.read_text().splitlines())
        job.names.update({f"steps.{step['id']}.outputs.{name}": value for name, _, value in pairs if "id" in step})
    return code


def gate_of_the_workflow() -> dict[str, str]:
    (step,) = (step for step in WORKFLOW["jobs"]["gate"]["steps"] if step["uses"].startswith("./"))
    assert step["uses"] == f"./{FOLDER.relative_to(ROOT)}"
    return dict(step["with"])


@pytest.mark.timeout(900)
def test_the_gate_of_the_workflow_writes_summary_comment_and_report(job: Job) -> None:
    inputs = gate_of_the_workflow()
    cases = suite(job.home, "scratch")
    job.names["github.base_ref"] = "main"
    # The base is a folder here, and the case a small one: the rest is the command of the workflow.
    asked = written(inputs["arguments"], job.names).replace("origin/main", str(ROOT)).replace("--suite gate", "")
    code = start(job, {**inputs, "arguments": f"{asked} --suite '{cases}' {FAST}"})
    assert code == 0, (job.home / "log").read_text()
    assert job.names["steps.measure.outputs.exit-code"] == "0"
    assert "reference/tiny-cnn" in job.summary
    document = msgspec.json.decode((job.out / "gate.json").read_bytes(), type=GateDocument)
    assert document.exit_code == 0
    assert ElementTree.parse(job.out / "gate.xml").getroot().get("tests") == "1"
    assert (job.home / "bench-results" / "report.html").is_file()
    comment = (job.out / "comment.md").read_text()
    assert comment == "<!-- finetune-bench -->\n" + job.summary
    find, post = job.calls
    assert "repos/somebody/project/issues/7/comments --jq" in find
    body = f"--field body=@{job.out}/comment.md"
    assert post == f"api --method POST repos/somebody/project/issues/7/comments {body} --silent"


@pytest.mark.timeout(300)
def test_a_run_has_a_table_as_summary_and_replaces_its_comment(job: Job) -> None:
    arguments = " ".join(["run", *SMALL, "--scenario scratch --quiet"])
    assert start(job, {"arguments": arguments}, KNOWN="41\n42\n") == 0, (job.home / "log").read_text()
    assert "tiny-cnn" in job.summary
    assert (job.home / "bench-results" / "report.html").is_file()
    assert "--method PATCH repos/somebody/project/issues/comments/42 " in job.calls[-1]


@pytest.mark.timeout(300)
def test_a_failed_command_fails_the_job_after_its_summary_and_a_refused_comment_does_not(job: Job) -> None:
    not_here = "--scenario scratch --precision bf16 --certify never --quiet"
    arguments = " ".join(["run", *SMALL, not_here])
    assert start(job, {"arguments": arguments}, READ_ONLY="1") == 3
    assert job.names["steps.measure.outputs.exit-code"] == "3"
    assert "skipped" in job.summary
    assert "::warning::no comment; the job needs the permission pull-requests: write" in (job.home / "log").read_text()


def test_another_command_is_refused_and_nothing_is_commented(job: Job) -> None:
    assert start(job, {"arguments": "cache --clear"}) == 2
    assert "::error::arguments must begin with run, gate or compare" in (job.home / "log").read_text()
    assert job.calls == []


def test_outside_a_pull_request_and_without_the_wish_there_is_no_comment(job: Job) -> None:
    (step,) = (step for step in STEPS if step.get("name") == "Comment")
    pull = {"inputs.comment": "true", "github.event_name": "pull_request"}
    assert holds(step["if"], pull, failed=True)
    assert not holds(step["if"], {**pull, "github.event_name": "push"}, failed=False)
    assert not holds(step["if"], {**pull, "inputs.comment": "false"}, failed=False)


def test_the_steps_of_others_keep_the_cache_and_upload_the_results() -> None:
    others = {step["uses"].partition("@")[0]: step.get("with", {}) for step in STEPS if "uses" in step}
    assert set(others) == {"actions/setup-python", "actions/cache", "actions/upload-artifact"}
    assert "~/.cache/finetune-bench" in others["actions/cache"]["path"]
    assert "${{ inputs.results }}" in others["actions/upload-artifact"]["path"]
    used = set(re.findall(r"inputs\.([\w-]+)", (FOLDER / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


def test_the_workflow_fetches_the_whole_history_and_may_comment() -> None:
    checkout = WORKFLOW["jobs"]["gate"]["steps"][0]
    assert checkout["with"]["fetch-depth"] == 0
    assert WORKFLOW["permissions"]["pull-requests"] == "write"
    assert set(gate_of_the_workflow()) <= set(ACTION["inputs"])


def test_the_page_lists_the_inputs_with_their_defaults() -> None:
    page = (ROOT / "docs" / "how-to" / "pipeline.md").read_text()
    listed = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (.*) \|$", page, re.MULTILINE))
    assert set(listed) == set(ACTION["inputs"])
    for name, facts in ACTION["inputs"].items():
        if name not in ("arguments", "token"):
            assert listed[name] == f"`{facts['default']}`"
