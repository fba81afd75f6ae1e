"""`export`: write results in the format of another program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import click

from benchmarks.choosing.options import OUTPUT, GroupedCommand, option, results_or_run_option, shared
from harness import OURS
from harness.errors import Declined, Refused, unknown, writing
from results.certificates.certificate import read_certificates
from results.tables.columns import METRICS, Row

if TYPE_CHECKING:
    import pandas as pd

    from harness.running.record import Record

Target = Literal[
    "tensorboard", "mlflow", "wandb", "markdown", "csv", "parquet", "pytest-benchmark", "badge", "script", "model-card",
    "dataset",
]  # fmt: skip
TARGETS: tuple[Target, ...] = get_args(Target)
SERVER = "MLFLOW_TRACKING_URI"
EXTRAS = {"model-card": "huggingface", "dataset": "huggingface"}
"""Extras that a target needs, if they do not have its name."""


class Wish(NamedTuple):
    """The options of `export` except the format and the filter; `filtered` is whether there is a filter."""

    results: Path
    out: str | None
    metric: str | None
    label: str | None
    target_accuracy: float | None
    experiment: str
    checkpoint: str | None
    input_scaling: str | None
    filtered: bool


@click.command(cls=GroupedCommand)
@click.argument("case", required=False, help="only this case: BACKEND/MODEL/SCENARIO, or with /seedN")
@option("--to", "target", type=click.Choice(TARGETS), required=True, group=OUTPUT, help="output format")
@option("--where", multiple=True, metavar="NAME=VALUE", group="What to read", help="only records with this value")
@option("--metric", type=click.Choice(tuple(METRICS)), group=OUTPUT, help="metric of a badge")
@option("--label", group=OUTPUT, help="left text of a badge")
@option("--experiment", default="finetune-bench", group=OUTPUT, help="MLflow experiment or W&B project")
@option("--checkpoint", group="What to read", help="file of initial weights of a script, if the run's was a file")
@option("--input-scaling", group="What to read", help="input scaling of a bare file, as for `run`")
@shared("target-accuracy")
@option("--out", group=OUTPUT, help="file, folder or, for mlflow, server address; default: the terminal")
@results_or_run_option
def command(case: str | None, target: Target, where: tuple[str, ...], **wishes: Any) -> None:
    """Write results in the format of another program.

    --results also takes the file of one run. Formats: tensorboard: event files, one run per process. mlflow: one run
    per process on a server. markdown: a summary for a pull request. csv, parquet: one row per process.
    pytest-benchmark: its JSON. badge: an SVG image of one figure, or JSON for shields.io if --out ends in .json.
    script: the training of one case, by default of the answer, as a Python file that needs only its framework; --out
    also writes the initial weights beside it. wandb: a folder of offline runs for `wandb sync`. model-card: a folder
    for the Hugging Face Hub with the saved network of one case, by default of the answer. dataset: a folder for the
    Hugging Face Hub with all records.
    """
    from results import load

    wish = Wish(**wishes, filtered=bool(case or where))
    frame = _chosen(load(wish.results), (*(_conditions(case) if case else ()), *where))
    try:
        code = _export(frame, target, wish)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        package = f"pip install 'finetune-bench[{EXTRAS.get(target, target)}]'"
        raise Declined(f"--to {target} needs {error.name}, which is not installed; run `{package}`") from error
    for warning in frame.attrs["warnings"]:
        click.echo(f"! {warning}", err=True)
    unread = any(frame.attrs["unread"].get(fault) for fault in ("unreadable", "future"))
    sys.exit(code or (3 if unread or frame.attrs["missing"] else 0))


def _conditions(case: str) -> Iterator[str]:
    parts = case.split("/")
    if not 3 <= len(parts) <= 4 or (len(parts) == 4 and not parts[3].startswith("seed")):
        raise Refused(f"{case} is not BACKEND/MODEL/SCENARIO or BACKEND/MODEL/SCENARIO/seedN")
    for name, value in zip(("backend_name", "model", "scenario", "seed"), parts, strict=False):
        yield f"{name}={value.removeprefix('seed') if name == 'seed' else value}"


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
    writers: dict[str, Callable[[pd.DataFrame, Wish], int]] = {
        "tensorboard": _event_files,
        "mlflow": _runs,
        "wandb": _offline_runs,
        "script": _script,
        "model-card": _model_card,
        "dataset": _dataset,
    }
    if target in writers:
        return writers[target](frame, wish)
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
    with writing(f"--out {wish.out}"):
        written, left_out = write_event_files(frame, Path(wish.out))
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


def _offline_runs(frame: pd.DataFrame, wish: Wish) -> int:
    from results.exports.offline_runs import write_offline_runs

    if wish.out is None:
        raise Refused("--to wandb writes a folder; give it with --out, then run `wandb sync FOLDER/offline-run-*`")
    with writing(f"--out {wish.out}"):
        written = write_offline_runs(frame, Path(wish.out), wish.experiment)
    click.echo(f"{written.created} runs written to {wish.out}, {written.present} already exist", err=True)
    return 0


def _dataset(frame: pd.DataFrame, wish: Wish) -> int:
    from results.exports.dataset_folder import write_dataset

    if wish.out is None:
        raise Refused("--to dataset writes a folder; give it with --out")
    if wish.filtered or not (wish.results / "runs").is_dir():
        raise Refused("a dataset has all records of a results folder, so that `verify` can check it; leave out --where")
    with writing(f"--out {wish.out}"):
        done = write_dataset(frame, wish.results, Path(wish.out))
    click.echo(f"{len(frame)} records written to {wish.out}: {done.copied + done.extended} new files", err=True)
    return 0


def _model_card(frame: pd.DataFrame, wish: Wish) -> int:
    from results.exports.model_card import write_model_card

    if wish.out is None:
        raise Refused("--to model-card writes a folder; give it with --out")
    row, records = _chosen_case(frame, wish, "a model card describes")
    saved = [record for record in records if "model" in record.artefacts]
    with writing(f"--out {wish.out}"):
        files = write_model_card(row, (saved or records)[0], Path(wish.out))
    click.echo(f"{len(files)} files written to {wish.out}; the license in README.md is yours to add", err=True)
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
        raise Refused(f"a badge shows one case, not {len(rows)}; choose with --where: {_differing(rows)}")
    shown = badge(rows.iloc[0].to_dict(), wish.metric, wish.label)
    return as_endpoint(shown) if str(wish.out).endswith(".json") else as_svg(shown).encode()


def _differing(rows: pd.DataFrame) -> str:
    names = ("backend", "engine", "model", "scenario", "dataset", "status", "machine", "environment", "version")
    return "; ".join(f"{name} ({_some(rows[name])})" for name in names if len(rows[name].unique()) > 1)


def _script(frame: pd.DataFrame, wish: Wish) -> int:
    from benchmarks.preparing.script_weights import checkpoint_of, scaling_of, write_weights
    from results.exports.scripts.case_script import case_script, weights_name
    from results.exports.scripts.settings import Described

    record = _chosen_case(frame, wish, "a script trains")[1][0]
    name = weights_name(record.case)
    found = checkpoint_of(record.case, wish.checkpoint, wish.input_scaling)
    file = Path(wish.out) if wish.out else Path("script.py")
    text = case_script(Described(record, scaling_of(found), name, file.name))
    if wish.out and name and found:
        write_weights(record.case, found, file.with_name(name))
        click.echo(f"weights written to {file.with_name(name)}", err=True)
    return _deliver(text.encode(), wish.out, text=True)


def _chosen_case(frame: pd.DataFrame, wish: Wish, what: str) -> tuple[Row, list[Record]]:
    """Return the row and the finished records, by seed, of the only case, or of the answer if there are several."""
    from results import table
    from results.storage.rows import record_at
    from results.tables.answer import answers

    rows = table(frame, wish.target_accuracy)
    rows = rows[rows["status"] == "ok"]
    if rows.empty:
        raise Refused(f"{what} one finished case, but no record is one; measure a case with `run`")
    chosen: Row = rows.iloc[0].to_dict()
    if len(rows) > 1:
        found = answers(rows, read_certificates(wish.results).all).found
        if len(found) != 1:
            raise Refused(f"{what} one case, not {len(rows)}; name it, or use --where: {_differing(rows)}")
        chosen = found[0].chosen
    of_case = frame[(frame["version"] == chosen["version"]) & (frame["status"] == "ok")].sort_values("seed")
    return chosen, [record_at(Path(row["file"]), row["offset"]) for row in of_case.to_dict("records")]


def _deliver(content: bytes, out: str | None, *, text: bool = False) -> int:
    """Write to the file or the terminal; `text` is converted to the terminal's encoding, other content is not."""
    if out is None:
        click.echo(content.decode() if text else content, nl=False)
    else:
        from results.exports.comparison_formats import save

        save(Path(out), content)
    return 0
