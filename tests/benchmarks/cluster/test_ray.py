"""A suite on a real Ray cluster: two nodes on this machine, with one slot each; `tox -e cluster`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from benchmarks.cluster.node import difference, installation
from benchmarks.cluster.overview import ClusterNode
from benchmarks.datasets.cache import ENVIRONMENT
from harness.errors import Refused
from results.storage.rows import ProcessRow, RunRow
from tests.benchmarks.commanding import QUICK, ROOT, SMALL, checkout, quickly, rows, start
from tests.benchmarks.running.test_interrupted import lines_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:.*ray_client_server:pytest.PytestUnraisableExceptionWarning"),  # Ray's open logs
]

SLOT = {"timing-slot": 1}
SUITE = """
[[case]]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = ["scratch"]
seeds = 12
[[case]]
backend = ["pytorch"]
model = ["mobilenet-v2-0.35"]
scenario = ["scratch"]
seeds = 3
[[case]]
backend = ["reference"]
model = ["tiny-cnn"]
scenario = ["scratch"]
bn_momentum = 0.2
seeds = 25
"""
"""Forty cases; those of PyTorch take seconds."""
PATIENCE = {"RAY_raylet_start_wait_time_s": "180", "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "60"}
"""Time limits of Ray for the start of its own processes, in seconds; its defaults of 30 are short beside other work."""


class RunningCluster:
    """A Ray cluster on this machine, whose nodes have names and caches of their own."""

    def __init__(self, home: Path) -> None:
        os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", **PATIENCE})  # read when Ray is imported
        from ray.cluster_utils import Cluster

        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.client_address = f"ray://127.0.0.1:{port}"
        head = {**self._node("a", {}), "include_dashboard": False, "ray_client_server_port": port}
        self.ray = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: dict[str, Any] = {"a": self.ray.head_node}

    def add(self, name: str, **environment: str) -> None:
        self.nodes[name] = self.ray.add_node(**self._node(name, environment))

    @contextmanager
    def joined(self, name: str, **environment: str) -> Iterator[None]:
        """Have one more node in the block; all nodes know afterwards that it left."""
        self.add(name, **environment)
        try:
            yield
        finally:
            self.ray.remove_node(self.nodes.pop(name))
            self.ray.wait_for_nodes(timeout=60)

    def _node(self, name: str, environment: dict[str, str]) -> dict[str, Any]:
        variables = {ENVIRONMENT: str(self.home / name), **environment}
        return {
            "num_cpus": 1, "resources": SLOT, "labels": {"name": name}, "object_store_memory": 80 * 2**20,
            "env_vars": variables,
        }  # fmt: skip

    def wait_for_case(self, name: str, backend: str) -> None:
        """Return while a worker of this backend runs on a node."""
        deadline = time.monotonic() + 120
        while backend not in self._running(name):
            assert time.monotonic() < deadline, f"{name} ran no case of {backend}"
            time.sleep(0.1)

    def _running(self, name: str) -> set[str]:
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError, KeyError):
                if "harness.entry" in process.cmdline() and process.environ()[ENVIRONMENT] == str(self.home / name):
                    job = json.loads((Path(process.cmdline()[-1]) / "job.json").read_bytes())
                    found.add(job["arguments"]["job"]["case"]["backend"])
        return found

    def kill(self, name: str) -> str:
        """End a node and everything on it; return its address."""
        node = self.nodes.pop(name)
        address = f"{node.node_ip_address}:{node.node_manager_port}"
        self.ray.remove_node(node, allow_graceful=False)
        return address

    def address_of(self, name: str) -> str:
        node = self.nodes[name]
        return f"{node.node_ip_address}:{node.node_manager_port}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Two nodes, a and b, for all tests, because a cluster takes long to start. A test leaves these two behind."""
    running = RunningCluster(tmp_path_factory.mktemp("caches"))
    try:
        running.add("b")
        yield running
    finally:
        running.ray.shutdown()


@pytest.fixture
def suite(tmp_path: Path, images: Path) -> tuple[str | Path, ...]:
    """A command that runs forty cases."""
    (tmp_path / "suite.toml").write_text(SUITE)
    words = ("--suite", tmp_path / "suite.toml", *QUICK[2:], "--threads", "1")
    return "run", *words, "--data", images, "--results", tmp_path / "results"


def processes(results: Path) -> list[ProcessRow]:
    return [row for row in rows(results) if isinstance(row, ProcessRow)]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and stderr."""
    _, errors = process.communicate(timeout=240)
    return process.returncode, errors


def test_a_node_is_killed_and_another_joins_and_no_row_is_lost(
    cluster: RunningCluster, suite: tuple[str | Path, ...], tmp_path: Path
) -> None:
    process = start(*suite, "--cluster", cluster.ray.address)
    list(lines_until(process, "[6/40]"))
    cluster.wait_for_case("b", "pytorch")
    lost = cluster.kill("b")
    with cluster.joined("c"):
        code, errors = finish(process)
        late = cluster.address_of("c")
    cluster.add("b")
    assert code == 3, errors
    assert f"on {lost}: killed" in errors
    found = processes(tmp_path / "results")
    killed = [row for row in found if row.record.status == "killed"]
    assert [(row.node, row.attempt) for row in killed] == [(lost, 1)], [row.record.reason for row in killed]
    assert killed[0].record.reason.startswith(f"attempt 1 of 2 on node {lost}: ")
    good = Counter(row.record.key for row in found if row.record.status == "ok")
    (first,) = [row for row in rows(tmp_path / "results") if isinstance(row, RunRow)]
    assert good == Counter(first.planned)
    assert len(good) == 40
    (again,) = [row for row in found if row.record.key == killed[0].record.key and row.record.status == "ok"]
    assert again.attempt == 2
    assert again.node in (cluster.address_of("a"), late)
    assert late in {row.node for row in found}, "the late node ran nothing"
    assert len(list((cluster.home / "a" / "content").glob("[0-9a-f]*[0-9a-f]"))) == 1  # the data, fetched once


def test_the_driver_is_killed_and_resumed_and_every_case_has_one_row(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    suite = ("run", *SMALL, "--scenario", "scratch", "--seeds", "12", "--data", images)
    command = (*suite, "--results", tmp_path / "results", "--cluster", cluster.ray.address)
    process = start(*command)
    told = list(lines_until(process, "[4/12]"))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    before = processes(tmp_path / "results")
    assert len(before) >= sum(line.startswith("[") for line in told) - 1
    code, errors = finish(start(*command, "--resume"))
    assert code == 0, errors
    (first,) = [row for row in rows(tmp_path / "results") if isinstance(row, RunRow)]
    assert Counter(row.record.key for row in processes(tmp_path / "results")) == Counter(first.planned)
    assert {row.record.status for row in processes(tmp_path / "results")} == {"ok"}


def test_a_worker_has_our_environment_and_cores_and_if_it_is_killed_the_case_runs_once_more(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    case = ("run", "--backend", "pytorch", "--model", "mobilenet-v2-0.35", *QUICK[2:-1], "4", "--scenario", "scratch")
    process = start(*case, "--threads", "1", "--data", images, "--cluster", cluster.ray.address, "--results", tmp_path)
    worker = worker_of("harness.entry", tmp_path)
    environment = worker.environ()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert [name for name in environment if name.startswith("RAY_")] == []
    assert len(worker.cpu_affinity()) == 1
    parent = worker.parent()
    assert parent is not None
    assert "torch" in Path(f"/proc/{worker.pid}/maps").read_text()
    assert "torch" not in Path(f"/proc/{parent.pid}/maps").read_text()  # no framework in a process of Ray
    worker.kill()
    code, errors = finish(process)
    assert code == 3, errors
    found = [(row.record.status, row.attempt) for row in processes(tmp_path)]
    assert found == [("killed", 1), ("ok", 2)]


def worker_of(module: str, results: Path) -> psutil.Process:
    """The worker that runs the case with torch in memory, as soon as there is one."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if module in words and "finetune-bench-" in words[-1]:
                    parent = process.parent()
                    ours = parent is not None and "ray::" in " ".join(parent.cmdline())
                    if ours and "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text():
                        return process
            except (psutil.Error, OSError):  # it ended meanwhile
                continue
        time.sleep(0.05)
    raise AssertionError("no worker came")


def test_a_node_with_another_version_is_refused_by_name_before_anything_runs(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    copy = checkout(tmp_path / "other")
    with (copy / "harness" / "spec.py").open("a") as file:
        file.write("# another revision\n")
    with cluster.joined("other", PYTHONPATH=str(copy)):
        address, other = cluster.ray.address, cluster.address_of("other")
        code, errors = run_here(tmp_path, *SMALL, "--data", images, "--cluster", address)
        assert code == 2
        (line,) = errors.strip().splitlines()
        assert line.startswith(f"error: node {other} has another version of this project (sources ")
        assert not (tmp_path / "results").exists()
        shown = command_here(tmp_path, "cluster", address)
        assert shown.returncode == 3
        assert shown.stderr.startswith(f"! node {other} has another version of this project (sources ")
        assert shown.stdout.count("python") == 3  # every node has a row with its versions
        # A label chooses another node.
        case = (*SMALL, "--scenario", "scratch", "--data", images)
        code, errors = run_here(tmp_path, *case, "--cluster", address, "--node-label", "name=a")
        assert code == 0, errors
        assert [row.node for row in processes(tmp_path / "results")] == [cluster.address_of("a")]
        code, errors = run_here(tmp_path, *SMALL, "--cluster", address, "--node-label", "name=z")
        assert code == 2
        assert "no node has the resource timing-slot and the label name=z" in errors


def test_the_command_cluster_shows_slots_versions_labels_and_what_runs_where(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    suite = ("run", *SMALL[:-3], "400", *SMALL[-2:], "--scenario", "scratch", "--data", images)
    process = start(*suite, "--cluster", cluster.ray.address, "--node-label", "name=b", "--results", tmp_path)
    end, found = time.monotonic() + 60, list[ClusterNode]()
    while not any(one.status and one.status.running for one in found) and time.monotonic() < end:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "cluster", cluster.ray.address, "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = msgspec.json.decode(done.stdout, type=list[ClusterNode])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    nodes = {one.labels["name"]: one for one in found}
    assert {name: one.address for name, one in nodes.items()} == {name: cluster.address_of(name) for name in "ab"}
    assert [one.slots for one in found] == [1, 1]
    status = {name: one.status for name, one in nodes.items()}
    assert status["a"] is not None and status["b"] is not None
    assert difference(installation(), status["a"].facts.installation) == ""
    assert status["a"].running == ()
    (running,) = status["b"].running
    assert running.case == "reference/tiny-cnn/scratch/seed0"
    assert 0 <= running.seconds < 60


def run_here(home: Path, *words: str | Path) -> tuple[int, str]:
    """Run from a folder without the project, so that each node uses its own."""
    done = command_here(home, *quickly("run", *words, "--results", home / "results"))
    return done.returncode, done.stderr


def command_here(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, "-m", "benchmarks", *words], {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_node_whose_disk_takes_nothing_is_left_out_and_the_suite_goes_on(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    command = ("run", *SMALL, "--scenario", "scratch", "--seeds", "5", "--data", images)
    with cluster.joined("broken", **{ENVIRONMENT: str(tmp_path / "file")}):
        broken = cluster.address_of("broken")
        code, errors = finish(start(*command, "--cluster", cluster.ray.address, "--results", tmp_path / "results"))
    assert code == 3, errors
    assert f"node {broken}: cache folder" in errors
    found = processes(tmp_path / "results")
    assert [row.node for row in found if row.record.status == "killed"] == [broken]
    assert sorted(row.record.case.seed for row in found if row.record.status == "ok") == [0, 1, 2, 3, 4]


def test_a_client_runs_a_suite_and_sees_the_nodes_as_a_command_on_a_node_does(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    address, results = cluster.client_address, tmp_path / "results"
    suite = ("run", *SMALL, "--scenario", "scratch", "--seeds", "4", "--data", images, "--results", results)
    code, errors = finish(start(*suite, "--cluster", address))
    assert code == 0, errors
    found = processes(results)
    assert sorted(row.record.case.seed for row in found if row.record.status == "ok") == [0, 1, 2, 3]
    assert {row.node for row in found} == {cluster.address_of("a"), cluster.address_of("b")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "cluster", address, "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    nodes = msgspec.json.decode(done.stdout, type=list[ClusterNode])
    assert {one.address for one in nodes} == {cluster.address_of("a"), cluster.address_of("b")}


def test_a_client_that_loses_its_server_ends_with_one_line(
    cluster: RunningCluster, images: Path, tmp_path: Path
) -> None:
    address, results = cluster.client_address, tmp_path / "results"
    suite = ("run", *SMALL[:-3], "400", *SMALL[-2:], "--scenario", "scratch", "--seeds", "3", "--data", images)
    grace = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}
    process = start(*suite, "--results", results, "--cluster", address, **grace)
    list(lines_until(process, "[1/3]"))
    for server in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile, or is a zombie
            if "ray.util.client.server" in server.cmdline():
                server.kill()
    code, errors = finish(process)
    assert code == 3, errors
    assert f"error: the connection to {address} is lost; finished cases are stored" in errors
    assert "Traceback" not in errors
    assert [row.record.status for row in processes(results)][:1] == ["ok"]


@pytest.mark.parametrize(
    ("message", "attempts"),
    [("Starting Ray client server failed", 2), ("Proxy failed to Connect to backend", 2), ("no such host", 1)],
)
def test_a_client_whose_process_died_at_its_start_is_tried_once_more(
    message: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.cluster import ray_pool

    asked: list[str] = []

    def refuse(address: str, **options: object) -> None:
        asked.append(address)
        raise ConnectionAbortedError(f"Initialization failure from server: {message}. See the log")

    monkeypatch.setattr(ray_pool.ray, "init", refuse)
    with pytest.raises(Refused, match=f"ray://there: no Ray cluster .*{message}.*start one with"):
        ray_pool.overview("ray://there")
    assert asked == ["ray://there"] * attempts
