"""The progress of a run: one line per finished case, and on a terminal a live line below."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from benchmarks.running.terminal import roughly
from harness.errors import printable
from harness.process.launch import STARTED, Event
from harness.running.record import Record
from results.storage.windows import pays_from
from results.tables.figures import measure


class RunProgress:
    """A context manager that shows the events it gets. It draws only when an event comes, never on a timer."""

    def __init__(self, console: Console, *, quiet: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._total = self._done = 0
        self._now, self._begun = now, dict[str, tuple[float, float]]()
        self._announced: set[str] = set()
        self._continues = not STARTED.isEnabledFor(logging.INFO)  # nothing is printed between begin and end of a case

    def say(self, lines: Iterable[str]) -> None:
        """Print lines above the live one."""
        if not self._quiet:
            for line in lines:
                self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def expect(self, cases: int) -> None:
        """Set the number of cases; from now on the time left is shown."""
        self._total = cases
        self._time_left("cases", 0.0)
        if self._task is not None:
            self._bar.remove_task(self._task)  # the preparation is finished
        self._task = self._bar.add_task("", total=cases, detail="")

    def on_event(self, event: Event) -> None:
        """Show an event of `execute`, `plan`, `certify`, `selftest` or a worker."""
        if "end" in event:
            self._ended(event["end"], event.get("node"))
        elif "preparing" in event:
            self._announce(f"preparing {event['preparing']}")
        elif "pretraining" in event:
            left = self._time_left(event["pretraining"], _share(event))
            self._announce(f"pretraining {event['pretraining']} (once, then cached)", _epoch(event) + left)
        elif "scenarios" in event:
            scenarios = ", ".join(event["scenarios"])
            self._announce(f"certifying {event['certifying']} (once, then stored): {scenarios}")
        elif "certifying" in event:
            self._show(f"certifying {event['certifying']}", event.get("asking") or _epoch(event))
        elif "trying" in event:
            self._announce(f"trying {event['trying']}")
        elif "comparing" in event:
            self._show(f"comparing {event['comparing']}", _replicate(event) + self._left())
        elif "measuring" in event:
            self._show(f"{event['measuring']} cases on {event['nodes']} nodes", self._left())
        elif "begin" in event:
            if not self._live:
                end = "" if self._continues else "\n"
                self._print(f"{self._count(self._done + 1)} {event['begin']}: ".rstrip(" " if end else ""), end)
            self._show(event["begin"], f"starting{self._left()}")
        else:
            self._show(None, _epoch(event) + self._left(_share(event)))

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _show(self, description: str | None, detail: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=None, detail="")
        if description is not None:
            self._bar.update(self._task, description=description)
        self._bar.update(self._task, detail=detail, refresh=True)

    def _ended(self, record: Record, node: str | None) -> None:
        """Show the result of a case, after its `begin`. On a cluster, cases overlap, so each line is complete."""
        self._done += 1
        if self._task is not None:
            self._bar.update(self._task, completed=self._done, refresh=True)
        where = f" on {node}" if node else ""
        complete = self._live or node is not None or not self._continues
        label = f"{self._count(self._done)} {record.case.label}{where}: " if complete else ""
        self._print(f"{label}{_outcome(record)}{_checkpoint(record)}")

    def _count(self, case: int) -> str:
        return f"[{case}/{self._total}]" if self._total else f"[{case}]"

    def _announce(self, text: str, detail: str = "") -> None:
        """Show a step on the live line; without one, print it once."""
        if not self._live and text not in self._announced:
            self._announced.add(text)
            self._print(text)
        self._show(text, detail)

    def _print(self, text: str, end: str = "\n") -> None:
        if not self._quiet:
            self._console.print(text, end=end, highlight=False, markup=False, soft_wrap=True)

    def _left(self, share: float = 0.0) -> str:
        """Return the time left for all cases; `share` of the running case is done."""
        return self._time_left("cases", (self._done + share) / self._total) if self._total else ""

    def _time_left(self, work: str, share: float) -> str:
        """Return the time left, or nothing until the share grows."""
        began, before = self._begun.setdefault(work, (self._now(), share))
        if share <= before:
            return ""
        left = (self._now() - began) / (share - before) * (1 - share)
        return f", about {roughly(left)} left"


def _share(event: Event) -> float:
    """Return the share of a case's epochs that is done, as if all stages took the same time."""
    if "epoch" not in event:
        return 0.0
    return float((event["stage"] - 1 + event["epoch"] / event["epochs"]) / event["stages"])


def _epoch(event: Event) -> str:
    if "epoch" not in event:
        return str(event.get("detail", ""))
    stage = f"stage {event['stage']}/{event['stages']}, " if event["stages"] > 1 else ""
    accuracy = f"{event['val_accuracy']:.1%}"
    return f"{stage}epoch {event['epoch']}/{event['epochs']}, {event['images_per_s']:.0f} images/s, {accuracy}"


def _replicate(event: Event) -> str:
    if "pair" in event:
        most = f" of at most {event['pairs']}" if "pairs" in event else ""
        return f"pair {event['pair']}{most}"
    return f"side {event['side']}, seed {event['seed']}"


def _checkpoint(record: Record) -> str:
    """Return which tensors did not fit, what the import chose, and which rows of the classifier are reused."""
    if record.load is None:
        return ""
    text = "" if record.load.complete else f"; checkpoint: {record.load.sentence()}"
    text += "".join(f"; checkpoint: {note}" for note in record.load.notes)
    if record.case.reuse_head:
        reused = ", ".join(map(repr, record.load.reused_classes))
        text += f"; reused head rows: {reused or 'none, because no class name matches'}"
    return text


def _outcome(record: Record) -> str:
    if record.status != "ok" or record.test is None:
        log = record.artefacts.get("log")
        return f"{record.status} – {record.reason}" + (f" (log: {log})" if log else "")
    figures = measure(record)
    speed = f"{figures['throughput']:.0f} images/s, " if math.isfinite(figures["throughput"]) else ""
    times = f"{figures['train_s']:.1f} s of training, {record.total_s:.0f} s in all"
    return f"accuracy {record.test.accuracy:.1%}, {speed}{times}{_features(record)}"


def _features(record: Record) -> str:
    """Return how many features were computed, how long that took, and from which epoch on it saves time."""
    text = ""
    for stage in record.stages:
        if stage.features is not None:
            kept, epoch = stage.features, pays_from(stage)
            pays = f"saves time from epoch {epoch}" if epoch else "saves no time in this run, because no view repeats"
            known = f", {kept.reused} from earlier runs" if kept.reused else ""
            text += f"; kept features of {kept.views} views in {kept.seconds:.1f} s{known}: {pays}"
    return text
