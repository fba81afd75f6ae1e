"""Recalculate every figure of a table or verdict from the raw rows, with code that shares nothing with `results`.

Rows are read as plain JSON. Methods: order statistics for a median, Student's interval for a mean, Wilson's for a
share, the trimmed mean of Tukey and McLaughlin, Welch's test, Holm's adjustment.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

Raw = dict[str, Any]
SCHEMA = 2
VOID = {"compile in window", "other threads", "not synchronised", "other steps", "fetched outside", "evaluated inside",
        "clock costs", "rounded times"}  # fmt: skip


def verify(folder: Path, table: Sequence[Mapping[str, Any]] = (), *, complete: bool = True) -> Iterator[str]:
    """Yield a sentence for each figure of `table`, logits or verdicts that does not follow from the rows in `folder`.

    `table` is the output of `table --format json`. With `complete`, also for each run that lacks planned cases.
    """
    kinds, files = ("run", "process", "pair", "verdict"), sorted((folder / "runs").rglob("*.jsonl"))
    lines = dict.fromkeys(line for file in files for line in file.read_bytes().split(b"\n")[:-1])
    found = [_row(line) for line in lines if not line.endswith(b"#cut")]
    rows = [row for row in found if row.get("row") in kinds and row["schema"] <= SCHEMA]
    if damaged := found.count({}):
        yield f"{damaged} lines cannot be read, so their figures cannot be checked"
    if newer := sum(row.get("row") in (*kinds, "end") and row["schema"] > SCHEMA for row in found):
        yield f"{newer} rows have a schema newer than {SCHEMA}; verify them with the version that wrote them"
    of_kind = {kind: [row for row in rows if row["row"] == kind] for kind in kinds}
    for run in of_kind["run"]:
        done = {row["record"]["key"] for row in of_kind["process"] if row["run"] == run["run"]}
        if complete and (lost := set(run["planned"]) - done):
            yield f"run {run['run']}: {len(lost)} of its planned cases have no row"
    for row in of_kind["process"]:
        yield from _logits(folder, row["record"])
    for cells in table:
        yield from _cells(cells, [row for row in of_kind["process"] if not row.get("arm") and _belongs(row, cells)])
    last = {row["comparison"]["comparison"]: row for row in of_kind["verdict"]}
    for name, row in last.items():
        pairs = [pair for pair in of_kind["pair"] if pair["comparison"] == name and pair.get("counts", True)]
        runs = [one["record"] | {"arm": one["arm"]} for one in of_kind["process"] if one.get("comparison") == name]
        yield from _verdict(row["comparison"], pairs, runs)
    planned = {run["run"]: sum(map(len, run["shard"]["labels"])) for run in of_kind["run"] if run.get("shard")}
    yield from _adjusted(list(last.values()), planned)


def _row(line: bytes) -> Raw:
    with suppress(ValueError):
        return row if isinstance(row := json.loads(line), dict) else {"row": "foreign"}
    return {}


def _logits(folder: Path, record: Raw) -> Iterator[str]:
    if name := record.get("logits"):
        file = folder / "objects" / name[:2] / f"{name}.npz"
        content = file.read_bytes() if file.exists() else b""
        if hashlib.sha256(content).hexdigest() != name:
            yield f"{record['key']}: the logits {name[:8]} are missing or were changed"
            return
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            logits, labels = archive["logits"].astype(np.float64), archive["labels"]
        shifted = logits - logits.max(1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
        quality = record.get("test") or record["val"]
        yield from _differs(f"{record['key']}: accuracy", quality["accuracy"], (logits.argmax(1) == labels).mean())
        yield from _differs(f"{record['key']}: loss", quality["loss"], losses.mean())


def _belongs(row: Raw, cells: Mapping[str, Any]) -> bool:
    record, versions = row["record"], row["record"].get("versions")
    text = json.dumps([row["environment"], versions], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    environment = hashlib.sha256(text.encode()).hexdigest()[:12] if versions else ""
    device = (record.get("effective") or record["case"]).get("device", "cpu")
    facts = {"machine": "", **record, "environment": environment, "device": device, "protocol": row["protocol"]}
    return all(cells[name] == facts[name] for name in (*facts.keys() & {"version", "status"}, "machine", "environment"))


def _cells(cells: Mapping[str, Any], rows: Sequence[Raw]) -> Iterator[str]:
    where = f"{cells['backend_name']}/{cells['model']}/{cells['scenario']}"
    if cells["runs"] != len(rows):
        yield f"{where}: {cells['runs']} runs, but there are {len(rows)} {cells['status']} rows"
    found = [_figures(row["record"], cells.get("target")) for row in rows if cells["status"] == "ok"]
    for name in found[0] if found else ():
        if name.startswith(("throughput", "latency")) and VOID & set(cells["marks"]):
            continue  # some of these times do not count; only the rules know which
        values = [figures[name] for figures in found]
        if name.endswith(("accuracy", "loss")):
            seeds = defaultdict(list)
            for row, value in zip(rows, values, strict=True):
                seeds[row["record"]["case"].get("seed", 0)].append(value)
            bounds = (-math.inf, math.inf) if name == "loss" else (0.0, 1.0)
            expected = np.clip(_spread([median(own) for own in seeds.values()], seeds=True), *bounds).tolist()
        else:
            expected = _spread([value for value in values if not math.isnan(value)], seeds=False)
        for end, value in zip(("", "_low", "_high"), expected, strict=True):
            yield from _differs(f"{where}: {name}{end}", cells.get(f"{name}{end}"), value)
    if found and (images := cells["test_images"]):
        wilson = stats.binomtest(round(cells["accuracy"] * images), int(images)).proportion_ci(0.95, method="wilson")
        yield from _differs(f"{where}: accuracy_mde", cells["accuracy_mde"], (wilson.high - wilson.low) / 2)


def _figures(record: Raw, target: float | None) -> dict[str, float]:
    images = seconds = compiling = computing = 0.0
    trained: list[float] = []
    for stage in record["stages"]:
        of = {window["kind"]: window for window in stage["windows"]}
        images, seconds = images + of["throughput"]["images"], seconds + of["throughput"]["seconds"]
        beyond = max(0.0, of["first"]["seconds"] - of["throughput"]["seconds"] / of["throughput"]["steps"])
        kept = stage.get("features") or {"seconds": 0.0, "views": 1, "views_of_epoch": [0] * len(stage["epochs"])}
        computed = [kept["seconds"] * views / kept["views"] for views in kept["views_of_epoch"]]
        own = [epoch["seconds"] + computed[n] - beyond * (not n) for n, epoch in enumerate(stage["epochs"])]
        compiling, computing, trained = compiling + beyond, computing + sum(computed), trained + own
        timed = len(stage["step_us"]) - of.get("latency", {"steps": 0})["steps"]  # the last window of a stage
        latency = sorted(us / 1e3 for us in stage["step_us"][timed:])
    epochs, memory = [epoch for stage in record["stages"] for epoch in stage["epochs"]], record["memory"]
    peak, quality = memory.get("device_peak"), record.get("test") or record["val"]
    there = [s for s, e in zip(np.cumsum(trained), epochs, strict=True) if target and e["val_accuracy"] >= target]
    return {
        "throughput": images / seconds if seconds else math.nan, "latency_ms": median(latency) if latency else math.nan,
        "latency_p95_ms": latency[math.ceil(0.95 * len(latency)) - 1] if latency else math.nan,
        "latency_max_ms": latency[-1] if latency else math.nan, "total_s": record["total_s"],
        "first_step_s": sum(w["seconds"] for w in record["stages"][0]["windows"] if w["kind"] == "first"),
        "compile_s": compiling, "features_s": computing, "epoch_s": median(own), "train_s": sum(trained),
        "time_to_accuracy_s": float(there[0]) if there else math.inf if target else math.nan,
        "accuracy": quality["accuracy"], "loss": quality["loss"], "val_accuracy": record["val"]["accuracy"],
        "peak_memory_mb": (memory["process_peak"] if peak is None else peak) / 1e6,
    }  # fmt: skip


def _spread(sample: Sequence[float], *, seeds: bool) -> tuple[float, float, float]:
    """Return the mean with Student's interval over seeds, or the median with order statistics over processes."""
    if len(sample) < 2:
        return (sample[0] if sample else math.nan), math.nan, math.nan
    if seeds:
        half = float(stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample))
        return mean(sample), mean(sample) - half, mean(sample) + half
    rank = max(1, int(stats.binom.ppf(0.025, len(sample), 0.5)))
    return median(sample), sorted(sample)[rank - 1], sorted(sample)[-rank]


def _differs(what: str, stated: Any, found: float) -> Iterator[str]:
    a, b = (float(x) if x not in (None, "") and math.isfinite(float(x)) else math.nan for x in (stated, found))
    if not (math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))):
        yield f"{what} is {a:.12g}, but the raw rows give {b:.12g}"


def _verdict(stated: Raw, pairs: Sequence[Raw], runs: Sequence[Raw]) -> Iterator[str]:
    seeds = max((f["replicates"] for f in stated["findings"] if f["metric"] == "accuracy"), default=0)
    for part, confirms in (("findings", False), ("confirmation", True)):
        own = [pair for pair in pairs if pair.get("confirms", False) == confirms]
        judged = [run for run in runs if (run["case"].get("seed", 0) >= seeds) == confirms]
        for finding in stated[part]:
            where = f"{stated['label']} {stated['comparison'][-6:]}, {part}: {finding['metric']}"
            found = _welch(judged) if finding["metric"] == "accuracy" else _paired(finding, own)
            if (verdict := found.pop("verdict")) != finding["verdict"]:
                yield f"{where} is {finding['verdict']}, but the raw rows give {verdict}"
            for name, value in found.items():
                yield from _differs(f"{where} {name}", finding[name], value)


def _paired(finding: Raw, pairs: Sequence[Raw]) -> Raw:
    if len(pairs) < 10:
        return {"replicates": len(pairs), "verdict": "inconclusive"}
    ratios, edge, found = [_ratio(finding["metric"], pair) for pair in pairs], math.log1p(finding["margin"]), Raw()
    looks = [n for n in (10, 15, 20) if n <= len(pairs)]
    for count in looks if finding["metric"] == "throughput" else [len(pairs)]:
        some, freedom = ratios[:count], count - 2 * int(0.2 * count) - 1
        low, high = map(float, stats.mstats.trimmed_mean_ci(some, limits=(0.2, 0.2), alpha=0.022))
        middle, error = float(stats.trim_mean(some, 0.2)), float(stats.mstats.trimmed_stde(some, limits=(0.2, 0.2)))
        p = 2 * stats.t.sf(abs(middle) / error, freedom) if error else float(middle == 0)
        verdict = _call(middle, low, high, edge, -edge < low and high < edge)
        found = {"replicates": count, "change": middle, "low": low, "high": high, "p": p, "verdict": verdict}
        if verdict != "inconclusive":
            break
    return found


def _call(value: float, low: float, high: float, edge: float, equal: Any) -> str:
    if low > 0 and value >= edge:
        return "regression"
    return "improvement" if high < 0 and value <= -edge else "no change" if equal else "inconclusive"


def _ratio(metric: str, pair: Raw) -> float:
    if metric != "throughput":
        memory = [pair[side]["memory"] for side in "ab"]
        own = metric == "process memory" and all(side.get("anonymous_peak") for side in memory)
        a, b = (side["anonymous_peak" if own else metric.replace(" memory", "_peak")] for side in memory)
        return math.log(b / a)
    a, b = (pair[side]["turns"] for side in "ab")
    if all(turn["seconds"] - sum(turn["step_us"]) / 1e6 <= 0.02 * turn["seconds"] for turn in (*a, *b)):
        steps = [[us * turn["steps"] / turn["images"] for turn in side for us in turn["step_us"]] for side in (a, b)]
        return math.log(median(steps[1]) / median(steps[0]))
    ours, theirs = ([math.log(turn["seconds"] / turn["images"]) for turn in side] for side in (a, b))
    if len(pair["order"]) == 2:
        return median(theirs) - median(ours)
    return median((theirs[n] + theirs[n + 1] - ours[n] - ours[n + 1]) / 2 for n in range(0, len(ours), 2))


def _welch(runs: Sequence[Raw]) -> Raw:
    a, b = ([100 * (run.get("test") or run["val"])["accuracy"] for run in runs if run["arm"] == arm] for arm in "AB")
    fall, found = mean(a) - mean(b), {"replicates": min(len(a), len(b)), "change": mean(a) - mean(b)}
    if np.std(a) + np.std(b) == 0:  # Welch's test is undefined
        return {**found, "verdict": _call(fall, fall, fall, 1.0, abs(fall) < 1)}
    test: Any = stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(0.95)
    edge: Any = stats.ttest_ind(np.subtract(a, math.copysign(1.0, fall)), b, equal_var=False)
    equal = abs(fall) < 1 and edge.pvalue / 2 < 0.05
    return {**found, "low": low, "high": high, "p": test.pvalue, "verdict": _call(fall, low, high, 1.0, equal)}


def _adjusted(verdicts: Sequence[Raw], planned: Mapping[str, int]) -> Iterator[str]:
    groups = defaultdict(list)
    for run, one in ((row["run"], finding) for row in verdicts for finding in row["comparison"]["findings"]):
        if one.get("p_adjusted") is not None:
            groups[run, one["metric"]].append((one["p"], one["p_adjusted"]))
    for (run, metric), values in groups.items():
        p = [*(p for p, _ in values), *[1.0] * (planned.get(run, 0) - len(values))]
        for (_, adjusted), found in zip(values, multipletests(p, method="holm")[1], strict=False):
            yield from _differs(f"run {run}: {metric} p_adjusted", adjusted, found)
