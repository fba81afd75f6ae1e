from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from harness.process.environment import worker_environment
from harness.process.machine import (
    Machine,
    describe_machine,
    environment,
    installed,
    measuring_threads,
    usable_cores,
    versions,
)

MACHINE = Machine(cpu="Testor 1", cores=2, memory_gib=8, gpus=(), architecture="x86_64")


def test_the_key_is_what_the_machine_is() -> None:
    assert re.fullmatch("[0-9a-f]{12}", MACHINE.key)
    assert replace(MACHINE).key == MACHINE.key
    changes = [{"cpu": "Testor 2"}, {"cores": 3}, {"memory_gib": 9}, {"gpus": ("H200",)}, {"architecture": "arm64"}]
    assert len({replace(MACHINE, **change).key for change in changes} | {MACHINE.key}) == 6


def test_the_key_stays_the_same_over_releases() -> None:
    """Results are filed under it; a change of its making would split every history."""
    assert MACHINE.key == "cdb1a8ca1b29"


def test_a_machine_looks_the_same_twice_and_has_a_core_and_memory() -> None:
    seen = describe_machine()
    assert seen == describe_machine()
    assert seen.cpu
    assert seen.cores >= 1
    assert seen.memory_gib >= 1
    assert seen.architecture == platform.machine()
    assert not re.search(rf"(?<!\w){re.escape(platform.node())}(?!\w)", msgspec.json.encode(seen).decode())


def test_cores_are_those_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        assert usable_cores() == [max(before)]
        assert describe_machine().cores == 1
        assert measuring_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert measuring_threads() == max(1, len(before) - 1)


def test_versions_are_those_installed_and_what_is_not_is_left_out() -> None:
    found = versions(("msgspec", "tensorflow-of-tomorrow"))
    assert found["python"] == platform.python_version()
    assert found["msgspec"] == msgspec.__version__
    assert "numpy" in found
    assert "tensorflow-of-tomorrow" not in found


def test_of_two_installed_versions_the_one_counts_that_is_imported(tmp_path: Path) -> None:
    for folder, number in (("first", "2.0"), ("second", "1.0")):
        info = tmp_path / folder / f"Some_Package-{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Some_Package\nVersion: {number}\n")
    places = [str(tmp_path / folder) for folder in ("first", "second")]
    assert installed(places) == {"python": platform.python_version(), "some-package": "2.0"}
    assert installed(places[::-1])["some-package"] == "1.0"
    assert installed()["msgspec"] == msgspec.__version__


def test_the_environment_is_told_as_text() -> None:
    said = environment()
    assert said["system"] == platform.platform()
    assert all(isinstance(value, str) for value in said.values())


def test_a_limit_on_the_instruction_set_reaches_the_worker_and_is_another_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = environment()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert environment() == before | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert worker_environment(1)["ONEDNN_MAX_CPU_ISA"] == "AVX2"
