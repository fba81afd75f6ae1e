"""`report`: what was measured as one HTML file, to be looked at and to be believed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.datasets.cache import cache_entries
from harness.data.dataset import Dataset, open_dataset
from harness.errors import Declined, Refused
from results.storage.folder import RESULTS

NEEDED = ("altair", "jinja2", "markupsafe", "vl_convert")


@click.command
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=RESULTS,
    show_default=True,
    help="folder that holds what was measured, or the file of one run",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="file to write; default: RESULTS/report.html"
)
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), help="folder for every chart as PNG and SVG"
)
@click.option("--no-pictures", is_flag=True, help="leave out the images themselves, as for a page that is passed on")
@click.option("--chart", "charts", multiple=True, help="with --figures: only the chart of this name")
def command(
    results: Path, out: Path | None, figures: Path | None, charts: tuple[str, ...], *, no_pictures: bool
) -> None:
    """Write a page about the records of a results folder that opens from disk, without a network.

    Ends with 3 if nothing was measured there; the page says so, too.
    """
    if charts and figures is None:
        raise Refused("--chart says which figures to write; say where with --figures")
    out = out or (results if results.is_dir() else results.parent) / "report.html"
    measured = write(results, out, figures, charts, pictures=not no_pictures)
    click.echo(out)
    sys.exit(0 if measured else 3)


def write(
    results: Path, out: Path, figures: Path | None = None, charts: tuple[str, ...] = (), *, pictures: bool = True
) -> bool:
    """Write the page; returns whether anything was measured. Raises `Declined` without the extra `report`."""
    try:
        from results.report.pictures import nowhere
        from results.report.write import write_report
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise Declined(f"it needs {error.name}; get it with `pip install 'finetune-bench[report]'`") from error
    material = write_report(results, out, prepared if pictures else nowhere, figures, charts)
    return bool(material.shown or material.compared)


def prepared(dataset_sha256: str) -> Dataset | None:
    """The data set of this digest in the cache, with the names of its source files; None if it is not kept there."""
    for entry in cache_entries():
        if entry.kind == "datasets" and (entry.path / "meta.json").exists():
            dataset = open_dataset(entry.path, files="")
            if dataset.meta.sha256 == dataset_sha256:
                return dataset
    return None
