"""A table as strings: the answer, columns, groups of rows, and footnotes. Only layout follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from harness import PROGRAM
from harness.rules import Breach, read_breaches
from results.certificates.certificate import NO_CERTIFICATES, Certificates
from results.certificates.scope import NONE_MADE
from results.tables.answer import answers, paragraphs
from results.tables.columns import METRICS, Row, key_of
from results.tables.figures import MARKS
from results.tables.side_by_side import ComparedRow, Ratio, backends, side_by_side, withheld
from results.tables.tabulate import GROUP
from results.tables.wording import QUIET, WORDS, breach_text, extra_columns, figure, label, plain, setting, worded

MARKED = "~"
"""Prefix of a figure that has a footnote."""


MFU_LEGEND = "MFU: FLOPs of the model's training step × images/s, divided by the FLOPs/s of the machine's ceiling"
NO_CEILING = (
    "MFU is left out without a ceiling of the machine for model, image size, precision, threads and batch size; "
    f"`{PROGRAM} doctor --ceiling` measures it"
)


ENERGY = ("joules_per_image", "joules_to_accuracy")
"""Columns that are left out without a figure, like `mfu`."""


class Style(NamedTuple):
    """How much is shown: `wide` adds columns, `explain` adds the ids of rules."""

    wide: bool = False
    explain: bool = False


DEFAULT = Style()
EXPLAINED = f"(V46) is the id of a rule; `{PROGRAM} rules V46` explains it"


class Heading(NamedTuple):
    """A column: title with unit (a newline allows a line break), and whether it holds figures."""

    title: str
    figures: bool = True


class Block(NamedTuple):
    """Rows in titled groups; every row has a cell per column."""

    columns: tuple[Heading, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


class Problem(NamedTuple):
    """A case without figures: its status, its name, the number of processes, and the reason."""

    status: str
    case: str
    runs: int
    reason: str


class Sheet(NamedTuple):
    """Everything that is printed, in order. `places` are the positions of the rows among the `ok` rows of the table."""

    answer: tuple[tuple[str, ...], ...]
    caption: str
    block: Block | None
    places: tuple[int, ...]
    footnotes: tuple[str, ...]
    legend: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def compose(table: pd.DataFrame, certificates: Certificates = NO_CERTIFICATES, style: Style = DEFAULT) -> Sheet:
    """Make the sheet of a `results.table`; ratios cite `certificates`."""
    good = table[table["status"] == "ok"]
    extra = extra_columns(good)
    varying = [name for name in WORDS if len(table[name].unique()) > 1]
    models = _by_model(side_by_side(table, "throughput", certificates.all))
    lines = [line for group in models.values() for line in group]
    names = backends(table)
    rows = [(line.cells[name], line.ratios.get(name)) for line in lines for name in names if name in line.cells]
    order = {key_of(row, GROUP): place for place, row in enumerate(good.to_dict("records"))}
    answer = paragraphs(answers(table, certificates.all), list(table["status"]))
    warnings = (*table.attrs.get("warnings", ()), *certificates.problems)
    below = legend(table, lines, wide=style.wide, shipped=certificates.shipped) if lines else ()
    return Sheet(
        answer=tuple(tuple(map(plain, sentences)) for sentences in answer),
        caption=plain(_caption(table, extra)),
        block=None if good.empty else _block(rows, extra, style),
        places=tuple(order[key_of(row, GROUP)] for row, _ in rows),
        footnotes=tuple(footnotes([row for row, _ in rows], ids=style.explain)),
        legend=(*map(plain, below), *([EXPLAINED] if style.explain and lines else [])),
        problems=tuple(
            Problem(row["status"], _where(row, varying), row["runs"], _reason(row, style) or "no reason given")
            for row in table[table["status"] != "ok"].to_dict("records")
        ),
        warnings=tuple(plain(breach_text(one, ids=style.explain)) for one in warnings),
    )


def _reason(row: Row, style: Style) -> str:
    return plain("; ".join(breach_text(one, ids=style.explain) for one in read_breaches(row["reason"])))


def _by_model(lines: Iterable[ComparedRow]) -> dict[str, list[ComparedRow]]:
    """Group lines by model, models with two frameworks first."""
    found: dict[str, list[ComparedRow]] = {}
    for line in lines:
        found.setdefault(str(line.shared["model"]), []).append(line)
    several = {model: len({name for line in group for name in line.cells}) > 1 for model, group in found.items()}
    return dict(sorted(found.items(), key=lambda item: not several[item[0]]))


def _block(rows: Sequence[tuple[Row, Ratio | Breach | str | None]], extra: Sequence[str], style: Style) -> Block:
    target = next((row["target"] for row, _ in rows if not pd.isna(row["target"])), None)
    titles = _titles(target, style)
    for name in ("mfu", *ENERGY):
        if all(pd.isna(row[name]) for row, _ in rows):
            titles.pop(name, None)
    columns = [Heading("method", False), *(Heading(label(name), False) for name in extra)]
    columns += [Heading("framework", False), *(Heading(title) for title in titles.values())]
    compared = any(ratio is not None for _, ratio in rows)
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row, ratio in rows:
        cells = [plain(row["scenario"]), *(setting(row, name) for name in extra), plain(row["backend_name"])]
        cells += [_cell(row, name, style) for name in titles]
        cells += [_ratio(ratio, style)] if compared else []
        groups.setdefault(plain(row["model"]), []).append(tuple(cells))
    columns += [Heading("ratio of images/s", False)] if compared else []
    return Block(tuple(columns), tuple((title, tuple(cells)) for title, cells in groups.items()))


def _titles(target: float | None, style: Style) -> dict[str, str]:
    written = METRICS["accuracy"].write(target or 0)
    reach = {} if target is None else {"time_to_accuracy_s": f"seconds\nto {written} %"}
    if not style.wide:
        return {
            "accuracy": "accuracy\n%", "throughput": "images/s", "train_s": "train\ns", "total_s": "total\ns", **reach,
            "peak_memory_mb": "MB",
        }  # fmt: skip
    return {
        "accuracy": "accuracy\n%", "accuracy_mde": "resolution\npoints", "seeds": "seeds", "throughput": "images/s",
        "mfu": "MFU\n%", "epoch_s": "epoch\ns", "train_s": "train\ns", "compile_s": "compile\ns", "total_s": "total\ns",
        **reach, "latency_ms": "step\nms", "latency_p95_ms": "step p95\nms", "peak_memory_mb": "MB",
        "joules_per_image": "J per\nimage", "joules_to_accuracy": f"J to\n{written} %", "runs": "runs",
    }  # fmt: skip


def _cell(row: Row, name: str, style: Style) -> str:
    if name in ("seeds", "runs"):
        return str(row[name])
    if name == "accuracy_mde":
        return METRICS["accuracy"].write(row[name])
    text = figure(row, name, brief=not (style.wide and name in ("throughput", "train_s", "total_s")))
    if name == "time_to_accuracy_s":
        text = f"{text} ({row['reached']}/{row['runs']})"
    marked = "throughput" if name == "mfu" else name
    return f"{MARKED}{text}" if any(MARKS[code].metric == marked for code in row["marks"]) else text


def _ratio(ratio: Ratio | Breach | str | None, style: Style) -> str:
    if not isinstance(ratio, Ratio):
        return withheld(ratio or "", ids=style.explain)
    interval = "" if pd.isna(ratio.low) else f" ({ratio.low:.2f}–{ratio.high:.2f})"
    return f"× {ratio.value:.2f}{interval} P{ratio.level}"


def _caption(table: pd.DataFrame, extra: Iterable[str]) -> str:
    ok = table["status"] == "ok"
    first: Row = (table[ok] if ok.any() else table).iloc[0].to_dict()
    left_out = {*extra, "machine", "protocol"}
    names = (name for name in WORDS if name not in left_out and setting(first, name) != QUIET.get(name))
    return " · ".join(worded(first, name) for name in names)


def _where(row: Row, varying: Iterable[str]) -> str:
    settings = (WORDS[name].format(row[name]) for name in varying)
    return plain(" · ".join([row["model"], row["backend_name"], row["scenario"], *settings]))


NAMED = 4
"""Largest number of rows that a footnote names."""


def footnotes(rows: Sequence[Row], *, ids: bool) -> Iterator[str]:
    """Yield a line per mark: the figure, the note, the marked rows, and with `ids` the rule."""
    for code, mark in MARKS.items():
        marked = [row for row in rows if code in row["marks"]]
        if marked:
            title = METRICS[mark.metric].unit if mark.metric == "throughput" else METRICS[mark.metric].title
            yield f"~ {title}: {mark.sentence(ids=ids)} – {_which(marked, rows)}"


def legend(
    table: pd.DataFrame, lines: Sequence[ComparedRow], *, wide: bool, shipped: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Yield how to read the columns, the ratios with their certificates, the leading methods, and notes on the data."""
    good = table[table["status"] == "ok"]
    ends = " and 95 % interval (below 6 runs smallest to largest)" if wide else ""
    yield f"images/s, times, MB: median{ends} over runs; train s excludes compilation, total s is the whole process"
    yield "accuracy: mean over seeds ± half of the 95 % t interval (no interval for one seed)"
    yield "MB: peak memory in 10^6 bytes; on a CPU of the process with its libraries, on a GPU the allocated memory"
    if wide:
        images = good["test_images"].dropna().unique()
        count = f"{images[0]} test images" if len(images) == 1 else "the test images"
        yield f"resolution: smallest difference of accuracies that {count} can show"
        yield "epoch s, step ms: median of the last stage"
        if good["mfu"].notna().any():
            yield MFU_LEGEND
        if (good["mfu"].isna() & good["throughput"].notna()).any():
            yield NO_CEILING
        yield from _energy(good)
        yield from table.attrs.get("shortfalls", ())
    yield from _ratios(lines, shipped)
    yield from table.attrs.get("leads", ())
    for dataset, rows in good.groupby("dataset", sort=False):
        if notes := dict.fromkeys(note for own in rows["notes"] for note in own):
            yield f"{dataset}: {'; '.join(notes)}"


def _energy(good: pd.DataFrame) -> Iterator[str]:
    """Yield the sources and the uncertainty of the energies, or why there are none; nothing for older records."""
    sources = "; ".join(dict.fromkeys(filter(None, good["energy_source"])))
    errors = good["joules_per_image_error"].dropna()
    if len(errors):
        worst = METRICS["joules_per_image"].write(errors.max())
        yield f"J: energy above the idle machine, by {sources}; standard uncertainty per image at most {worst} J"
    elif sources:
        yield f"energy is left out: {sources}"


def _which(marked: Sequence[Row], rows: Sequence[Row]) -> str:
    if len(marked) == len(rows):
        return "all rows"
    whole, some = Counter(map(_arm, rows)), Counter(map(_arm, marked))
    arms = [arm for arm, count in some.items() if count == whole[arm]]
    left = [row for row in marked if _arm(row) not in arms]
    methods, remaining = (Counter(row["scenario"] for row in among) for among in (rows, left))
    full = [method for method, count in remaining.items() if count == methods[method]]
    rest = [f"{row['scenario']} of {_arm(row)}" for row in left if row["scenario"] not in full]
    names = [*arms, *full, *rest]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return plain(", ".join(names[:NAMED]) + more)


def _arm(row: Row) -> str:
    return f"{row['model']} with {row['backend_name']}"


def _ratios(lines: Sequence[ComparedRow], shipped: frozenset[str]) -> Iterator[str]:
    found = [ratio for line in lines for ratio in line.ratios.values()]
    proved = [ratio for ratio in found if isinstance(ratio, Ratio)]
    if proved:
        interval = " (95 % interval of the ratio)" if any(not pd.isna(ratio.low) for ratio in proved) else ""
        yield f"×: images/s divided by those of the method's first framework{interval}; P3, P4: certificate level"
    if len(proved) < len(found):
        remedy = f"; `{PROGRAM} certify` makes certificates" if f"≠ {NONE_MADE}" in found else ""
        yield f"≠: no ratio; the reason follows the sign{remedy}"
    if any(isinstance(ratio, str) and ratio.endswith("(rounding)") for ratio in found):
        yield "(rounding): rounding errors in float64 grow too fast to prove that ten steps are equal"
    for one in {ratio.certificate.sha256: ratio.certificate for ratio in proved}.values():
        arms = " and ".join(arm.backend for arm in one.arms)
        where = " on another machine and included in the project" if one.sha256 in shipped else ""
        yield f"certificate {one.sha256[:8]}: {one.model} in {arms}, made {one.made[:10]}{where}"
