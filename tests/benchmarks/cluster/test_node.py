"""What a node says about itself, and a job that it runs without any cluster."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.cluster.content import pack, parcel_of
from benchmarks.cluster.node import NodeJob, describe_node, difference, installation, localized, run_work
from benchmarks.datasets.cache import ENVIRONMENT
from benchmarks.datasets.writing import PreparedDataset
from harness.process.machine import describe_machine, usable_cores
from harness.running.record import Record
from harness.spec import Job
from tests.benchmarks.commanding import checkout
from tests.harness.cases import tiny_case

HERE = installation()


def test_a_node_with_the_same_installation_has_no_difference() -> None:
    facts = describe_node()
    assert difference(HERE, facts.installation) == ""
    assert facts.machine == describe_machine()


def test_a_changed_source_file_is_another_version_of_the_project(tmp_path: Path) -> None:
    copy = checkout(tmp_path)
    assert installation(copy).sources == HERE.sources
    with (copy / "harness" / "spec.py").open("a") as file:
        file.write("# another revision\n")
    there = installation.__wrapped__(copy)
    assert difference(HERE, there).startswith(f"another version of this project (sources {there.sources[:12]}")


def test_every_package_that_differs_is_counted_and_three_are_named() -> None:
    assert {"python", "numpy", "msgspec"} <= HERE.packages.keys()
    packages = {name: version for name, version in HERE.packages.items() if name != "numpy"}
    packages |= {"msgspec": "0.1", "a-new-one": "1", "zzz": "2"}
    told = difference(HERE, replace(HERE, packages=packages))
    numpy = HERE.packages["numpy"]
    assert told == (
        f"other packages: a-new-one 1 (here missing), msgspec 0.1 (here {HERE.packages['msgspec']}), "
        f"numpy missing (here {numpy}) and 1 more; install the same versions on every node"
    )


def work_for(data: PreparedDataset, **fields: object) -> tuple[NodeJob, dict[str, bytes]]:
    job = Job(case=tiny_case(data), dataset_path=str(data.folder))
    packed = pack(data.folder)
    parcel = parcel_of(data.folder, packed)
    work = NodeJob(job=job, timeout_s=60, parcels={job.dataset_path: parcel}, **fields)  # type: ignore[arg-type]
    return work, {parcel.sha256: packed}


def test_a_job_with_its_data_from_elsewhere_is_measured_as_here(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "node"))
    work, content = work_for(tiny_dataset)
    sent = msgspec.json.decode(msgspec.json.encode(work), type=NodeJob)
    reply = run_work(sent, content.__getitem__)
    (tmp_path / "driver").mkdir()
    outcome = reply.outcome(tmp_path / "driver")
    record = msgspec.json.decode(outcome.value, type=Record)
    assert (outcome.ending, record.status, reply.broken) == ("ok", "ok", False)
    assert (outcome.folder / "logits.npz").exists()
    assert (outcome.folder / "log.txt").exists()
    assert (tmp_path / "node" / "content").is_dir()


def test_a_job_gets_the_paths_and_the_cores_of_the_node(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    names = {"dataset_path": "/driver/data", "checkpoint_path": "/driver/c.safetensors", "files_path": "/driver/photos"}
    job = Job(
        case=tiny_case(tiny_dataset), plugins=("/driver/plugin.py", "a.module"), features_path="/driver/features",
        evaluation_cores=(98, 99), **names,
    )  # fmt: skip
    places = {path: Path("/node", Path(path).name) for path in (*names.values(), "/driver/plugin.py")}
    there = localized(job, places)
    assert (there.dataset_path, there.checkpoint_path) == ("/node/data", "/node/c.safetensors")
    assert (there.files_path, there.plugins) == ("/node/photos", ("/node/plugin.py", "a.module"))
    assert there.features_path == str(tmp_path / "features")
    assert there.evaluation_cores == tuple(usable_cores())
    assert there.case == job.case
    assert localized(replace(job, checkpoint_path=None, files_path=None), places).files_path is None


def test_a_node_whose_cache_cannot_be_written_is_broken_and_says_why(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "file"))
    work, content = work_for(tiny_dataset)
    reply = run_work(work, content.__getitem__)
    assert (reply.ending, reply.broken) == ("killed", True)
    assert "it is not a folder" in reply.reason


def test_a_disk_that_is_full_for_the_worker_makes_the_node_broken(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    plugin = tmp_path / "plugin.py"
    plugin.write_text("with open('/dev/full', 'w') as file:\n    file.write('x')\n")
    work, content = work_for(tiny_dataset)
    work = replace(work, job=replace(work.job, plugins=(str(plugin),)))
    reply = run_work(work, content.__getitem__)
    assert (reply.ending, reply.broken) == ("killed", True), reply.reason
    assert os.strerror(28) in reply.reason


def test_a_failed_job_is_a_result_of_the_case_and_not_of_the_node(
    tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    work, content = work_for(tiny_dataset)
    work = replace(work, job=replace(work.job, case=replace(work.job.case, model="unknown")))
    reply = run_work(work, content.__getitem__)
    assert (reply.ending, reply.broken) == ("refused", False)


def test_copies_of_packages_that_ray_brings_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts them into the path of every process that imports it."""
    for place in ("thirdparty_files", "own"):
        metadata = tmp_path / place / f"some_{place}-1.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Name: some-{place.replace('_', '-')}\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(tmp_path / place)
    found = installation.__wrapped__()
    assert found.packages["some-own"] == "1.0"
    assert "some-thirdparty-files" not in found.packages
