"""Predictions: test images with predictions, confusion matrices, and images that flip between two cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import altair as alt
import numpy as np

from harness import PROGRAM
from results.report.drawing import INK, finish
from results.report.page_data import Material
from results.report.pictures import FindPixels, Picture, chosen, pictures
from results.report.predictions import Answered, JudgedImages, compared_cases, judged_images, read_predictions
from results.report.section import Chart, Choice, Grid, GridRow, Section
from results.report.thinning import evenly

CLASSES = 40  # largest number of classes of a confusion matrix
CASES = 60  # largest number of cases with predictions in the page
COMPARED = 2000  # largest number of images that are checked for flips
DATASETS = 3


def predictions_section(material: Material, find: FindPixels) -> Section:
    """Show the same images for every case, the matrix of the selected case, and a comparison of two cases."""
    id, title = "predictions", "Predictions"
    sides = compared_cases(material.compared, len(material.shown))
    answered, problems = read_predictions([*evenly(material.shown, CASES), *sides], material.results_dir)
    if not answered:
        return Section(id, title, notes=(*problems, "No predictions are stored."))
    groups = judged_images(answered)
    drawn = groups[:DATASETS]
    galleries = [_gallery(images, find) for images in drawn]
    names = tuple((str(one.case.number), one.case.name) for one in answered)
    return Section(
        id,
        title,
        paragraphs=(
            "Test images as the network receives them, the same for every case, evenly chosen from easy ones (all "
            "cases are correct) to hard ones (none is). Each case shows the process with the lowest seed.",
        ),
        choices=(Choice("seen", "Case", names, names[0][0]),),
        charts=tuple(_matrix(answered)),
        grids=(_grid(answered),),
        notes=(
            *problems,
            *_omitted(material, answered, groups, drawn),
            *(() if any(gallery["cards"] for gallery in galleries) else (NO_IMAGES,)),
        ),
        template="predictions.html.j2",
        extra={"galleries": galleries, "names": names, "pair": _pair(answered), "flips": _flips(drawn, galleries)},
    )


NO_IMAGES = f"The images are not shown: `--no-pictures` was given, or the cache lacks them (run `{PROGRAM} prepare`)."


def _omitted(
    material: Material, answered: Sequence[Answered], groups: Sequence[Any], drawn: Sequence[Any]
) -> Iterator[str]:
    if len(material.shown) > CASES:
        yield f"The page has the predictions of {CASES} of {len(material.shown)} cases, evenly chosen."
    if len(groups) > len(drawn):
        yield f"The page has images of {len(drawn)} of {len(groups)} test sets."
    if any(len(one.classes) > CLASSES for one in answered):
        yield f"Confusion matrices of more than {CLASSES} classes are not drawn; the table has the frequent confusions."
    if any(len(images.ids) > COMPARED for images in drawn):
        yield f"Flips are searched in {COMPARED} of the test images, evenly chosen."


def _pair(answered: Sequence[Answered]) -> tuple[str, str]:
    """Choose the first two cases to compare: two backends of one model and scenario, or two scenarios, or any."""
    cases = [one.case for one in answered]
    for alike in (("model", "scenario", "setting"), ("model", "backend", "setting"), ()):
        for one, other in combinations(cases, 2):
            if all(one.facets[name] == other.facets[name] for name in alike):
                return str(one.number), str(other.number)
    return str(cases[0].number), str(cases[0].number)


def _gallery(images: JudgedImages, find: FindPixels) -> dict[str, Any]:
    grid, pool = chosen(images)
    shown = pictures(images, [*grid, *pool], find)
    cards = [_card(images, place, shown[place]) for place in grid if place in shown]
    return {
        "cases": " ".join(str(one.case.number) for one in images.cases),
        "cards": cards,
        "pictures": {place: picture.uri for place, picture in shown.items()},
        "files": {place: picture.file for place, picture in shown.items()},
    }


def _card(images: JudgedImages, place: int, picture: Picture) -> dict[str, Any]:
    predictions = [
        {
            "case": str(one.case.number),
            "right": bool(one.first.right[place]),
            "label": one.classes[int(one.first.predicted[place])],
            "confidence": f"{100 * one.first.confidence[place]:.0f} %",
        }
        for one in images.cases
    ]
    label = images.classes[int(images.labels[place])]
    return {"id": picture.id, "uri": picture.uri, "file": picture.file, "label": label, "predictions": predictions}


def _matrix(answered: Sequence[Answered]) -> Iterator[Chart]:
    small = [one for one in answered if len(one.classes) <= CLASSES]
    if not small:
        return
    rows = [row for one in small for row in _counts(one)]
    order = list(dict.fromkeys(name for one in small for name in one.classes))
    base = alt.Chart(alt.NamedData("cells")).transform_filter("datum.case === seen")
    x = alt.X("prediction:N", sort=order, title="prediction", axis=alt.Axis(labelAngle=-40, orient="bottom"))
    y = alt.Y("label:N", sort=order, title="label")
    kinds = alt.Scale(domain=["right", "wrong"], range=["#1B7FC4", "#D55E00"])
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("label", "prediction", "images")]
    tooltip.append(alt.Tooltip("share:Q", title="share of the label", format=".0%"))
    chart = alt.layer(
        base.mark_rect().encode(
            x, y, alt.Color("kind:N", scale=kinds, legend=None),
            alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 0.9]), legend=None), tooltip=tooltip,
        ),
        base.mark_text(color=INK, fontSize=12).encode(x, y, alt.Text("images:Q"), tooltip=tooltip),
    )  # fmt: skip
    most = max(len(one.classes) for one in small)
    about = "Confusion matrix of the selected case: the number of images by label and prediction."
    seen = alt.param(name="seen", value=str(answered[0].case.number))
    height = max(90, 28 * most)
    yield finish("predictions-matrix", "Confusion matrix", about, chart, {"cells": rows}, height=height, params=[seen])


def _counts(one: Answered) -> Iterator[dict[str, Any]]:
    pairs: Counter[tuple[int, int]] = Counter()
    for predicted in one.all:
        pairs.update(zip(predicted.labels.tolist(), predicted.predicted.tolist(), strict=True))
    totals: Counter[int] = Counter()
    for (label, _), images in pairs.items():
        totals[label] += images
    for (label, prediction), images in sorted(pairs.items()):
        yield {
            "case": str(one.case.number), "label": one.classes[label], "prediction": one.classes[prediction],
            "images": images, "share": images / totals[label], "kind": "right" if label == prediction else "wrong",
        }  # fmt: skip


def _grid(answered: Sequence[Answered]) -> Grid:
    rows = []
    for one in answered:
        cells = list(_counts(one))
        wrong = sorted((cell for cell in cells if cell["kind"] == "wrong"), key=lambda cell: -cell["images"])
        often = "; ".join(f"{cell['label']} as {cell['prediction']} {cell['images']}" for cell in wrong[:3]) or "none"
        right = sum(cell["images"] for cell in cells if cell["kind"] == "right")
        total = sum(cell["images"] for cell in cells)
        case = one.case
        rows.append(GridRow((case.name, often, f"{right}", f"{total}", f"{len(one.all)}"), case.facets))
    columns = ("case", "most frequent confusions (label as prediction, images)", "correct", "evaluated", "processes")
    return Grid("Confusions of all cases, summed over processes", columns, tuple(rows), words=2)


def _flips(drawn: Sequence[JudgedImages], galleries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the data for the comparison of two cases: their groups, predictions and confidences."""
    groups, cases = [], {}
    for number, (images, gallery) in enumerate(zip(drawn, galleries, strict=True)):
        places = evenly(range(len(images.ids)), COMPARED)
        groups.append(
            {
                "classes": images.classes,
                "ids": images.ids[places].tolist(),
                "labels": images.labels[places].tolist(),
                "pictures": {n: gallery["pictures"][p] for n, p in enumerate(places) if p in gallery["pictures"]},
                "files": {n: gallery["files"][p] for n, p in enumerate(places) if gallery["files"].get(p)},
            }
        )
        for one in images.cases:
            cases[str(one.case.number)] = {
                "group": number,
                "predicted": one.first.predicted[places].tolist(),
                "confidence": np.round(100 * one.first.confidence[places]).astype(int).tolist(),
            }
    return {"groups": groups, "cases": cases}
