"""The cost of a cluster: trivial cases on a Ray cluster of two nodes on this machine, and some of them without it.

    python -m benchmarks.studies.cluster_cost --cases 1000

The cost per case is the time of a slot outside the worker process of the case. A worker's time goes from its start to
its record, so the end of its process counts as cost, here and in the local run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import psutil

from benchmarks.cluster.extra import needs_ray
from benchmarks.cluster.suite import execute_on
from benchmarks.preparing.plan import PlannedCase
from benchmarks.running.execute import run_job
from benchmarks.running.terminal import use_stand_ins
from benchmarks.selftest import fixtures
from harness.errors import Declined, Refused
from harness.process.machine import describe_machine
from harness.running.record import Record
from harness.spec import Case, Job, Scenario, Stage, key
from results.rules.record_rules import judged
from results.storage.run_files import RunWriter, open_run

NODES = 2
TIMEOUT_S = 600.0
LONG_CASE_S = 60.0
"""Length of a case to which the cost is related."""
SCENARIO = Scenario(
    name="scratch",
    explanation="",
    stages=(Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=fixtures.BATCH),),
    start="random",
)


class SuiteCost(msgspec.Struct, frozen=True, kw_only=True):
    """Wall seconds of a suite, and the seconds of the worker of each case. `cpu_s` is CPU time outside the workers."""

    slots: int
    wall_s: float
    worker_s: tuple[float, ...]
    cpu_s: float

    @property
    def busy(self) -> float:
        """The share of the slots' time in which a worker ran.

        >>> SuiteCost(slots=2, wall_s=10.0, worker_s=(9.0, 9.0), cpu_s=0.0).busy
        0.9
        """
        return sum(self.worker_s) / (self.slots * self.wall_s)

    @property
    def outside_s(self) -> float:
        """The time of a slot outside the worker, per case.

        >>> SuiteCost(slots=2, wall_s=10.0, worker_s=(9.0, 9.0), cpu_s=0.0).outside_s
        1.0
        """
        return (self.slots * self.wall_s - sum(self.worker_s)) / len(self.worker_s)


def plan(cases: int, home: Path) -> list[PlannedCase]:
    """Return trivial cases that differ in the seed."""
    data = fixtures.dataset(home)
    found = []
    for seed in range(cases):
        case = Case(
            backend="reference",
            model=fixtures.MODEL,
            scenario=SCENARIO,
            dataset=data.meta.name,
            dataset_sha256=data.meta.sha256,
            image_size=fixtures.SIZE,
            seed=seed,
        )
        found.append(PlannedCase(case, Job(case=case, dataset_path=str(data.folder))))
    return found


def measure(
    planned: Sequence[PlannedCase], slots: int, results: Path, run: Callable[[RunWriter], Sequence[Record]]
) -> SuiteCost:
    """Run cases with `run(writer)`, which returns their records. Raises `Refused` if one of them is not `ok`."""
    keys = [key(one.case) for one in planned]
    with open_run(results, command=["study"], planned=keys, machine=describe_machine(), environment={}) as writer:
        cpu, started = cpu_s(), time.monotonic()
        records = run(writer)
        wall_s, spent = time.monotonic() - started, cpu_s() - cpu
        writer.finish()
    if bad := [record for record in records if record.status != "ok"]:
        first = f"{bad[0].case.label} {bad[0].status}: {bad[0].reason}"
        raise Refused(f"{first}; {len(bad)} of {len(records)} cases have no figures")
    return SuiteCost(slots=slots, wall_s=wall_s, worker_s=tuple(record.total_s for record in records), cpu_s=spent)


def cpu_s() -> float:
    """Return the CPU seconds of this process and all below it that are alive, without the workers of cases."""
    total = time.process_time()  # finer than the ticks of 10 ms that the system has for other processes
    for process in psutil.Process().children(recursive=True):
        try:
            if "harness.entry" not in " ".join(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return total


@contextmanager
def nodes(home: Path) -> Iterator[str]:
    """Start a Ray cluster on this machine, with one slot per node; yield its address."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "180"})  # read at the import
    from ray.cluster_utils import Cluster

    facts = {"num_cpus": 1, "resources": {"timing-slot": 1}, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**facts, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**facts)
        yield cluster.address
    finally:
        cluster.shutdown()


def on_a_cluster(planned: Sequence[PlannedCase], home: Path, say: Callable[[str], object]) -> SuiteCost:
    """Run the cases on two nodes. Raises `Declined` without Ray."""
    with needs_ray("this study"):
        from benchmarks.cluster.ray_pool import RayPool
    with nodes(home) as address, RayPool(address, {}, 1, say) as pool:
        done = 0

        def note(event: object) -> None:
            nonlocal done
            if isinstance(event, dict) and "end" in event:
                done += 1
                if done % 100 == 0:
                    say(f"{done} of {len(planned)} cases")

        def run(writer: RunWriter) -> list[Record]:
            together = range(len(planned))
            return execute_on(pool, planned, together, writer, describe_machine(), TIMEOUT_S, note)

        return measure(planned, NODES, home / "cluster", run)


def locally(planned: Sequence[PlannedCase], home: Path) -> SuiteCost:
    """Run the cases one after the other on this machine; `run` would start several short ones at a time."""

    def run(writer: RunWriter) -> list[Record]:
        records = []
        for one in planned:
            records.append(judged(run_job(one.required_job(), writer, TIMEOUT_S, lambda event: None)))
            writer.append(records[-1])
        return records

    return measure(planned, 1, home / "local", run)


def lines(cluster: SuiteCost, local: SuiteCost) -> Iterator[str]:
    """Yield the figures as sentences."""
    for name, one in (("cluster", cluster), ("local", local)):
        count = len(one.worker_s)
        what = f"{count} {_many('case', count)} in {one.wall_s:.0f} s on {one.slots} {_many('slot', one.slots)}"
        worker_s = sum(one.worker_s) / count
        cost = f"{one.outside_s:.3f} s outside ({one.cpu_s / count:.3f} s of CPU time)"
        yield (
            f"{name}: {what}; a worker ran {one.busy:.1%} of the slots' time; "
            f"a case took {worker_s:.2f} s in its worker and {cost}"
        )
    more = cluster.outside_s - local.outside_s
    yield f"cluster minus local: {more:+.3f} s per case, {more / LONG_CASE_S:.2%} of a case of {LONG_CASE_S:g} s"


def _many(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


@click.command
@click.option("--cases", default=1000, show_default=True, help="trivial cases on the cluster")
@click.option("--local", default=50, show_default=True, help="cases of the local run")
def main(cases: int, local: int) -> None:
    """Print how long the slots of a cluster are busy, and what a case costs there beside its worker."""
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as folder:
        home = Path(folder)
        planned = plan(max(cases, local), home)
        try:
            alone = locally(planned[:local], home)
            cluster = on_a_cluster(planned[:cases], home, lambda line: click.echo(line, err=True))
        except (Declined, Refused) as error:
            raise click.ClickException(str(error)) from error
        for line in lines(cluster, alone):
            click.echo(line)


if __name__ == "__main__":
    use_stand_ins()
    main()
