"""A saved network as a folder for the Hugging Face Hub: its files, and a model card with metadata and results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import PROGRAM
from harness.errors import Declined, Refused
from harness.running.record import Record
from harness.running.saved_model import CARD, NEUTRAL, Card, read_card
from results.exports.training import settings
from results.tables.columns import METRICS, Row
from results.tables.render import escape, markdown_table
from results.tables.sheet import Heading
from results.tables.wording import figure

README = "README.md"
IN_TABLE = ("accuracy", "loss", "throughput", "train_s", "peak_memory_mb")
"""Metrics of the table that shows all runs of the case."""


def saved_network(record: Record) -> Path:
    """Return the folder of the network that the process of a record saved. Raises `Refused` if there is none."""
    place = record.artefacts.get("model")
    if place is None:
        raise Refused(f"{record.case.label} has no saved network; run it with --save-model FOLDER")
    if not Path(place).is_dir():
        raise Refused(f"the saved network of {record.case.label} is not in {place} any more; move it back there")
    return Path(place)


def write_model_card(row: Row, record: Record, out: Path) -> list[Path]:
    """Copy the saved network of `record` to `out` and write its README.md; return the files.

    `row` is the row of `results.table` with all runs of the case. The card states no license. Raises `Refused` if
    there is no saved network, OSError, and ImportError without huggingface_hub.
    """
    from huggingface_hub import ModelCard

    home = saved_network(record)
    card = read_card(home)
    text = ModelCard(f"---\n{_metadata(record).to_yaml()}\n---\n\n" + "\n".join(_body(row, record, card)) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name in (NEUTRAL, CARD, card.native):
        if not (home / name).is_file():
            raise Declined(f"{home / name} is missing; save the network again with `run --save-model`")
        if (home / name).resolve() != (out / name).resolve():
            shutil.copyfile(home / name, out / name)
        files.append(out / name)
    text.save(out / README)
    return [*files, out / README]


def _metadata(record: Record) -> Any:
    """Make the metadata of the card, with the accuracy and the loss of this network as its model index."""
    from huggingface_hub import EvalResult, ModelCardData

    case, quality = record.case, record.test or record.val
    if quality is None:
        raise Refused(f"{case.label} has no accuracy; a model card is of a finished case")
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=case.dataset,
            dataset_name=case.dataset,
            dataset_split=_split(record),
            dataset_args={"sha256": case.dataset_sha256, "images": quality.images},
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in (
            ("accuracy", "accuracy", quality.accuracy),
            ("cross_entropy", "cross-entropy in nats", quality.loss),
        )
    ]
    return ModelCardData(
        model_name=f"{case.model}, {case.scenario.name} on {case.dataset}",
        pipeline_tag="image-classification",
        tags=["finetune-bench", case.model, case.scenario.name, case.backend_name],
        metrics=["accuracy"],
        eval_results=results,
    )


def _split(record: Record) -> str:
    return "validation" if record.test is None or record.test_is_val else "test"


def _body(row: Row, record: Record, card: Card) -> Iterator[str]:
    case = record.case
    start = f"the checkpoint `{Path(case.checkpoint).name}`" if case.checkpoint else "a checkpoint"
    start = "random weights" if case.scenario.start == "random" else start
    digest = f" (SHA-256 `{case.checkpoint_sha256}`)" if case.checkpoint_sha256 else ""
    yield f"# {escape(case.model)}, {escape(case.scenario.name)} on {escape(case.dataset)}"
    yield from ("", f"An image classifier with {len(card.classes)} classes, trained from {start}{digest} with")
    yield f"finetune-bench in {escape(case.backend_name)}. The licenses of the initial weights and of the images decide"
    yield "about the license of this network; add it to the metadata above."
    yield from ("", "## Results", "", *_results(row, record))
    yield from ("", "## Input and output", "")
    side, size, scaling = card.side, case.image_size, card.normalisation
    yield f"The center square of an RGB image is resized to {side} × {side} pixels. The input is its center of {size} ×"
    yield f"{size} pixels as (pixel / 255 − mean) / std, with mean {_numbers(scaling.mean)} and std"
    yield f"{_numbers(scaling.std)}. The outputs are logits of these classes, in order:"
    yield from ("", *(f"{number}. {escape(name)}" for number, name in enumerate(card.classes)))
    yield from ("", "## Files", "", f"- `{NEUTRAL}`: all tensors under the names of torchvision")
    yield f"- `{card.native}`: the same network in the format of {escape(case.backend_name)}"
    yield f"- `{CARD}`: settings, classes and normalisation for `{PROGRAM} predict FOLDER IMAGES`"
    yield from ("", "## Settings", "")
    shown = ((name, value) for name, value in settings(case).items() if name not in ("checkpoint", "dataset"))
    yield from markdown_table([Heading("setting", False), Heading("value", False)], ((n, str(v)) for n, v in shown))
    yield from ("", "## Software", "")
    yield escape(", ".join(f"{name} {version}" for name, version in record.versions.items()))


def _results(row: Row, record: Record) -> Iterator[str]:
    quality = record.test or record.val
    own = {"accuracy": quality.accuracy, "loss": quality.loss} if quality else {}
    yield f"Measured by the harness on {quality.images if quality else 0} images of the {_split(record)} split."
    yield f"The last column pools all runs of the case ({row['runs']} runs, {row['seeds']} seeds), with intervals."
    yield ""
    headings = [Heading("metric", False), Heading("unit", False), Heading("this network"), Heading("all runs")]
    cells = [
        (METRICS[name].title, METRICS[name].unit, METRICS[name].write(own.get(name, float("nan"))), figure(row, name))
        for name in IN_TABLE
    ]
    yield from markdown_table(headings, cells)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
