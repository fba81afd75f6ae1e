"""The second opinion agrees with honest results and names what was touched."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import results
from benchmarks.inspecting.verify import verify
from harness.running.record import Quality
from results.storage.comparison import Comparison, SideFacts
from results.storage.rows import Pair
from results.storage.run_files import open_run
from results.tables.render import render
from results.verdicts.accuracy_verdict import accuracy_finding
from results.verdicts.conclusion import adjusted, conclude
from results.verdicts.pair_findings import memory_findings, throughput_finding
from tests.benchmarks.commanding import ROOT, invoke
from tests.results.pairs import pair
from tests.results.records import MACHINE, build, joined

CHECKER = ROOT / "benchmarks" / "inspecting" / "verify.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    draw = np.random.default_rng(1)
    with open_run(folder, command=["run"], planned=(), machine=MACHINE, environment={"system": "Linux"}) as run:
        for seed in range(7):
            logits = draw.standard_normal((500, 2)).astype(np.float32)
            labels = draw.integers(0, 2, 500)
            record = build(seed=seed, step_us=50_000 + 900 * seed, curve=(0.5, 0.6 + seed / 50))
            run.append(_judged(record, run.put_arrays({"logits": logits, "labels": labels}), logits, labels))
        run.append(build(scenario="scratch", status="failed", reason="diverged"))
        pairs = [pair(1.05 + 0.01 * draw.standard_normal(), number=n, memory=1.01) for n in range(20)]
        again = [pair(1.05 + 0.01 * draw.standard_normal(), number=n, confirms=True) for n in range(10)]
        for one in (*pairs, *again):
            run.append_pair(Pair(**{name: getattr(one, name) for name in Pair.__struct_fields__}))
        sides = [[build(seed=s, accuracy=0.9 + fall + 0.004 * s) for s in range(3)] for fall in (0.0, -0.03)]
        for side, records in zip(("A", "B"), sides, strict=True):
            for record in records:
                run.append_of_side(record, "c1", side)
        findings = (throughput_finding(pairs[:15], 0.03), *memory_findings(pairs), accuracy_finding(*sides))
        facts = SideFacts(name="A", text="here"), SideFacts(name="B", text="here")
        whole = Comparison(name="c1", label="a case", sides=facts, findings=findings, verdict="inconclusive",
                           confirmation=(throughput_finding(again, 0.03),))  # fmt: skip
        other = replace(whole, name="c2", findings=(), confirmation=())
        for one in adjusted([conclude(whole), other]):
            run.append_verdict(one)
        run.finish()
    return folder


@pytest.fixture
def stored(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "stored"))


@pytest.fixture(scope="module")
def honest(made: Path) -> str:
    """The table of what is stored, as JSON."""
    return _table(made)


def _judged(record: Any, name: str, logits: np.ndarray, labels: np.ndarray) -> Any:
    wide = logits.astype(np.float64)
    loss = np.log(np.exp(wide).sum(1)) - wide[np.arange(len(labels)), labels]
    right = float((wide.argmax(1) == labels).mean())
    return replace(record, logits=name, test=Quality(accuracy=right, loss=float(loss.mean()), images=500))


def _table(folder: Path, target: float | None = 0.65) -> str:
    return render(results.table(results.load(folder), target), "json")


def test_it_shares_no_code_with_results_and_is_short_enough_to_be_read() -> None:
    imported = [
        node for node in ast.walk(ast.parse(CHECKER.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in imported for alias in node.names} | {
        getattr(node, "module", "") for node in imported
    }
    assert not any(str(name).startswith(("results", "harness", "backends", "benchmarks")) for name in names)
    assert sum(bool(line.strip()) for line in CHECKER.read_text().splitlines()) <= 200


def test_honest_results_follow_to_the_last_figure(made: Path, honest: str) -> None:
    table = json.loads(honest)
    assert [row["runs"] for row in table] == [7, 1]
    assert list(verify(made, table)) == []


def test_two_stages_with_compiling_of_their_own_follow_too(tmp_path: Path) -> None:
    with open_run(tmp_path, command=["run"], planned=(), machine=MACHINE, environment={"system": "Linux"}) as run:
        for seed in range(3):
            run.append(joined(build(seed=seed, step_us=10_000), build(seed=seed, step_us=90_000 + seed)))
        run.finish()
    (row,) = table = json.loads(_table(tmp_path))
    assert (row["compile_s"], row["epoch_s"], row["latency_ms"]) == pytest.approx((2.9, 1.295, 90.001), rel=1e-4)
    assert list(verify(tmp_path, table)) == []


@pytest.mark.parametrize(
    "column", ["throughput", "latency_p95_ms", "epoch_s", "train_s", "accuracy_high", "loss", "peak_memory_mb_low",
               "accuracy_mde", "time_to_accuracy_s", "throughput_low", "first_step_s", "val_accuracy", "compile_s"],
)  # fmt: skip
def test_a_touched_figure_of_a_table_is_named(made: Path, honest: str, column: str) -> None:
    table = json.loads(honest)
    table[0][column] *= 1.0001
    (said,) = verify(made, table)
    assert f"{column} is" in said


def _edit(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[list[dict[str, Any]]], None]:
    def edit(rows: list[dict[str, Any]]) -> None:
        change(next(row for row in rows if row["row"] == name))

    return edit


def _step(row: dict[str, Any]) -> None:
    row["record"]["stages"][0]["windows"][2]["seconds"] *= 0.9


def _turn(row: dict[str, Any]) -> None:
    for turn in row["b"]["turns"]:
        turn["step_us"] = [round(1.01 * step) for step in turn["step_us"]]


def _verdict(row: dict[str, Any]) -> None:
    row["comparison"]["findings"][0]["verdict"] = "no change"


def _bound(row: dict[str, Any]) -> None:
    row["comparison"]["findings"][-1]["low"] -= 0.01


def _p(row: dict[str, Any]) -> None:
    row["comparison"]["findings"][0]["p_adjusted"] += 0.01


def _lose_pair(rows: list[dict[str, Any]]) -> None:
    rows.remove(next(row for row in rows if row["row"] == "pair" and row.get("confirms")))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_edit("process", _step), "throughput"),
        (_edit("pair", _turn), "throughput"),
        (_edit("verdict", _verdict), "is no change, but"),
        (_edit("verdict", _bound), "accuracy low"),
        (_edit("verdict", _p), "p_adjusted"),
        (_lose_pair, "replicates"),
        (lambda rows: rows.remove(next(row for row in rows if row["row"] == "process")), "6 ok rows"),
    ],
)
def test_an_edited_or_lost_row_is_noticed(
    stored: Path, honest: str, edit: Callable[[list[dict[str, Any]]], None], says: str
) -> None:
    table = json.loads(honest)
    (file,) = stored.rglob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    edit(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert any(says in said for said in verify(stored, table))


def test_p_of_a_part_must_be_adjusted_for_the_comparisons_of_the_other_parts(stored: Path) -> None:
    (file,) = stored.rglob("*.jsonl")
    shard = b'"shard":{"number":1,"plan":"p","unit":"comparisons","labels":[["a case"],["b","c"]]}'
    file.write_bytes(file.read_bytes().replace(b'"shard":null', shard, 1))
    found = list(verify(stored))
    assert found
    assert all("p_adjusted" in sentence for sentence in found)


def test_lines_that_cannot_be_read_and_newer_rows_are_said(stored: Path) -> None:
    (file,) = stored.rglob("*.jsonl")
    content = file.read_bytes()
    file.write_bytes(content + b'{"row":"process","sche\n')
    assert any("1 lines cannot be read" in said for said in verify(stored))
    file.write_bytes(content + b'{"row":"process","schema":99}\n')
    assert any("schema newer than" in said for said in verify(stored))
    file.write_bytes(content + b'{"row":"process","sche #cut\n{"loss": 1}\n')
    assert list(verify(stored)) == []


def test_a_changed_logit_is_noticed(stored: Path) -> None:
    file = next(stored.rglob("*.npz"))
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(bytes(content))
    assert any("logits" in said for said in verify(stored))


def test_the_command_says_what_does_not_follow_and_ends_with_1(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise SystemExit('a package of somebody else')")
    monkeypatch.chdir(tmp_path)
    assert invoke("verify", "--results", stored).exit_code == 0
    written = tmp_path / "table.csv"
    assert invoke("table", "--results", stored, "--format", "csv", "--out", written).exit_code == 0
    assert invoke("verify", "--results", stored, "--table", written).exit_code == 0
    text = written.read_text()
    touched = tmp_path / "touched.csv"
    rate = next(cell for cell in text.splitlines()[1].split(",") if cell.startswith("3") and "." in cell)
    touched.write_text(text.replace(rate, f"9{rate}"))
    said = invoke("verify", "--results", stored, "--table", touched)
    assert said.exit_code == 1
    assert "the raw rows give" in said.output
    assert invoke("verify", "--results", tmp_path / "empty").exit_code == 3


def test_a_folder_of_comparisons_alone_has_no_table_to_verify_and_an_empty_run_is_declined(tmp_path: Path) -> None:
    one = pair(1.05)
    with open_run(tmp_path, command=["compare"], planned=(), machine=MACHINE, environment={}) as run:
        assert invoke("verify", "--results", tmp_path).exit_code == 3
        run.append_pair(Pair(**{name: getattr(one, name) for name in Pair.__struct_fields__}))
        run.append_of_side(build(), "c1", "A")
    assert (
        invoke("verify", "--results", tmp_path).stdout
        == "0 rows of a table and every stored verdict follow from the raw rows\n"
    )
