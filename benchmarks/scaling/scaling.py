"""Strong and weak scaling: the speed of several devices relative to the first number of devices, from paired runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.selection import SelectedCase
from benchmarks.comparing.sides import SideCases
from results.certificates.certificate import Certificates
from results.scaling.gain import Accuracies, BreakEven, Interval, break_even, gain_of, note_of
from results.verdicts.stored_comparisons import StoredComparison

Kind = Literal["strong", "weak"]
MEANING = {
    "strong": "strong scaling: one batch is divided between the devices",
    "weak": "weak scaling: each device has its batch; the larger batch is another training",
}


class ScalingStep(NamedTuple):
    """A comparison of a number of devices with the baseline, its first side, in strong or weak scaling."""

    kind: Kind
    sides: SideCases

    @property
    def label(self) -> str:
        """The kind and number of devices, for messages and stored comparisons."""
        case = self.sides[1].case
        return f"{case.backend_name}/{case.model}/{case.scenario.name}, {self.kind} scaling, {case.devices} devices"


class ScalingRow(msgspec.Struct, frozen=True):
    """A row of a table. `speedup` and its interval are relative to the baseline; `note` says what is behind it.

    A row that claims the training of the baseline has no speed-up without a certificate.
    `accuracies` and `break_even` need complete runs; the baseline has none. `exchange` is the share of a step in weak
    scaling that is spent in exchanges, in waiting and in competition for shared resources; they are one figure.
    """

    kind: Kind
    devices: int
    batch: str
    images_per_s: float | None
    speedup: Interval | None
    efficiency: Interval | None
    note: str = ""
    accuracies: Accuracies | None = None
    break_even: BreakEven | None = None
    exchange: Interval | None = None


def steps_of(baseline: SelectedCase, devices: Sequence[int], norm_scope: str) -> list[ScalingStep]:
    """Return the comparisons of a case on the first of these numbers of devices with all others, strong ones first."""
    found = []
    for kind in ("strong", "weak"):
        for number in devices[1:]:
            case = replace(baseline.case, devices=number, norm_scope=norm_scope)
            if kind == "weak":
                factor = number // devices[0]
                stages = [replace(stage, batch_size=factor * stage.batch_size) for stage in case.scenario.stages]
                case = replace(case, scenario=replace(case.scenario, stages=tuple(stages)))
            found.append(ScalingStep(kind, (baseline, baseline._replace(case=case))))
    return found


def table(
    steps: Sequence[ScalingStep], stored: Mapping[str, StoredComparison], certificates: Certificates
) -> list[ScalingRow]:
    """Return the rows of both kinds, each with its baseline first. `stored` is by the label of a step."""
    rows: list[ScalingRow] = []
    for step in steps:
        one, other = (side.case for side in step.sides)
        found = stored.get(step.label)
        gain = gain_of(found, certificates) if found else None
        batches = [_batches(side) for side in step.sides]
        if not rows or rows[-1].kind != step.kind:
            whole = (1.0, 1.0, 1.0) if gain else None
            speed = gain.images_per_s[0] if gain else None
            rows.append(ScalingRow(step.kind, one.devices, batches[0], speed, whole, whole, "baseline"))
        if found is None or gain is None or note_of(found):
            note = note_of(found) if found else "not measured"
            rows.append(ScalingRow(step.kind, other.devices, batches[1], None, None, None, note))
            continue
        gains = gain.images_per_s[1], gain.speedup, gain.efficiency, gain.note, gain.accuracies
        more = (break_even(found, gain), gain.exchange) if gain.speedup else ()
        rows.append(ScalingRow(step.kind, other.devices, batches[1], *gains, *more))
    return rows


def sections(rows: Sequence[ScalingRow]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the heading and the cells of each kind."""
    for kind, meaning in MEANING.items():
        cells: list[tuple[str, ...]] = [("devices", "batch", "images/s", "speed-up", "efficiency", "")]
        cells += [
            (
                str(row.devices),
                row.batch,
                "–" if row.images_per_s is None else f"{row.images_per_s:.3g}",
                _with_interval(row.speedup, "× {:.2f}", "{:.2f}"),
                _with_interval(row.efficiency, "{:.0%}", "{:.0%}"),
                row.note,
            )
            for row in rows
            if row.kind == kind
        ]
        yield meaning, cells


def remarks(rows: Sequence[ScalingRow]) -> Iterator[str]:
    """Yield lines per further number of devices: the cost of exchanges, when it pays, the accuracy of both sides."""
    for row in rows:
        about = f"{row.kind} scaling, {row.devices} devices"
        if row.exchange is not None:
            share, low, high = row.exchange
            yield f"{about}: {share:.0%} ({low:.0%} to {high:.0%}) of a step is exchange, waiting and shared resources"
        if row.break_even is not None:
            yield f"{about}: {_pays(row.break_even)}"
        if row.accuracies is not None:
            found = row.accuracies
            change, low, high = found.change
            yield (
                f"{about}: accuracy {found.other:.1%}, baseline {found.one:.1%}; "
                f"change {change:+.1f} points ({low:+.1f} to {high:+.1f}), {found.seeds} seeds"
            )


def _pays(found: BreakEven) -> str:
    if found.images is None or found.epochs is None or found.start_s is None:
        return f"pays {found.note}"
    images, early, late = found.images
    interval = f"{early:.3g}–{late:.3g}; interval of the speed-up only"
    return (
        f"pays from {images:.3g} training images ({interval}), {found.epochs[0]:.3g} epochs; "
        f"a process spends {found.start_s:+.1f} s outside training (medians of {found.runs} runs)"
    )


def _with_interval(values: Interval | None, whole: str, end: str) -> str:
    if values is None:
        return "–"
    value, low, high = values
    text = whole.format(value)
    return text if low == high else f"{text} ({end.format(low)}–{end.format(high)})"


def _batches(selected: SelectedCase) -> str:
    return ", ".join(dict.fromkeys(str(stage.batch_size) for stage in selected.case.scenario.stages))
