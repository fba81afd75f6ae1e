"""`report`: write the results as one HTML file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.choosing.options import FILE, FOLDER, OUTPUT, GroupedCommand, option, results_or_run_option
from benchmarks.datasets.cache import cache_entries, cache_folder, made_once
from harness.data.dataset import Dataset, open_dataset
from harness.errors import Declined, Refused
from harness.whole_files import write_whole

NEEDED = ("altair", "jinja2", "markupsafe", "vl_convert")


@click.command(cls=GroupedCommand)
@option("--no-pictures", is_flag=True, group=OUTPUT, help="leave out the images of the datasets")
@option("--figures", type=FOLDER, group=OUTPUT, help="folder for the charts as PNG and SVG")
@option("--chart", "charts", multiple=True, group=OUTPUT, help="with --figures: only the chart of this name")
@option("--out", type=FILE, group=OUTPUT, help="output file; default: report.html in the folder of results")
@results_or_run_option
def command(
    results: Path, out: Path | None, figures: Path | None, charts: tuple[str, ...], *, no_pictures: bool
) -> None:
    """Write an HTML report of the results.

    The page is one file and needs no network. --results also takes the file of one run. Exits with 3 if no case was
    measured.
    """
    if charts and figures is None:
        raise Refused("--chart selects charts for --figures; give a folder with --figures")
    out = out or (results if results.is_dir() else results.parent) / "report.html"
    measured = write(results, out, figures, charts, pictures=not no_pictures)
    click.echo(out)
    sys.exit(0 if measured else 3)


def write(
    results: Path, out: Path, figures: Path | None = None, charts: tuple[str, ...] = (), *, pictures: bool = True
) -> bool:
    """Write the page; return whether a case was measured. Raises `Declined` if its packages are not installed."""
    try:
        from results.report.pictures import nowhere
        from results.report.write import write_report
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise Declined(f"a report needs {error.name}; run `pip install finetune-bench`") from error
    material = write_report(results, out, prepared if pictures else nowhere, figures, charts, _vega())
    return bool(material.shown or material.compared)


def _vega() -> str | None:
    from results.report.page import BUNDLE, bundle

    try:
        script = made_once(cache_folder() / "scripts" / BUNDLE, lambda partial: write_whole(partial, bundle().encode()))
    except Refused:  # a report needs no cache
        return None
    return script.read_text(encoding="utf-8")


def prepared(dataset_sha256: str) -> Dataset | None:
    """Return the dataset of this digest from the cache, with the names of its files, or None if it is not there."""
    for entry in cache_entries():
        if entry.kind == "datasets" and (entry.path / "meta.json").exists():
            dataset = open_dataset(entry.path, files="")
            if dataset.meta.sha256 == dataset_sha256:
                return dataset
    return None
