"""The nodes of a Ray cluster. This module alone imports Ray; a Ray process imports no framework.

A case takes the `timing-slot` of its node, so nothing else is measured beside it. A case on a GPU takes one GPU and a
small share of the slot, so that other GPU cases may run, but no CPU case. Ray retries nothing.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.cluster.attempts import Attempt, Node
from benchmarks.cluster.content import Parcel, pack, parcel_of
from benchmarks.cluster.node import NodeFacts, NodeJob, Reply, describe_node, difference, installation, run_work
from benchmarks.cluster.overview import ClusterNode, NodeStatus, node_status
from benchmarks.cluster.suite import Ended, Lost
from harness.errors import Declined, Refused, one_line
from harness.spec import Job

SLOT = "timing-slot"
"""The custom resource of a node that measures: `ray start --resources='{"timing-slot": 1}'`."""
SHARE = 0.001
"""The share of a slot that a case on a GPU takes."""
CHECK_S = 120.0
"""Longest time for the first check of a node."""
LOOK_S = 2.0
"""Interval at which new and lost nodes are looked for."""
RAY_LABELS = "ray.io/"
"""Prefix of the labels that Ray gives to nodes itself."""
START = f"`ray start --head --resources='{{\"{SLOT}\": 1}}'` (other nodes: --address=HOST:PORT instead of --head)"
"""The command that starts a node, for people."""

CLIENT_DIED = ("Starting Ray client server failed", "Proxy failed to Connect to backend")
"""Ray's messages if the process that it starts for a client died; this happens by chance, so we try again."""


class RayPool:
    """A connection to a Ray cluster; a context manager. `note` gets lines for people.

    `address` is `ray` for the cluster that runs on this machine, `HOST:PORT`, or `ray://HOST:PORT`. Only nodes with
    all `labels` are used. Raises `Refused` if there is no cluster, no node with a slot, or if a node has another
    installation than the driver or fewer than `threads` cores.
    """

    def __init__(self, address: str, labels: Mapping[str, str], threads: int, note: Callable[[str], object]) -> None:
        self._address, self._labels, self._threads, self._note = address, labels, threads, note
        self._nodes: dict[str, Node] = {}
        self._left_out: set[str] = set()
        self._checks: dict[ray.ObjectRef, Mapping[str, Any]] = {}
        self._running: dict[ray.ObjectRef, Attempt] = {}
        self._parcels: dict[str, Parcel] = {}
        self._content: dict[str, list[ray.ObjectRef]] = {}
        self._looked = 0.0
        _connect(address, f"--cluster {address}")
        try:
            self._check_all(address)
        except BaseException:
            ray.shutdown()
            raise

    @property
    def nodes(self) -> Sequence[Node]:
        """The checked nodes that are alive."""
        return list(self._nodes.values())

    def start(self, attempt: Attempt, timeout_s: float) -> None:
        """Start an attempt on its node."""
        job = attempt.planned.required_job()
        parcels = {path: self._parcel(path) for path in _paths(job)}
        work = NodeJob(job=job, timeout_s=timeout_s, parcels=parcels, beside=attempt.beside)
        content = {parcel.sha256: self._content[parcel.sha256] for parcel in parcels.values()}
        needed = {"num_gpus": 1, "resources": {SLOT: SHARE}} if attempt.needs_gpu else {"resources": {SLOT: 1}}
        task = _on(attempt.node.id, run_on_node, **needed)
        self._running[task.remote(msgspec.json.encode(work), content)] = attempt

    def wait(self) -> list[Ended]:
        """Wait until an attempt ends, a node is checked or some seconds have passed; return the attempts that ended.

        Raises `Declined` if the connection of a Ray client is lost.
        """
        try:
            return self._wait()
        except ConnectionError as error:
            raise Declined(
                f"the connection to {self._address} is lost; finished cases are stored, and --resume continues the run"
            ) from error

    def retire(self, node: Node, reason: str) -> None:
        """Start nothing more on a node."""
        if self._nodes.pop(node.id, None):
            self._left_out.add(node.id)
            self._note(f"node {node.address}: {one_line(reason, 200)}; the node is left out")

    def cancel(self) -> None:
        """End everything that runs."""
        for ref in self._running:
            ray.cancel(ref, force=True)

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def _check_all(self, address: str) -> None:
        self._look()
        found = len(self._checks)
        limit = time.monotonic() + CHECK_S
        problems = []
        while self._checks and time.monotonic() < limit:
            ready, _ = ray.wait(list(self._checks), timeout=1)
            problems += [problem for ref in ready if (problem := self._checked(ref))]
        problems += [f"node {_address(node)} gave no answer in {CHECK_S:g} s" for node in self._checks.values()]
        if problems:
            raise Refused(problems[0] + (f" (and {len(problems) - 1} more nodes)" if len(problems) > 1 else ""))
        if not found:
            wanted = "".join(f" and the label {name}={value}" for name, value in self._labels.items())
            raise Refused(f"--cluster {address}: no node has the resource {SLOT}{wanted}; start nodes with {START}")

    def _wait(self) -> list[Ended]:
        pending = [*self._running, *self._checks]
        if pending:
            ray.wait(pending, timeout=LOOK_S)
            ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        else:
            time.sleep(LOOK_S)
            ready = []
        ended = [self._ended(ref) for ref in ready if ref in self._running]
        for ref in ready:
            if ref in self._checks and (problem := self._checked(ref)):
                self._note(f"{problem}; the node is left out")
        if time.monotonic() - self._looked > LOOK_S:
            self._look()
        return ended

    def _look(self) -> None:
        """Forget lost nodes, and begin the check of new ones."""
        self._looked = time.monotonic()
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for lost in self._nodes.keys() - alive.keys():
            self._note(f"node {self._nodes.pop(lost).address} is lost")
        known = self._nodes.keys() | self._left_out | {node["NodeID"] for node in self._checks.values()}
        for name, node in alive.items():
            usable = node["Resources"].get(SLOT, 0) >= 1 and self._labels.items() <= node["Labels"].items()
            if usable and name not in known:
                self._checks[_on(name, describe_on_node).remote()] = node

    def _checked(self, ref: ray.ObjectRef) -> str:
        """Take the answer of a node; return why it cannot be used, or an empty string."""
        node = self._checks.pop(ref)
        self._left_out.add(node["NodeID"])
        try:
            facts = msgspec.json.decode(ray.get(ref), type=NodeFacts)
        except RayError as error:
            return f"node {_address(node)} cannot be used: {_reason(error)}"
        if problem := difference(installation(), facts.installation) or self._too_small(facts):
            return f"node {_address(node)} has {problem}"
        self._left_out.remove(node["NodeID"])
        gpus = int(node["Resources"].get("GPU", 0))
        self._nodes[node["NodeID"]] = Node(node["NodeID"], _address(node), gpus, facts)
        return ""

    def _too_small(self, facts: NodeFacts) -> str:
        cores = facts.machine.cores
        return f"{cores} cores, and a case needs {self._threads}; give --threads" if cores < self._threads else ""

    def _ended(self, ref: ray.ObjectRef) -> Ended:
        attempt = self._running.pop(ref)
        try:
            return Ended(attempt, msgspec.msgpack.decode(ray.get(ref), type=Reply))
        except RayError as error:
            # It is checked again before another case starts there.
            self._nodes.pop(attempt.node.id, None)
            return Ended(attempt, Lost(_reason(error), begun=not isinstance(error, TaskUnschedulableError)))

    def _parcel(self, path: str) -> Parcel:
        """Return the parcel of a path; its content goes into the object store once."""
        if path not in self._parcels:
            packed = pack(Path(path))
            parcel = self._parcels[path] = parcel_of(Path(path), packed)
            if parcel.sha256 not in self._content:
                self._content[parcel.sha256] = [ray.put(packed)]
        return self._parcels[path]


def overview(address: str) -> list[ClusterNode]:
    """Describe all nodes of a cluster that are alive, also those without a slot. Raises `Refused` without a cluster.

    Each node starts one short process for it.
    """
    _connect(address, address)
    try:
        nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=_address)
        asked = [_on(node["NodeID"], status_on_node).remote() for node in nodes]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=CHECK_S)
        return [_described(node, ref if ref in ready else None) for node, ref in zip(nodes, asked, strict=True)]
    finally:
        ray.shutdown()


def _connect(address: str, asked: str) -> None:
    warnings.filterwarnings("ignore", "Ray Client connection timed out")  # the refusal says so
    for last in (False, True):
        try:
            ray.init(address="auto" if address == "ray" else address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            if last or not any(words in str(error) for words in CLIENT_DIED):
                raise Refused(
                    f"{asked}: no Ray cluster ({one_line(str(error), 150)}); start one with {START}"
                ) from error
        else:
            return


def _described(node: Mapping[str, Any], ref: ray.ObjectRef | None) -> ClusterNode:
    """Return what is known of a node; without a reference, the node gave no answer."""
    status, problem = None, f"gave no answer in {CHECK_S:g} s"
    if ref is not None:
        try:
            status = msgspec.json.decode(ray.get(ref), type=NodeStatus)
            differs = difference(installation(), status.facts.installation)
            problem = differs and f"has {differs}"
        except RayError as error:
            problem = f"cannot be used: {_reason(error)}"
    return ClusterNode(
        address=_address(node),
        slots=int(node["Resources"].get(SLOT, 0)),
        gpus=int(node["Resources"].get("GPU", 0)),
        labels={name: value for name, value in node["Labels"].items() if not name.startswith(RAY_LABELS)},
        status=status,
        problem=problem,
    )


def status_on_node() -> bytes:
    """Describe a node and the cases that run there, as JSON."""
    return msgspec.json.encode(node_status())


def describe_on_node() -> bytes:
    """Describe a node, as JSON."""
    return msgspec.json.encode(describe_node())


def run_on_node(work: bytes, content: Mapping[str, Sequence[ray.ObjectRef]]) -> bytes:
    """Run a job on a node. `content` has the references of its parcels, in lists, so that Ray does not fetch them."""

    def fetch(sha256: str) -> bytes:
        packed: bytes = ray.get(content[sha256][0])
        return packed

    return msgspec.msgpack.encode(run_work(msgspec.json.decode(work, type=NodeJob), fetch))


def _on(node: str, function: Any, **needed: Any) -> Any:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=place, **needed)


def _address(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def _paths(job: Job) -> Iterable[str]:
    """Return the paths of a job that travel: data, source files if a pipeline reads them, checkpoint, plug-in files."""
    files = job.files_path if job.case.input == "native" else None
    plugins = [plugin for plugin in job.plugins if plugin.endswith(".py")]
    return [path for path in (job.dataset_path, files, job.checkpoint_path, *plugins) if path]


def _reason(error: RayError) -> str:
    """Return one line; Ray's messages have several, with advice that does not apply here."""
    return f"{type(error).__name__}: {one_line(str(error).strip().splitlines()[-1], 200)}"
