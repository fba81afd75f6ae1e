"""Which case runs on which node: free slots, lost attempts, and one new attempt elsewhere. Nothing here knows Ray."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.cluster.node import NodeFacts
from benchmarks.preparing.plan import PlannedCase
from harness.process.machine import Machine
from harness.spec import Case
from results.storage.rows import ATTEMPTS


class Node(NamedTuple):
    """A checked node: its id, its address for people, the number of its GPUs, and what it says about itself."""

    id: str
    address: str
    gpus: int
    facts: NodeFacts

    @property
    def machine(self) -> Machine:
        """The machine of the node."""
        return self.facts.machine


class Waiting(NamedTuple):
    """A case that has to run: its place in the plan, the number of the attempt, and the node that lost the last one."""

    place: int
    number: int = 1
    elsewhere: str = ""


class Attempt(NamedTuple):
    """One start of a case on a node. `seat` is 0, or the number of a GPU case beside others on its node."""

    place: int
    planned: PlannedCase
    node: Node
    number: int
    seat: int = 0

    @property
    def case(self) -> Case:
        """The case."""
        return self.planned.case

    @property
    def needs_gpu(self) -> bool:
        """Whether the case takes a GPU of its node."""
        return bool(self.node.gpus) and self.node.machine.device_kind(self.case.device) == "cuda"

    @property
    def beside(self) -> int:
        """Number of cores that the seats before this one use."""
        return self.seat * self.case.cores


class Attempts:
    """The cases of a plan that wait and run, in order.

    A node runs one case on its CPU, or one on each GPU and none on its CPU. Cases with an equal value in `together` run
    on machines with one key, as long as there are such nodes.
    """

    def __init__(self, plan: Sequence[PlannedCase], together: Sequence[Hashable]) -> None:
        self._plan, self._together = plan, together
        self._waiting = [Waiting(place) for place, planned in enumerate(plan) if planned.job is not None]
        self._keys: dict[Hashable, str] = {}
        self._on: dict[str, list[Attempt]] = defaultdict(list)

    @property
    def running(self) -> list[Attempt]:
        """The attempts in progress."""
        return [attempt for attempts in self._on.values() for attempt in attempts]

    @property
    def waiting(self) -> int:
        """Number of cases that wait."""
        return len(self._waiting)

    def begin(self, nodes: Sequence[Node]) -> Iterator[Attempt]:
        """Start cases on all free slots of these nodes and yield them."""
        for node in nodes:
            while (found := self._first_for(node, nodes)) is not None:
                waiting, attempt = found
                self._waiting.remove(waiting)
                self._keys[self._together[attempt.place]] = node.machine.key
                self._on[node.id].append(attempt)
                yield attempt

    def end(self, attempt: Attempt) -> None:
        """Note that a case has its result, which frees the slot."""
        self._on[attempt.node.id].remove(attempt)

    def lose(self, attempt: Attempt, *, begun: bool = True) -> None:
        """Note that an attempt is lost; the case waits again if it has an attempt left or had not begun."""
        self.end(attempt)
        number = attempt.number + begun
        if number <= ATTEMPTS:
            self._waiting.insert(0, Waiting(attempt.place, number, attempt.node.id))

    def _first_for(self, node: Node, nodes: Sequence[Node]) -> tuple[Waiting, Attempt] | None:
        others = self._on[node.id]
        if others and not others[0].needs_gpu:
            return None
        for waiting in self._waiting:
            planned = self._plan[waiting.place]
            attempt = Attempt(waiting.place, planned, node, waiting.number, _free_seat(others))
            if _fits(attempt, others) and node in self._allowed(waiting, nodes):
                return waiting, attempt
        return None

    def _allowed(self, waiting: Waiting, nodes: Sequence[Node]) -> Sequence[Node]:
        """Return the nodes that may run a case; a wish that no node can fulfil is left out."""
        if self._plan[waiting.place].case.device == "cuda":
            nodes = [node for node in nodes if node.gpus] or nodes
        nodes = [node for node in nodes if node.id != waiting.elsewhere] or nodes
        key = self._keys.get(self._together[waiting.place])
        return [node for node in nodes if node.machine.key == key] or nodes


def _free_seat(others: Sequence[Attempt]) -> int:
    taken = {other.seat for other in others}
    return next(seat for seat in range(len(taken) + 1) if seat not in taken)


def _fits(attempt: Attempt, others: Sequence[Attempt]) -> bool:
    if not others:
        return True
    cores, node = attempt.case.cores, attempt.node
    alike = all(other.needs_gpu and other.case.cores == cores for other in others)
    room = attempt.beside + cores <= node.machine.cores
    return attempt.needs_gpu and alike and room and len(others) < node.gpus
