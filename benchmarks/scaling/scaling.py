"""Strong and weak scaling: the speed of several devices relative to the first number of devices, from paired runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.selection import SelectedCase
from benchmarks.comparing.sides import SideCases
from harness import PROGRAM
from harness.spec import Case
from results.certificates.certificate import Certificate, Certificates
from results.certificates.scope import coverage_of, subject_of_case
from results.storage.comparison import Comparison
from results.storage.rows import PairRow
from results.verdicts.pair_findings import median_step_us

Kind = Literal["strong", "weak"]
MEANING = {
    "strong": "strong scaling: one batch is divided between the devices",
    "weak": "weak scaling: each device has its batch; the larger batch is another training, so only speed is compared",
}


class ScalingStep(NamedTuple):
    """One further number of devices in one kind of scaling, with both sides of its comparison: baseline first."""

    kind: Kind
    sides: SideCases

    @property
    def label(self) -> str:
        """The kind and number of devices, for messages and stored comparisons."""
        case = self.sides[1].case
        return f"{case.backend_name}/{case.model}/{case.scenario.name}, {self.kind} scaling, {case.devices} devices"


class ScalingRow(msgspec.Struct, frozen=True):
    """A row of a table. `speedup` and its interval are relative to the baseline; `note` says what is behind it."""

    kind: Kind
    devices: int
    batch: str
    images_per_s: float | None
    speedup: tuple[float, float, float] | None
    efficiency: tuple[float, float, float] | None
    note: str = ""


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
    steps: Sequence[ScalingStep],
    comparisons: Mapping[str, Comparison],
    pairs: Mapping[str, Sequence[PairRow]],
    proofs: Mapping[str, str],
) -> list[ScalingRow]:
    """Return the rows of both kinds, each with its baseline first. The mappings are by the label of a step."""
    rows: list[ScalingRow] = []
    for step in steps:
        one, other = (side.case for side in step.sides)
        measured = [pair for pair in pairs.get(step.label, ()) if pair.counts]
        if not rows or rows[-1].kind != step.kind:
            speed = median(1e6 / median_step_us(pair.a) for pair in measured) if measured else None
            whole = (1.0, 1.0, 1.0)
            rows.append(ScalingRow(step.kind, one.devices, _batches(step.sides[0]), speed, whole, whole, "baseline"))
        found = comparisons.get(step.label)
        finding = next((one for one in found.findings if one.metric == "throughput"), None) if found else None
        if finding is None or finding.note:
            note = finding.note if finding else "not measured"
            rows.append(ScalingRow(step.kind, other.devices, _batches(step.sides[1]), None, None, None, note))
            continue
        value, low, high = (math.exp(-cost) for cost in (finding.change, finding.high, finding.low))
        share = one.devices / other.devices
        speed = median(1e6 / median_step_us(pair.b) for pair in measured)
        gains = (value, low, high), (value * share, low * share, high * share)
        rows.append(
            ScalingRow(step.kind, other.devices, _batches(step.sides[1]), speed, *gains, proofs.get(step.label, ""))
        )
    return rows


def proof_of(kind: Kind, cases: tuple[Case, Case], installed: str, device: str, certificates: Certificates) -> str:
    """Return the certificate that both sides of a step train the same, or why there is none and how to make one.

    `installed` are the packages of the backend; `device` is the kind of the devices.
    """
    one, other = cases
    if kind == "weak":
        return "another batch"
    if other.norm_scope == "device":
        return "norm over each device: another training"
    subjects = [subject_of_case(case, installed, device) for case in cases]
    found = coverage_of(subjects[0], subjects[1], certificates.all)
    if isinstance(found.certificate, Certificate):
        return f"P{found.certificate.level(one.scenario.name)}, certificate {found.certificate.sha256[:8]}"
    chosen = f"--backend {one.backend}" + (f" --engine {one.engine}" if one.engine else "")
    command = f"{PROGRAM} certify {one.model} {chosen} --set devices={other.devices} --scenario {one.scenario.name}"
    return f"{found.reason}: {command}"


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


def _with_interval(values: tuple[float, float, float] | None, whole: str, end: str) -> str:
    if values is None:
        return "–"
    value, low, high = values
    text = whole.format(value)
    return text if low == high else f"{text} ({end.format(low)}–{end.format(high)})"


def _batches(selected: SelectedCase) -> str:
    return ", ".join(dict.fromkeys(str(stage.batch_size) for stage in selected.case.scenario.stages))
