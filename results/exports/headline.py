"""The answer in a sentence per backend: the shortest training among the cases of the highest accuracy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.metric import METRICS
from results.wording import figure, plain

_ALIKE = ("dataset", "dataset_sha256", "image_size", "device", "precision", "input", "threads", "machine", "protocol",
          "backend_name")  # fmt: skip
"""One sentence speaks of cases that agree in these; no time of one machine or backend is set against another's."""

Row = Mapping[Hashable, Any]


def headlines(table: pd.DataFrame) -> list[str]:
    """A sentence per data set, machine and backend of what `results.table` returned; none where nothing was measured.

    It names no maximum as if it were an estimate (V46): of the cases that the test images cannot tell from the one of
    the highest accuracy (its `accuracy_mde`), it names the one that trained for the shortest time, with how many
    cases were looked at. Accuracies marked as biased, or of another framework's own defaults, are not looked at.
    """
    usable = table[(table["status"] == "ok") & table["accuracy"].notna() & table["train_s"].notna() & ~table["idiom"]]
    fair = usable[~usable["marks"].map(lambda marks: "best epoch on test" in marks).astype(bool)]
    several = len(set(fair["machine"])) > 1
    groups = fair.groupby(list(_ALIKE), sort=False, dropna=False)
    return [plain(_sentence(rows.to_dict("records"), several)) for _, rows in groups]


def _sentence(rows: Sequence[Row], several_machines: bool) -> str:
    highest = max(rows, key=lambda row: float(row["accuracy"]))
    margin: float = 0.0 if pd.isna(highest["accuracy_mde"]) else highest["accuracy_mde"]
    level = [row for row in rows if row["accuracy"] >= highest["accuracy"] - margin]
    chosen = min(level, key=lambda row: (float(row["train_s"]), -float(row["accuracy"])))
    where = f" on machine {chosen['machine'][:6]}" if several_machines else ""
    what = f"{chosen['scenario']} of {chosen['model']}: {_accuracy(chosen)} after {_seconds(chosen)} of training"
    return f"{chosen['dataset']}, {chosen['backend_name']}{where}: {what}{_beside(rows, level, highest, chosen)}."


def _beside(rows: Sequence[Row], level: Sequence[Row], highest: Row, chosen: Row) -> str:
    """What was looked at beside the chosen case, and what the test set can say about it."""
    if len(rows) == 1:
        return ", the only case"
    images: str = "" if pd.isna(chosen["test_images"]) else f" {chosen['test_images']}"
    judges = f"the{images} {'validation' if 'validation images' in chosen['marks'] else 'test'} images"
    if len(level) == 1:
        return f"; {judges} tell it from each of the other {len(rows) - 1} cases"
    if chosen is highest:
        shortest = f"the shortest training of the {len(level)} that {judges} cannot tell apart"
        return f"; of {len(rows)} cases the highest accuracy, and {shortest}"
    top = METRICS["accuracy"].write(highest["accuracy"])
    close = f"the {len(level)} of {len(rows)} cases that {judges} cannot tell from the highest, {top} %"
    return f"; the shortest training of {close}"


def _accuracy(row: Row) -> str:
    return f"{figure(row, 'accuracy', brief=True)} % ({_count(row['seeds'], 'seed')})"


def _seconds(row: Row) -> str:
    metric, low, high = METRICS["train_s"], row["train_s_low"], row["train_s_high"]
    spread: str = "" if pd.isna(low) else f", {metric.write(low)}–{metric.write(high)}"
    return f"{metric.write(row['train_s'])} s ({_count(row['runs'], 'run')}{spread})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
