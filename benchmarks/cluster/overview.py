"""The nodes of a cluster as a person sees them: slots, versions, labels, and the cases that run there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from benchmarks.cluster.node import NodeFacts, describe_node
from harness.entry import RUN_CASE
from harness.spec import Case

PACKAGES = ("torch", "tensorflow", "jax", "keras")
"""Packages whose versions a table of nodes shows."""


class RunningCase(msgspec.Struct, frozen=True, kw_only=True):
    """A case in progress: its label, and the start of its worker by the clock of its node."""

    case: str
    since: datetime
    seconds: float


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a node, and the cases that it runs now."""

    facts: NodeFacts
    running: tuple[RunningCase, ...]


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is alive. `status` is None without an answer; `problem` says why `run --cluster` cannot use it."""

    address: str
    slots: int
    gpus: int
    labels: dict[str, str]
    status: NodeStatus | None
    problem: str = ""


class _JobOfCase(msgspec.Struct):
    case: Case


class _Arguments(msgspec.Struct):
    job: _JobOfCase


class _WorkerJob(msgspec.Struct):
    """The part of a worker's `job.json` that says what it measures."""

    call: str
    started: float
    arguments: msgspec.Raw


def node_status() -> NodeStatus:
    """Describe this node; called in a process that the node started."""
    return NodeStatus(facts=describe_node(), running=tuple(running_cases(os.getppid())))


def running_cases(node: int) -> Iterator[RunningCase]:
    """Yield the cases whose workers are below the process `node`, oldest first.

    Several nodes may share a machine, so workers below other processes belong to others.
    """
    found = []
    for process in psutil.Process(node).children(recursive=True):
        try:
            words = process.cmdline()
            if len(words) < 2 or not words[-2].endswith("harness.entry"):
                continue
            job = msgspec.json.decode((Path(words[-1]) / "job.json").read_bytes(), type=_WorkerJob)
        except (psutil.Error, OSError):  # it ended meanwhile
            continue
        if job.call == RUN_CASE:
            case = msgspec.json.decode(job.arguments, type=_Arguments).job.case
            since = datetime.fromtimestamp(job.started, UTC)
            seconds = (datetime.now(UTC) - since).total_seconds()
            found.append(RunningCase(case=case.label, since=since, seconds=seconds))
    yield from sorted(found, key=lambda one: one.since)


def table(nodes: Sequence[ClusterNode]) -> list[tuple[str, ...]]:
    """Return a heading and one row per node; further cases of a node have rows of their own.

    A node without slots measures nothing. Times are UTC.
    """
    rows: list[tuple[str, ...]] = [
        ("node", "slots", "cores", "GPUs", "sources", "versions", "labels", "runs", "since (UTC)", "s")
    ]
    for node in nodes:
        labels = ",".join(f"{name}={value}" for name, value in sorted(node.labels.items())) or "–"
        about: tuple[str, ...] = ("–", str(node.gpus), "–", "–", labels)
        running: tuple[RunningCase, ...] = ()
        if node.status is not None:
            machine, installed = node.status.facts.machine, node.status.facts.installation
            versions = [f"{name} {installed.packages[name]}" for name in PACKAGES if name in installed.packages]
            shown = ", ".join((f"python {installed.packages['python']}", *versions))
            about = (str(machine.cores), str(node.gpus), installed.sources[:8], shown, labels)
            running = node.status.running
        cells = [(one.case, f"{one.since:%H:%M:%S}", f"{one.seconds:.0f}") for one in running] or [("–", "–", "–")]
        rows.append((node.address, str(node.slots), *about, *cells[0]))
        rows += [("",) * 7 + more for more in cells[1:]]
    return rows
