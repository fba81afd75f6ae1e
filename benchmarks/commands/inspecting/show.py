"""`show`: print a model's layers and parameters, the values of a tensor, or the classes and files of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import FILE, OUTPUT, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.scenarios import SCENARIOS
from benchmarks.choosing.selection import Selection, expand
from benchmarks.datasets.layout.scan import refuse_file
from benchmarks.datasets.named import PreparedData, described
from benchmarks.inspecting.views import ModelView, TensorView, contact_sheet, view_model, view_tensor
from benchmarks.preparing.plan import Preparation
from harness.errors import Refused, printable, unknown
from harness.process.ask import ask


class DatasetView(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of images by split, and by class and split; skipped files with the reason, and groups of equal images."""

    name: str
    sha256: str
    images: dict[str, int]
    classes: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    copies: tuple[tuple[str, ...], ...]


@click.command(cls=GroupedCommand)
@click.argument("what", help="name of a model or dataset, or a folder of images")
@selection_options()
@option("--tensor", group=OUTPUT, help="print the values of this tensor; with --checkpoint, those of the checkpoint")
@option("--out", type=FILE, group=OUTPUT, help="output file for a picture of a dataset's images")
@json_option(lambda: (ModelView, TensorView, DatasetView))
@shared("plugin")
def command(what: str, tensor: str | None, out: Path | None, json_: bool, **options: Any) -> None:
    """Show a model or a dataset.

    For a model it prints the layers, parameters, multiply-accumulates and the trainable share in each scenario. For a
    dataset it prints the classes, images and skipped files; --out writes a contact sheet of the network's input images.
    """
    catalogue = read_catalogue(options["plugin"])
    chosen = given(options)
    if catalogue.offering(what):
        if out is not None:
            raise Refused(f"--out writes the images of a dataset, but {what} is a model; leave it out")
        _show_model(what, tensor, chosen, catalogue, json_=json_)
    else:
        datasets = (*described(), *catalogue.datasets)
        if what not in datasets and not Path(what).expanduser().is_dir():
            models = (model for facts in catalogue.backends.values() for model in facts.models)
            refuse_file(what)
            raise Refused(f"no folder and {unknown('model or dataset', what, (*dict.fromkeys(models), *datasets))}")
        _show_data(what, out, chosen, catalogue, json_=json_)


def _show_model(name: str, tensor: str | None, chosen: dict[str, Any], catalogue: Catalogue, *, json_: bool) -> None:
    default = {"backend": tuple(catalogue.offering(name)[:1]), "scenario": (*SCENARIOS, *catalogue.scenarios)}
    every = expand(Selection(**{**default, **chosen, "model": (name,)}), catalogue)
    first = every[0]
    found = Preparation(catalogue, lambda event: None).checkpoint(first) if "checkpoint" in chosen else None
    wanted = {"checkpoint": str(found.path) if found else None, "plugins": catalogue.plugins}
    engine = first.case.engine
    if tensor is not None:
        view = ask(view_tensor, {"case": first.case, "tensor": tensor, **wanted}, TensorView, engine=engine)
        if json_:
            print_json(view)
            return
        click.echo(f"{view.name} {list(view.shape)} {view.dtype}, {view.role} in the {view.part}")
        click.echo(f"mean {view.mean:.6g}, standard deviation {view.std:.6g}, from {view.low:.6g} to {view.high:.6g}")
        click.echo(view.values)
        return
    model = ask(view_model, {"cases": [selected.case for selected in every], **wanted}, ModelView, engine=engine)
    if json_:
        print_json(model)
        return
    console = Console()
    table = Table("layer", "kind", "output", "parameters", "MMAC", box=None, title=f"{name} at {model.image_size} px")
    for layer in model.layers:
        shape = "×".join(map(str, layer.output))
        table.add_row(layer.name, layer.kind, shape, f"{layer.parameters:,}", f"{layer.macs / 1e6:,.1f}")
    console.print(table)
    console.print(
        f"backbone {model.backbone:,} parameters, head {model.head:,}, buffers {model.buffers:,}; "
        f"{model.macs / 1e9:.3f} GMAC per image"
    )
    if model.load:
        console.print(f"checkpoint: {model.load}", markup=False)
    trainable = Table("scenario", "stage", "trainable", "of", "blocks fixed", box=None)
    for row in model.trainable:
        trainable.add_row(row.scenario, str(row.stage), f"{row.parameters:,}", f"{row.share:.0%}", row.blocks)
    console.print(trainable)


def _show_data(what: str, out: Path | None, chosen: dict[str, Any], catalogue: Catalogue, *, json_: bool) -> None:
    selected = expand(Selection(**{**chosen, "data": (what,)}), catalogue)[0]
    preparation = Preparation(catalogue, lambda event: None)
    try:
        data = preparation.dataset(what, selected.case.image_size, selected.division)
    except Refused:
        if not json_ and Path(what).expanduser().is_dir() and what not in (*described(), *catalogue.datasets):
            _list_files(*preparation.inventory(what, selected.division.splits), "in two splits")
        raise
    if out is not None:
        ask(contact_sheet, {"dataset": data.folder, "path": str(out.resolve()), "case": selected.case}, NoneType)
    meta = data.meta
    if json_:
        print_json(_view(data))
        return
    counts = ", ".join(f"{count} {split}" for split, count in meta.counts.items())
    click.echo(f"{meta.name}: {counts}; {len(meta.classes)} classes: {', '.join(map(repr, meta.classes))}")
    for name, *images in zip(meta.classes, *data.images.values(), strict=True):
        each = zip(images, data.images, strict=True)
        click.echo(f"class {name!r}: {', '.join(f'{count} {split}' for count, split in each)}")
    click.echo(f"SHA-256 {meta.sha256}")
    for note in meta.notes:
        click.echo(printable(f"note: {note}"))
    _list_files(meta.skipped, meta.copies, "the same image")
    click.echo(f"contact sheet: {out or 'not written; --out sheet.png writes the input images of the network'}")


def _view(data: PreparedData) -> DatasetView:
    meta = data.meta
    each = zip(meta.classes, *data.images.values(), strict=True)
    return DatasetView(
        name=meta.name,
        sha256=meta.sha256,
        images=dict(meta.counts),
        classes={name: dict(zip(data.images, images, strict=True)) for name, *images in each},
        notes=tuple(meta.notes),
        skipped=tuple((file, reason) for file, reason in meta.skipped),
        copies=tuple(map(tuple, meta.copies)),
    )


def _list_files(skipped: Iterable[tuple[str, str]], copies: Iterable[tuple[str, ...]], how: str) -> None:
    for file, reason in skipped:
        click.echo(f"skipped {file!r}: {printable(reason)}")
    for names in copies:
        click.echo(f"{how}: {', '.join(map(repr, names))}")
