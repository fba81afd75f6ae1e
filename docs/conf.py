"""Settings of Sphinx for the documentation site: `tox -e docs` builds it into `build/docs`."""

import sys
from pathlib import Path

import click
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import _reference  # noqa: E402 - the folder is on the path from here on

project = "finetune-bench"
author = "the authors of finetune-bench"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["campaign/objects", "campaign/runs", "campaign/derived"]
html_theme = "furo"
html_title = "finetune-bench"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
# Docstrings are prose with names in single backticks.
default_role = "literal"
# An option keeps its two hyphens in the help of a command.
smartquotes = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"


README = "../../README.md"
"""The README in links of pages in folders; the site shows it as the page `overview`."""


def _link_overview(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = source[0].replace(f"]({README}", "](../overview.md")


def _escape(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Keep an asterisk of a command's help, such as in `keras3-*`, from starting emphasis."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, config: _reference.write(DOCS / "generated"))
    app.connect("source-read", _link_overview)
    app.connect("sphinx-click-process-arguments", _escape)
