"""A table turned into words: the answer, columns, groups of rows, footnotes. Only layout comes after it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from results.answer import answers
from results.answer_text import paragraphs
from results.certificate import NO_CERTIFICATES, Certificates
from results.figures import MARKS
from results.legend import footnotes, legend
from results.metric import METRICS
from results.side_by_side import Line, Ratio, backends, side_by_side
from results.tabulate import GROUP
from results.wording import SETTINGS, extra_columns, figure, plain, setting, without_rules, worded

Row = Mapping[Hashable, Any]
Ids = Callable[[str], str]
MARKED = "~"
"""Stands before a figure of which a footnote says what must be known."""


class Style(NamedTuple):
    """How much is shown: `wide` has every column, `explain` the ids of rules."""

    wide: bool = False
    explain: bool = False


DEFAULT = Style()


class Column(NamedTuple):
    """A column as it is read: title with its unit (it may break at a newline), and whether it holds figures."""

    title: str
    figures: bool = True


class Block(NamedTuple):
    """Rows in titled groups; every row has a cell per column."""

    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


class Problem(NamedTuple):
    """A case without figures: its status, what it was, how many processes, and why."""

    status: str
    case: str
    runs: int
    reason: str


class Sheet(NamedTuple):
    """Everything that is printed, in order, as strings. `places` say which of the table's `ok` rows each row is."""

    answer: tuple[tuple[str, ...], ...]
    caption: str
    block: Block | None
    places: tuple[int, ...]
    footnotes: tuple[str, ...]
    legend: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def compose(table: pd.DataFrame, certificates: Certificates = NO_CERTIFICATES, style: Style = DEFAULT) -> Sheet:
    """The sheet of what `results.table` returned; ratios cite `certificates`."""
    ids: Ids = str if style.explain else without_rules
    good = table[table["status"] == "ok"]
    extra = extra_columns(good)
    varying = [name for name in SETTINGS if len(table[name].unique()) > 1]
    models = _by_model(side_by_side(table, "throughput", certificates.all))
    lines = [line for own in models.values() for line in own]
    names = backends(table)
    rows = [(line.cells[name], line.ratios.get(name)) for line in lines for name in names if name in line.cells]
    order = {_key(row): place for place, row in enumerate(good.to_dict("records"))}
    said = paragraphs(answers(table, certificates.all), list(table["status"]))
    below = legend(table, lines, wide=style.wide, shipped=certificates.shipped) if lines else ()
    return Sheet(
        answer=tuple(tuple(plain(ids(one)) for one in own) for own in said),
        caption=plain(_caption(table, extra)),
        block=None if good.empty else _block(rows, extra, style, ids),
        places=tuple(order[_key(row)] for row, _ in rows),
        footnotes=tuple(map(ids, footnotes([row for row, _ in rows]))),
        legend=tuple(plain(ids(one)) for one in below),
        problems=tuple(
            Problem(row["status"], _where(row, varying), row["runs"], plain(ids(row["reason"])) or "no reason given")
            for row in table[table["status"] != "ok"].to_dict("records")
        ),
        warnings=tuple(plain(ids(said)) for said in (*table.attrs.get("warnings", ()), *certificates.problems)),
    )


def _by_model(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines by model, those first that two frameworks have."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(str(line.shared["model"]), []).append(line)
    several = {model: len({name for line in own for name in line.cells}) > 1 for model, own in found.items()}
    return dict(sorted(found.items(), key=lambda item: not several[item[0]]))


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in GROUP)


def _block(rows: Sequence[tuple[Row, Ratio | str | None]], extra: Sequence[str], style: Style, ids: Ids) -> Block:
    target = next((row["target"] for row, _ in rows if not pd.isna(row["target"])), None)
    columns = [Column("method", False), *(Column(name.replace("_", " "), False) for name in extra)]
    columns += [Column("framework", False), *(Column(title) for title in _titles(target, style).values())]
    compared = any(ratio is not None for _, ratio in rows)
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row, ratio in rows:
        cells = [plain(row["scenario"]), *(setting(row, name) for name in extra), plain(row["backend_name"])]
        cells += [_cell(row, name, style) for name in _titles(target, style)]
        cells += [ids(_ratio(ratio))] if compared else []
        groups.setdefault(plain(row["model"]), []).append(tuple(cells))
    columns += [Column("ratio of images/s", False)] if compared else []
    return Block(tuple(columns), tuple((title, tuple(own)) for title, own in groups.items()))


def _titles(target: float | None, style: Style) -> dict[str, str]:
    reach = {} if target is None else {"time_to_accuracy_s": f"seconds\nto {METRICS['accuracy'].write(target)} %"}
    if not style.wide:
        return {
            "accuracy": "accuracy\n%", "throughput": "images/s", "train_s": "train\ns", "total_s": "total\ns", **reach,
            "peak_memory_mb": "MB",
        }  # fmt: skip
    return {
        "accuracy": "accuracy\n%", "accuracy_mde": "resolution\npoints", "seeds": "seeds", "throughput": "images/s",
        "epoch_s": "epoch\ns", "train_s": "train\ns", "compile_s": "compile\ns", "total_s": "total\ns", **reach,
        "latency_ms": "step\nms", "latency_p95_ms": "step p95\nms", "peak_memory_mb": "MB", "runs": "runs",
    }  # fmt: skip


def _cell(row: Row, name: str, style: Style) -> str:
    if name in ("seeds", "runs"):
        return str(row[name])
    if name == "accuracy_mde":
        return METRICS["accuracy"].write(row[name])
    text = figure(row, name, brief=not (style.wide and name in ("throughput", "train_s", "total_s")))
    if name == "time_to_accuracy_s":
        text = f"{text} ({row['reached']}/{row['runs']})"
    return f"{MARKED}{text}" if any(MARKS[code].metric == name for code in row["marks"]) else text


def _ratio(ratio: Ratio | str | None) -> str:
    if ratio is None or isinstance(ratio, str):
        return ratio or ""
    interval = "" if pd.isna(ratio.low) else f" ({ratio.low:.2f}–{ratio.high:.2f})"
    return f"× {ratio.value:.2f}{interval} P{ratio.level}"


def _caption(table: pd.DataFrame, extra: Iterable[str]) -> str:
    quiet = {"compile": False, "idiom": False, "head": "linear", "machine": None, "protocol": None}
    ok = table["status"] == "ok"
    first: Row = (table[ok] if ok.any() else table).iloc[0].to_dict()
    told = (n for n in SETTINGS if n not in extra and (n not in quiet or quiet[n] not in (None, first[n])))
    return " · ".join(worded(first, name) for name in told)


def _where(row: Row, varying: Iterable[str]) -> str:
    return plain(" · ".join([row["model"], row["backend_name"], row["scenario"], *_differing(row, varying)]))


def _differing(row: Row, varying: Iterable[str]) -> Iterator[str]:
    return (SETTINGS[name].format(row[name]) for name in varying)
