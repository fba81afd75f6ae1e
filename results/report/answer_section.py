"""The answer first, in the sentences of `results.answer_text`."""

from __future__ import annotations

from results.answer import answers
from results.answer_text import paragraphs
from results.report.material import Material
from results.report.section import Section


def answer_section(material: Material) -> Section:
    """A paragraph per answer, or one that says why there is none."""
    sheet = material.sheet
    found = sheet.answer if sheet else paragraphs(answers(material.table), list(material.frame["status"]))
    return Section(id="answer", title="The answer", paragraphs=tuple(" ".join(said) for said in found))
