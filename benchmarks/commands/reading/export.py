"""`export`: write results in the format of another program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import click

from benchmarks.choosing.options import OUTPUT, GroupedCommand, option, results_or_run_option, shared
from harness.errors import Declined, Refused, unknown
from results.certificates.certificate import read_certificates
from results.tables.columns import METRICS

if TYPE_CHECKING:
    import pandas as pd

Target = Literal["tensorboard", "mlflow", "markdown", "csv", "parquet", "pytest-benchmark", "badge"]
TARGETS: tuple[Target, ...] = get_args(Target)
SERVER = "MLFLOW_TRACKING_URI"


class Wish(NamedTuple):
    """The options of `export` except the format and the filter."""

    results: Path
    out: str | None
    metric: str | None
    label: str | None
    target_accuracy: float | None
    experiment: str


@click.command(cls=GroupedCommand)
@option("--to", "target", type=click.Choice(TARGETS), required=True, group=OUTPUT, help="output format")
@option("--where", multiple=True, metavar="NAME=VALUE", group="What to read", help="only records with this value")
@option("--metric", type=click.Choice(tuple(METRICS)), group=OUTPUT, help="metric of a badge")
@option("--label", group=OUTPUT, help="left text of a badge")
@option("--experiment", default="finetune-bench", group=OUTPUT, help="MLflow experiment")
@shared("target-accuracy")
@option("--out", group=OUTPUT, help="file, folder (tensorboard) or server address (mlflow); default: the terminal")
@results_or_run_option
def command(target: Target, where: tuple[str, ...], **wishes: Any) -> None:
    """Write results in the format of another program.

    --results also takes the file of one run. Formats: tensorboard: event files, one run per process. mlflow: one run
    per process on a server. markdown: a summary for a pull request. csv, parquet: one row per process.
    pytest-benchmark: its JSON. badge: an SVG image of one figure, or JSON for shields.io if --out ends in .json.
    """
    from results import load

    wish = Wish(**wishes)
    frame = _chosen(load(wish.results), where)
    try:
        code = _export(frame, target, wish)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("benchmarks", "results", "backends", "harness"):
            raise
        package = f"pip install 'finetune-bench[{target}]'"
        raise Declined(f"--to {target} needs {error.name}, which is not installed; run `{package}`") from error
    for warning in frame.attrs["warnings"]:
        click.echo(f"! {warning}", err=True)
    unread = any(frame.attrs["unread"].get(fault) for fault in ("unreadable", "future"))
    sys.exit(code or (3 if unread or frame.attrs["missing"] else 0))


def _chosen(frame: pd.DataFrame, where: tuple[str, ...]) -> pd.DataFrame:
    flat = [name for name in frame.columns if frame[name].dtype != object]
    for condition in where:
        name, sign, value = condition.partition("=")
        if not sign:
            raise Refused(f"--where {condition}: not of the form NAME=VALUE; write for example backend=pytorch")
        if name not in flat:
            raise Refused(f"--where: {unknown('column', name, flat)}")
        known = frame[name].astype("string")
        if not (known == value).any():
            raise Refused(f"--where {condition}: no record matches; {name} is {_some(known)}")
        frame = frame[(known == value).fillna(False)]
    return frame


def _some(values: pd.Series[str]) -> str:
    names = [str(value) for value in values.dropna().unique()]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "empty"


def _export(frame: pd.DataFrame, target: Target, wish: Wish) -> int:
    if target == "tensorboard":
        return _event_files(frame, wish)
    if target == "mlflow":
        return _runs(frame, wish)
    if target in ("markdown", "badge"):
        return _from_table(frame, target, wish)
    if target == "pytest-benchmark":
        from results.exports.benchmark_json import as_benchmark_json

        return _deliver(as_benchmark_json(frame), wish.out)
    from results.exports.processes import as_csv
    from results.tables.parquet_cache import as_parquet

    return _deliver(as_csv(frame) if target == "csv" else as_parquet(frame), wish.out)


def _event_files(frame: pd.DataFrame, wish: Wish) -> int:
    from results.exports.event_files import write_event_files

    if wish.out is None:
        raise Refused("--to tensorboard writes a folder; give it with --out, then run `tensorboard --logdir FOLDER`")
    try:
        written, left_out = write_event_files(frame, Path(wish.out))
    except OSError as error:
        raise Refused(f"--out {wish.out} cannot be written ({error.strerror})") from error
    rest = f"; {left_out} runs without training left out" if left_out else ""
    click.echo(f"{len(written)} runs written to {wish.out}{rest}", err=True)
    return 0 if written else 3


def _runs(frame: pd.DataFrame, wish: Wish) -> int:
    from results.exports.tracking import send_runs

    server = wish.out or os.environ.get(SERVER)
    if not server:
        raise Refused(f"--to mlflow needs a server: give --out http://HOST:PORT or {SERVER}; start `mlflow server`")
    sent = send_runs(frame, server, wish.experiment)
    click.echo(f"{sent.created} runs created in {wish.experiment}, {sent.present} already exist", err=True)
    return 0


def _from_table(frame: pd.DataFrame, target: Target, wish: Wish) -> int:
    from results import table
    from results.rules.table_rules import unfollowed

    rows = table(frame, wish.target_accuracy)
    lost = unfollowed(rows, frame)
    frame.attrs["warnings"] = rows.attrs["warnings"] = [*rows.attrs["warnings"], *lost]
    if target == "markdown":
        from results.exports.pull_request import as_summary

        content = as_summary(rows, read_certificates(wish.results)).encode()
    else:
        content = _badge(rows, wish)
    return _deliver(content, wish.out, text=target == "markdown") or (1 if lost else 0)


def _badge(rows: pd.DataFrame, wish: Wish) -> bytes:
    from results.exports.badge import as_endpoint, as_svg, badge

    if wish.metric is None:
        raise Refused(f"a badge shows one metric; give it with --metric, one of {', '.join(METRICS)}")
    if rows.empty:
        raise Refused("a badge shows one case, but the records are sides of comparisons; measure a case with `run`")
    if len(rows) > 1:
        names = ("backend", "engine", "model", "scenario", "dataset", "status", "machine", "environment", "version")
        differing = [f"{name} ({_some(rows[name])})" for name in names if len(rows[name].unique()) > 1]
        raise Refused(f"a badge shows one case, not {len(rows)}; choose with --where: {'; '.join(differing)}")
    shown = badge(rows.iloc[0].to_dict(), wish.metric, wish.label)
    return as_endpoint(shown) if str(wish.out).endswith(".json") else as_svg(shown).encode()


def _deliver(content: bytes, out: str | None, *, text: bool = False) -> int:
    """Write to the file or the terminal; `text` is converted to the terminal's encoding, other content is not."""
    if out is None:
        click.echo(content.decode() if text else content, nl=False)
    else:
        from results.exports.comparison_formats import save

        save(Path(out), content)
    return 0
