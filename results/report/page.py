"""One self-contained HTML file from sections; its content security policy names scripts and styles by hash."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any

import msgspec
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from results.report.drawing import CONFIG
from results.report.page_data import Material
from results.report.section import Section

EXPORTED = "window.vegaEmbed = vegaEmbed;"
BUNDLE = f"vega-{version('vl-convert-python')}-{hashlib.sha256(EXPORTED.encode()).hexdigest()[:8]}.js"
"""A file name for the script of `bundle`, which is always the same with one version of vl-convert."""
FACETS = {"model": "Model", "backend": "Backend", "scenario": "Scenario", "setting": "Setting", "run": "Run"}


def page(material: Material, sections: Sequence[Section], title: str, vega: str | None = None) -> str:
    """Render the page. The templates escape text from outside; `in_script` escapes JSON. `vega` is a `bundle`."""
    scripts = [vega or bundle(), _file("flips.js"), _file("page.js")]
    style = _file("page.css")
    charts = [chart for section in sections for chart in section.charts]
    template = _templates().get_template("page.html.j2")
    return template.render(
        title=title,
        policy=policy(scripts, style),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        sections=sections,
        warnings=material.warnings,
        facets=facets(material),
        charts=in_script({chart.id: chart.spec for chart in charts}),
        config=in_script(CONFIG),
    )


def facets(material: Material) -> list[tuple[str, str, list[str]]]:
    """Return name, label and values of each filter of the page that has more than one value."""
    values = {name: list(dict.fromkeys(case.facets.get(name, "") for case in material.shown)) for name in FACETS}
    values["run"] = [str(run) for run in dict.fromkeys(p.row["run"] for case in material.shown for p in case.processes)]
    return [(name, words, values[name]) for name, words in FACETS.items() if len(values[name]) > 1]


def policy(scripts: Sequence[str], style: str) -> str:
    """Return the content security policy: no network, and only the scripts and styles of the page."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; connect-src 'none'; "
        "base-uri 'none'; form-action 'none'"
    )


def in_script(value: Any) -> Markup:
    """Encode a value as JSON for a script element, without characters that start or end a tag.

    >>> str(in_script("</script>"))
    '"\\\\u003c/script\\\\u003e"'
    """
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


@functools.cache
def bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed with the expression interpreter of Vega, from vl-convert. Takes seconds."""
    script = str(vl_convert.javascript_bundle(EXPORTED))
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _templates() -> Environment:
    loader = PackageLoader(__package__, "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["in_script"] = in_script
    return made
