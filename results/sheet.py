"""A table turned into words: columns, groups of rows, footnotes. The last step but one; only layout comes after it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from results.certificate import NO_CERTIFICATES, Certificates
from results.figures import MARKS
from results.metric import METRICS
from results.side_by_side import Line, Ratio, backends, side_by_side
from results.standing import NONE_MADE

Row = Mapping[Hashable, Any]
SUPERSCRIPTS = "¹²³⁴⁵⁶⁷⁸⁹"

SETTINGS = {
    "dataset": "{}", "image_size": "{} px", "device": "{}", "precision": "{}", "layout": "{}", "compile": "compile={}",
    "input": "{}", "threads": "{} threads", "head": "{} head", "idiom": "idiom={}", "machine": "machine {}",
    "protocol": "protocol {}",
}  # fmt: skip
"""Named once above the table while they are the same for all rows, a column each as soon as they differ."""

TELLING = ("epochs", "batch_size", "augment", "checkpoint", "limit", "workers", "warmup_steps", "environment",
           "version")  # fmt: skip
"""Columns only where two rows could not be told apart otherwise, in this order."""


class Column(NamedTuple):
    """A column as it is read: title with its unit (it may break at a newline), and whether it holds figures."""

    title: str
    figures: bool = True


class Block(NamedTuple):
    """Rows under one heading, in titled groups; every row has a cell per column."""

    title: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


class Problem(NamedTuple):
    """A case without figures: its status, what it was, how many processes, and why."""

    status: str
    case: str
    runs: int
    reason: str


class Sheet(NamedTuple):
    """Everything that is printed, in order, as strings."""

    caption: str
    blocks: tuple[Block, ...]
    footnotes: tuple[str, ...]
    legend: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def compose(table: pd.DataFrame, certificates: Certificates = NO_CERTIFICATES) -> Sheet:
    """The sheet of what `results.table` returned; ratios cite `certificates`."""
    good = table[table["status"] == "ok"]
    extra = extra_columns(good)
    used = [code for code in MARKS if any(code in marks for marks in good["marks"])]
    signs = dict(zip(used, SUPERSCRIPTS, strict=False))
    varying = [name for name in SETTINGS if len(table[name].unique()) > 1]
    blocks = [] if good.empty else [_detail(good, extra, signs)]
    lines = side_by_side(table, "throughput", certificates.all) if len(backends(table)) > 1 else []
    if lines:
        blocks.append(_beside(lines, backends(table)))
    return Sheet(
        caption=plain(_caption(table, extra)),
        blocks=tuple(blocks),
        footnotes=tuple(f"{sign} {MARKS[code].sentence}" for code, sign in signs.items()),
        legend=() if good.empty else (*_legend(good), *_cited(lines), *_leads(table), *_data_notes(good)),
        problems=tuple(
            Problem(row["status"], _where(row, varying), row["runs"], plain(row["reason"]) or "no reason given")
            for row in table[table["status"] != "ok"].to_dict("records")
        ),
        warnings=tuple(plain(said) for said in (*table.attrs.get("warnings", ()), *certificates.problems)),
    )


def plain(text: str) -> str:
    """Text from outside on one line, control characters shown and not sent to the terminal.

    >>> plain("bad\\x1b[2J name\\nsecond line")
    'bad\\\\x1b[2J name second line'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _detail(good: pd.DataFrame, extra: Sequence[str], signs: Mapping[str, str]) -> Block:
    target = good["target"].dropna()
    names = ["throughput", "epoch_s", "train_s", *(["time_to_accuracy_s"] if len(target) else []), "accuracy"]
    titles = {
        "throughput": "images/s", "epoch_s": "epoch\ns", "train_s": "train\ns", "accuracy": "accuracy",
        "time_to_accuracy_s": f"seconds\nto {METRICS['accuracy'].write(target.iloc[0])} %" if len(target) else "",
    }  # fmt: skip
    columns = [Column("scenario", False), *(Column(name.replace("_", " "), False) for name in extra)]
    columns += [Column(titles[name]) for name in names]
    columns += [Column("± test"), Column("MB"), Column("runs")]
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row in good.to_dict("records"):
        cells = [plain(row["scenario"]), *(setting(row, name) for name in extra)]
        cells += [figure(row, name, signs) for name in names]
        detectable = METRICS["accuracy"].write(row["accuracy_mde"])
        cells += [detectable, METRICS["peak_memory_mb"].write(row["peak_memory_mb"]), str(row["runs"])]
        groups.setdefault(plain(f"{row['model']} · {row['backend_name']}"), []).append(tuple(cells))
    return Block("", tuple(columns), tuple((title, tuple(rows)) for title, rows in groups.items()))


def figure(row: Row, name: str, signs: Mapping[str, str] | None = None, *, brief: bool = False) -> str:
    """One figure of one row for people: `182 (176–190)`, `75.2 % ± 3.1 (5)`; `brief` leaves out range and count."""
    metric = METRICS[name]
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    text = metric.write(value)
    if name == "accuracy" and not pd.isna(value):
        half = "" if pd.isna(low) else f" ± {metric.write(max(high - value, value - low))}"
        text = f"{text}{half}" if brief else f"{text} %{half} ({row['seeds']})"
    elif name == "time_to_accuracy_s" and not brief:
        text = f"{text} ({row['reached']}/{row['runs']})"
    elif name == "throughput" and not brief and not pd.isna(low):
        text = f"{text} ({metric.write(low)}–{metric.write(high)})"
    here = [sign for code, sign in (signs or {}).items() if code in row["marks"] and MARKS[code].metric == name]
    return text + "".join(here)


def _beside(lines: Sequence[Line], names: Sequence[str]) -> Block:
    columns = [Column("scenario", False)]
    for name in names:
        columns += [Column(f"{name}\nimages/s"), Column(f"{name}\naccuracy %")]
    columns.append(Column("ratio of\nimages/s", False))
    groups: dict[str, list[tuple[str, ...]]] = {}
    for model, own in groupby(lines, lambda line: plain(line.shared["model"])):
        group = list(own)
        lone = {tuple(line.cells) for line in group}
        if len(group) > 1 and len(lone) == 1 and all(len(line.cells) == 1 for line in group):
            # Nothing stands beside these, and their figures are in the block above.
            groups[model] = [(f"all {len(group)}", *["–"] * (2 * len(names)), _ratio(group[0], names))]
            continue
        groups[model] = [(plain(line.shared["scenario"]), *_cells(line, names), _ratio(line, names)) for line in group]
    return Block("Side by side", tuple(columns), tuple((title, tuple(rows)) for title, rows in groups.items()))


def _cells(line: Line, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        row = line.cells.get(name)
        yield from (figure(row, metric, brief=True) if row else "–" for metric in ("throughput", "accuracy"))


def _ratio(line: Line, names: Sequence[str]) -> str:
    several = len(names) > 2 and len(line.ratios) > 1
    texts = []
    for name, ratio in line.ratios.items():
        text = ratio if isinstance(ratio, str) else _proved(ratio)
        texts.append(f"{name}: {text}" if several else text)
    return ", ".join(dict.fromkeys(texts))


def _proved(ratio: Ratio) -> str:
    spread = "" if pd.isna(ratio.low) else f" ({ratio.low:.2f}–{ratio.high:.2f})"
    return f"× {ratio.value:.2f}{spread} P{ratio.level}"


def _cited(lines: Iterable[Line]) -> Iterator[str]:
    if any(ratio == f"≠ {NONE_MADE}" for line in lines for ratio in line.ratios.values()):
        yield f"≠ {NONE_MADE}: nobody has proved that both do the same work; `python -m benchmarks certify` can"
    ratios = [ratio for line in lines for ratio in line.ratios.values() if not isinstance(ratio, str)]
    for one in {ratio.certificate.sha256: ratio.certificate for ratio in ratios}.values():
        arms = " and ".join(arm.backend for arm in one.arms)
        yield f"P3, P4: proved by certificate {one.sha256[:8]}, {one.model} in {arms}, made {one.made[:10]}"


def _leads(table: pd.DataFrame) -> Iterator[str]:
    """Which scenario is ahead until when, where `results.race` has told (mean over seeds of validation accuracy)."""
    yield from map(plain, table.attrs.get("leads", ()))


def _data_notes(good: pd.DataFrame) -> Iterator[str]:
    for dataset, rows in good.groupby("dataset", sort=False):
        if notes := dict.fromkeys(plain(note) for own in rows["notes"] for note in own):
            yield f"{plain(str(dataset))}: {'; '.join(notes)}"


def extra_columns(good: pd.DataFrame) -> list[str]:
    """Columns in which rows differ: of SETTINGS all that do, of TELLING as many as tell the rows apart."""
    extra = [name for name in SETTINGS if len(good[name].unique()) > 1]
    shown = ["model", "backend_name", "scenario", *extra]
    for name in TELLING:
        alike = good[good.duplicated(shown, keep=False)]
        if alike.empty:
            break
        if len(alike.drop_duplicates([*shown, name])) > len(alike.drop_duplicates(shown)):
            extra.append(name)
            shown.append(name)
    return extra


def _caption(table: pd.DataFrame, extra: Iterable[str]) -> str:
    quiet = {"compile": False, "idiom": False, "head": "linear", "machine": None, "protocol": None}
    ok = table["status"] == "ok"
    first = (table[ok] if ok.any() else table).iloc[0].to_dict()
    parts = []
    for name, pattern in SETTINGS.items():
        if name not in extra and (name not in quiet or quiet[name] not in (None, first[name])):
            parts.append("1 thread" if name == "threads" and first[name] == 1 else pattern.format(first[name]))
    return " · ".join(parts)


def setting(row: Row, name: str) -> str:
    """The value of such a column for people."""
    value = row[name]
    if name in ("machine", "environment", "version"):
        return str(value)[:6]
    return "–" if pd.isna(value) else plain(str(value))


def _where(row: Row, varying: Iterable[str]) -> str:
    differing = [SETTINGS[name].format(row[name]) for name in varying]
    return plain(" · ".join([row["model"], row["backend_name"], row["scenario"], *differing]))


def _legend(good: pd.DataFrame) -> tuple[str, ...]:
    images = good["test_images"].dropna().unique()
    judged = f" of {images[0]} images" if len(images) == 1 else ""
    return (
        "images/s, times, memory: median over runs (its 95 % interval; under 6 runs smallest to largest)",
        "accuracy: mean over seeds ± 95 % t interval (number of seeds)",
        "MB: 10⁶ bytes at the peak; of a process its libraries' pages too, on a GPU what was allocated",
        f"± test: points of accuracy that a test set{judged} cannot tell apart",
    )
