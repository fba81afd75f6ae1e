"""Run the cases of a plan on the nodes of a cluster, and store each record as it comes back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from benchmarks.cluster.attempts import Attempt, Attempts, Node
from benchmarks.cluster.node import Reply
from benchmarks.preparing.plan import PlannedCase
from benchmarks.running.execute import record_of, without_figures
from harness.errors import Declined
from harness.process.launch import Event
from harness.process.machine import Machine
from harness.running.record import Record
from results.rules.record_rules import judged
from results.storage.objects import put_json
from results.storage.rows import ATTEMPTS
from results.storage.run_files import RunWriter

PATIENCE_S = 60.0
"""Time to wait for another node when none can run a case."""


class Lost(NamedTuple):
    """An attempt without a reply. `begun` is false if the case did not start."""

    reason: str
    begun: bool = True


class Ended(NamedTuple):
    """What came back of an attempt."""

    attempt: Attempt
    result: Reply | Lost


class Pool(Protocol):
    """The nodes of a cluster and what runs there."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The checked nodes that are alive."""

    def start(self, attempt: Attempt, timeout_s: float) -> None:
        """Start an attempt on its node."""

    def wait(self) -> list[Ended]:
        """Wait until an attempt ends or some seconds have passed, and return what ended."""

    def retire(self, node: Node, reason: str) -> None:
        """Start nothing more on a node."""

    def cancel(self) -> None:
        """End everything that runs."""


def execute_on(
    pool: Pool,
    plan: Sequence[PlannedCase],
    together: Sequence[Hashable],
    writer: RunWriter,
    machine: Machine,
    timeout_s: float,
    on_event: Callable[[Event], None],
    patience_s: float = PATIENCE_S,
) -> list[Record]:
    """Run every planned case on a node, append its record, and return the records. See `Attempts` for `together`.

    `machine` is the driver's. A lost attempt is a record with the status `killed`, and the case runs once more. Raises
    `Declined` if no node is left for `patience_s`. On Ctrl-C the running cases are recorded as `interrupted`, and
    KeyboardInterrupt is raised again.
    """
    store = _Store(writer, on_event)
    for planned in plan:
        if planned.job is None:
            skipped = without_figures(planned.case, "skipped", planned.skip_reason)
            store.append(replace(skipped, machine=machine.key))
    attempts = Attempts(plan, together)
    came: list[Ended] = []
    idle_since = time.monotonic()
    try:
        while attempts.waiting or attempts.running:
            for attempt in attempts.begin(pool.nodes):
                pool.start(attempt, timeout_s)
            running = len(attempts.running)
            on_event({"measuring": running, "nodes": len(pool.nodes)})
            store.take(came)  # records are stored while the next cases run
            if running:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > patience_s:
                raise Declined(
                    f"no node can run the {attempts.waiting} cases without a result; finished cases are stored in "
                    f"{writer.path}; start nodes, and --resume continues the run"
                )
            came = pool.wait()
            for ended in came:
                _note(ended, attempts, pool)
        store.take(came)
    except KeyboardInterrupt:
        pool.cancel()
        store.take(came)
        for attempt in attempts.running:
            store.append_attempt(attempt, without_figures(attempt.case, "interrupted", "Ctrl-C"))
        raise
    return store.records


def _note(ended: Ended, attempts: Attempts, pool: Pool) -> None:
    attempt, result = ended
    if isinstance(result, Lost):
        attempts.lose(attempt, begun=result.begun)
    elif result.ending == "killed":
        attempts.lose(attempt)
    else:
        attempts.end(attempt)
    if isinstance(result, Reply) and result.broken:
        pool.retire(attempt.node, result.reason)


class _Store:
    """Turns what came back into stored records."""

    def __init__(self, writer: RunWriter, on_event: Callable[[Event], None]) -> None:
        self._writer, self._on_event = writer, on_event
        self._environments: dict[str, str] = {}
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Store the record of a case that no node ran."""
        self._writer.append(record)
        self.records.append(record)
        self._on_event({"end": record, "node": ""})

    def take(self, came: list[Ended]) -> None:
        """Store all of the list, and remove each when it is stored: an interrupt loses none and stores none twice."""
        while came:
            self.append_ended(came[0])
            came.pop(0)

    def append_ended(self, ended: Ended) -> None:
        """Store the record of an attempt. A case that did not begin has none."""
        attempt, result = ended
        if isinstance(result, Reply) and result.ending != "killed":
            job = attempt.planned.required_job()
            with tempfile.TemporaryDirectory(prefix="finetune-bench-") as folder:
                record = record_of(job, result.outcome(Path(folder)), self._writer)
            self.append_attempt(attempt, judged(record))
        elif isinstance(result, Reply) or result.begun:
            reason = f"attempt {attempt.number} of {ATTEMPTS} on node {attempt.node.address}: {result.reason}"
            seconds = result.seconds if isinstance(result, Reply) else 0.0
            self.append_attempt(attempt, without_figures(attempt.case, "killed", reason, seconds))

    def append_attempt(self, attempt: Attempt, record: Record) -> None:
        """Store a record with the node's machine and environment."""
        node = attempt.node
        record = replace(record, machine=node.machine.key)
        if node.id not in self._environments:
            put_json(self._writer.results_dir, node.machine)
            self._environments[node.id] = self._writer.put_json(node.facts.environment)
        self._writer.append(record, environment=self._environments[node.id], node=node.address, attempt=attempt.number)
        self.records.append(record)
        self._on_event({"end": record, "node": node.address})
