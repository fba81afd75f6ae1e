"""Evidence: certificates, audits, effective settings, sensors, and how to repeat the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness import PROGRAM
from harness.running.record import Record
from harness.spec import Stage
from results.certificates.certificate import Certificate
from results.report.environments import downloads, environments, repeated
from results.report.page_data import Material, ShownCase
from results.report.section import Grid, GridRow, Section
from results.tables.wording import plain


def trust_section(material: Material) -> Section:
    """Show certificates, audits, effective settings, sensors, machines, versions, commands and downloads."""
    shown = material.shown
    proofs = _certificates(material)
    grids = [
        *([proofs] if proofs else []),
        *([_recipes(shown), _audits(shown), _effective(shown), _sensors(shown)] if shown else []),
        *environments(material),
    ]
    files, too_large = downloads(material)
    return Section(
        id="trust",
        title="Evidence",
        paragraphs=("All figures come from the processes below. Each case ran in a separate process.",)
        if shown
        else (),
        grids=tuple(grids),
        notes=(*_lacking(material), *too_large),
        template="trust.html.j2",
        extra={"commands": repeated(material), "downloads": files},
    )


def _about(material: Material) -> list[Certificate]:
    """Return the certificates of this folder, and those of the project about a shown model."""
    models, proofs = {case.row["model"] for case in material.shown}, material.certificates
    return [one for one in proofs.all if one.sha256 not in proofs.shipped or one.model in models]


def _certificates(material: Material) -> Grid | None:
    rows = []
    for one in _about(material):
        failed = [f"{check.rule} {check.what}" for check in one.failures()]
        for scenario in one.scenarios:
            level = one.level(scenario)
            cells = (
                one.model, " and ".join(arm.backend for arm in one.arms), scenario, one.precision,
                f"P{level}" if level >= 0 else "below P0", str(len(one.checks)), "; ".join(failed[:3]) or "none",
                one.made[:10], one.sha256[:8],
            )  # fmt: skip
            rows.append(GridRow(tuple(map(plain, cells)), {"model": plain(one.model), "scenario": plain(scenario)}))
    columns = ("model", "backends", "scenario", "precision", "level", "checks", "failed checks", "made", "digest")
    return Grid("Certificates", columns, tuple(rows), words=9, folded=False) if rows else None


def _lacking(material: Material) -> Iterator[str]:
    if not _about(material) and material.shown:
        several = len({case.backend for case in material.shown}) > 1
        consequence = ", so no ratio between backends is printed" if several else ""
        yield f"No certificate found{consequence}. Use `{PROGRAM} certify` to create one."
    unchecked = dict.fromkeys(
        what for case in material.shown for r in _records(case) for stage in r.stages for what in stage.audit.unchecked
    )
    if unchecked:
        yield f"Not checked in all places: {'; '.join(map(plain, unchecked))}."


def _records(case: ShownCase) -> list[Record]:
    return [process.record for process in case.processes]


def _recipes(shown: Sequence[ShownCase]) -> Grid:
    rows = []
    for case in shown:
        scenario = case.processes[0].record.case.scenario
        for number, stage in enumerate(scenario.stages, 1):
            where = f"{number} of {len(scenario.stages)}"
            rows.append(GridRow((case.name, where, scenario.start, *_stage(stage)), case.facets))
    columns = ("case", "stage", "starts from", "epochs", "batch", "head lr", "backbone lr", "frozen", "norm",
               "optimizer", "schedule", "decay", "smoothing", "selected epoch")  # fmt: skip
    return Grid("Recipes of the cases", columns, tuple(rows), words=14)


def _stage(stage: Stage) -> tuple[str, ...]:
    optimizer = stage.optimizer
    constants = f"momentum {optimizer.momentum:g}" if optimizer.name == "sgd" else f"eps {optimizer.eps:g}"
    return (
        str(stage.epochs), str(stage.batch_size), f"{stage.head_lr:g}", f"{stage.backbone_lr:g}", str(stage.frozen),
        f"{stage.norm}, momentum {stage.bn_momentum:g}", f"{optimizer.name}, {constants}", stage.schedule.name,
        f"{stage.weight_decay:g}", f"{stage.label_smoothing:g}", stage.keep,
    )  # fmt: skip


def _audits(shown: Sequence[ShownCase]) -> Grid:
    rows = []
    for case in shown:
        record = _records(case)[0]
        for number, stage in enumerate(record.stages, 1):
            audit, parameters, buffers = stage.audit, stage.audit.parameters, stage.audit.buffers
            cells = (
                case.name, f"{number} of {len(record.stages)}", f"{parameters.moved} of {parameters.total}",
                f"{parameters.frozen}", f"{buffers.moved} of {buffers.total}", f"{stage.trainable_parameters}",
                "; ".join(map(plain, audit.breaches)) or "none", record.load.sentence() if record.load else "–",
            )  # fmt: skip
            rows.append(GridRow(cells, case.facets))
    columns = ("case", "stage", "parameters changed", "frozen", "statistics changed", "trained values", "breaches",
               "checkpoint")  # fmt: skip
    return Grid(
        "Audits: changed tensors and breaches of the declaration (first process)", columns, tuple(rows), words=8
    )


def _effective(shown: Sequence[ShownCase]) -> Grid:
    rows = []
    for case in shown:
        record = _records(case)[0]
        ran, bits = record.effective, record.numerics
        if ran is None:
            continue
        kept = f"{bits.product_bits:.0f}, {bits.convolution_bits:.0f}" if bits else "–"
        settings = "; ".join(f"{name} {value}" for name, value in ran.settings.items())
        device = f"{ran.device} ({plain(ran.device_name)})"
        cells = (case.name, device, ran.precision, kept, ran.layout, ran.compile, str(ran.threads), plain(settings))
        rows.append(GridRow(cells, case.facets))
    columns = ("case", "device", "precision", "bits of mantissa", "layout", "compile", "threads", "settings")
    return Grid("Effective settings, read from the framework (first process)", columns, tuple(rows), words=8)


def _sensors(shown: Sequence[ShownCase]) -> Grid:
    rows = []
    for case in shown:
        watched = [record.sensors for record in _records(case) if record.sensors]
        if not watched:
            continue
        stolen = [one.stolen for one in watched if one.stolen is not None]
        pressure = [one.pressure for one in watched if one.pressure is not None]
        clocks = [mhz for one in watched if one.mhz for mhz in one.mhz]
        cells = (
            case.name,
            f"{np.median([one.cpu_over_wall for one in watched]):.2f}",
            str(max(one.involuntary_switches for one in watched)),
            f"{100 * max(stolen):.1f} %" if stolen else "–",
            f"{100 * max(pressure):.1f} %" if pressure else "–",
            f"{min(clocks):.0f}–{max(clocks):.0f}" if clocks else "–",
            str(len(watched)),
        )
        rows.append(GridRow(cells, case.facets))
    columns = (
        "case",
        "CPU ÷ wall, median",
        "switches, maximum",
        "stolen, maximum",
        "pressure, maximum",
        "MHz",
        "processes",
    )
    return Grid("Disturbances of the processes", columns, tuple(rows), words=1)
