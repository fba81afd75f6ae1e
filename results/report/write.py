"""Write the page: its sections and their order."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from altair.utils.schemapi import debug_mode

from harness.errors import writing
from results.report.drawing import look
from results.report.export_figures import export_figures
from results.report.page import page
from results.report.page_data import Material, gather
from results.report.pictures import FindPixels, nowhere
from results.report.section import Section
from results.report.sections.accuracy import accuracy_section, arm
from results.report.sections.ceiling import ceiling_section
from results.report.sections.compared.comparisons import comparisons_section, noise_section
from results.report.sections.compared.explanations import explanations_section
from results.report.sections.compared.scaling import scaling_section
from results.report.sections.figures import figures_section
from results.report.sections.history import history_section
from results.report.sections.learning import learning_section
from results.report.sections.predictions import predictions_section
from results.report.sections.process_life import memory_section, wall_section
from results.report.sections.results import answer_section, table_section
from results.report.sections.steps import steps_section
from results.report.sections.target import target_section
from results.report.sections.trust import trust_section
from results.tables.wording import plain

CHARTS = 40  # largest number of charts of a section


def write_report(
    path: Path,
    out: Path,
    find: FindPixels = nowhere,
    figures: Path | None = None,
    charts: Collection[str] = (),
    vega: str | None = None,
) -> Material:
    """Write the page about a results folder or a run file to `out` and return its data.

    With `figures`, the charts named in `charts`, or all, are written to that folder as PNG and SVG. `find` finds the
    prepared dataset of the images; `vega` is the script of `page.bundle`, if the caller has it. Raises `Refused` if
    `path` does not exist or `out` is not writable.
    """
    material = gather(path)
    with debug_mode(False):  # Altair's validation takes most of the time
        made = sections(material, find)
    content = page(material, made, title(material), vega)
    with writing(f"--out {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(content, encoding="utf-8")
    if figures is not None:
        export_figures(made, figures, charts)
    return material


def sections(material: Material, find: FindPixels = nowhere) -> list[Section]:
    """Return every section, the answer first. Comparisons and history are omitted if there are none."""
    only_sides = bool(material.compared) and bool(material.frame["arm"].notna().all())
    judged = not only_sides or any(one.processes for one in material.compared)
    made = (
        None if only_sides else answer_section(material),
        comparisons_section(material.compared),
        explanations_section(material.explained),
        scaling_section(material.compared, material.certificates),
        *([] if only_sides else _of_cases(material)),
        predictions_section(material, find) if judged else None,
        history_section(material),
        trust_section(material),
        noise_section(material.compared),
    )
    return [limited(section) for section in made if section is not None]


def limited(section: Section) -> Section:
    """Limit the number of charts of a section, with a note about the others."""
    if len(section.charts) <= CHARTS:
        return section
    note = f"{CHARTS} of {len(section.charts)} charts are drawn; the tables have all cases."
    return section._replace(charts=section.charts[:CHARTS], notes=(*section.notes, note))


def _of_cases(material: Material) -> list[Section]:
    shown = material.shown
    backends, scenarios = look(case.backend for case in shown), look(case.scenario for case in shown)
    arms = look((*(case.backend for case in shown), *(arm(case) for case in shown)))
    return [
        table_section(material),
        figures_section(shown, backends),
        accuracy_section(material.frame, shown, scenarios, arms),
        target_section(shown, scenarios, arms),
        learning_section(shown, scenarios),
        steps_section(shown),
        wall_section(shown),
        memory_section(shown),
        *([section] if (section := ceiling_section(material)) else []),
    ]


def title(material: Material) -> str:
    """Return the title of the page, with the names of the datasets."""
    names = list(dict.fromkeys(plain(name) for name in material.frame["dataset"]))
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if some:
        return f"Fine-tuning on {some}"
    return "Fine-tuning: two sides compared" if material.compared else "Fine-tuning: no records"
