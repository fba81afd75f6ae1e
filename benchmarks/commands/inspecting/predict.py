"""`predict`: classify images with a saved network."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand, option, shared
from benchmarks.inspecting.predict import Prediction, predict
from benchmarks.running.terminal import aligned
from harness.process.ask import ask
from harness.running.saved_model import read_card


@click.command(cls=GroupedCommand)
@click.argument("model_dir", type=click.Path(path_type=Path), help="folder that `run --save-model` wrote")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), help="image files or folders")
@option("--native", is_flag=True, help="load the framework's own file instead of the neutral one")
@option("--format", "format_", type=click.Choice(["text", "json"]), default="text", help="output format")
@json_option(lambda: list[Prediction], "the same as --format json")
@shared("plugin")
def command(
    model_dir: Path, images: tuple[Path, ...], native: bool, format_: str, json_: bool, plugin: tuple[str, ...]
) -> None:
    """Classify images with a saved network."""
    card = read_card(model_dir)
    arguments = {
        "model_dir": str(model_dir.resolve()),
        "images": [str(image) for image in images],
        "native": native,
        "plugins": [str(Path(path).resolve()) for path in plugin],
    }
    cores = card.case.threads  # as in the run: another number of threads may round differently
    predictions = ask(predict, arguments, list[Prediction], cores=cores, engine=card.case.engine)
    if json_ or format_ == "json":
        print_json(predictions)
        return
    click.echo(aligned(map(_row, predictions)))


def _row(found: Prediction) -> tuple[str, ...]:
    name = repr(Path(found.image).name)
    if found.label is None:
        return name, f"not readable: {found.problem}"
    return name, repr(found.label), f"{found.confidence:.1%}"
