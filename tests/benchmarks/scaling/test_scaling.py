"""Tables of scaling from comparisons made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.choosing.documents import as_json
from benchmarks.choosing.selection import WHOLE, SelectedCase
from benchmarks.commands.measuring.scaling import CaseScaling, read_numbers
from benchmarks.scaling.scaling import ScalingStep, remarks, sections, steps_of, table
from harness.errors import Refused
from harness.running.record import Record
from results.certificates.certificate import NO_CERTIFICATES, Certificates
from results.scaling.gain import BreakEven, gain_of, outside_training_s
from results.storage.comparison import Comparison, SideFacts
from results.storage.rows import SCHEMA, PairRow, ProcessRow
from results.verdicts.accuracy_verdict import accuracy_finding
from results.verdicts.pair_findings import throughput_finding
from results.verdicts.stored_comparisons import StoredComparison
from tests.benchmarks.commanding import invoke
from tests.harness.test_spec import CASE
from tests.results.certificates.test_certificate import certificate
from tests.results.pairs import pair
from tests.results.records import build

BASELINE = SelectedCase(CASE, "embedded", None, WHOLE)
SIDES = SideFacts(name="A", text="here"), SideFacts(name="B", text="here")


def steps(**fields: Any) -> list[ScalingStep]:
    return steps_of(BASELINE, (1, 2), fields.get("norm_scope", "global"))


def measured(ratios: dict[str, float], runs: Mapping[str, Sequence[Record]] = {}) -> dict[str, StoredComparison]:
    """Ten pairs per label; two devices need `ratio` times as long per image as one. `runs` are complete."""
    found = {}
    for label, ratio in ratios.items():
        pairs = tuple(
            on_two_devices(pair(ratio * (1 + 0.001 * (n % 3)), number=n), 1 + ("weak" in label)) for n in range(10)
        )
        findings = [throughput_finding(pairs, 0.05)]
        if runs:
            findings.append(accuracy_finding(runs["A"], runs["B"]))
        comparison = Comparison(
            label=label, name=label, sides=SIDES, verdict="inconclusive", findings=tuple(findings), purpose="scaling"
        )
        rows = tuple(
            ProcessRow(schema=SCHEMA, run="r", protocol=1, environment="", record=record, comparison=label, side=side)
            for side in ("A", "B")
            for record in runs.get(side, ())
        )
        found[label] = StoredComparison(label, "r", Path("r.jsonl"), comparison, pairs, rows)
    return found


PROOF = certificate(build(), build(), accelerated={"devices": 2})
PROVED = Certificates((PROOF,))


def test_without_a_certificate_strong_scaling_has_no_speed_up_and_weak_scaling_is_another_training() -> None:
    strong, weak = steps()
    runs = {"A": complete(0.9, 10.0), "B": complete(0.9, 15.0)}
    stored = measured({strong.label: 0.625, weak.label: 0.5}, runs)
    _, two, _, weak_two = table(steps(), stored, NO_CERTIFICATES)
    assert (two.speedup, two.efficiency, two.break_even) == (None, None, None)
    assert two.images_per_s is not None and two.accuracies is not None
    assert weak_two.speedup is not None and weak_two.note == "another batch"
    (_, cells), _ = sections([two, weak_two])
    note = "no certificate: finetune-bench certify resnet18 --backend pytorch --set devices=2 --scenario full"
    assert cells[1][3:] == ("–", "–", note)


def test_strong_scaling_keeps_the_batch_and_weak_scaling_that_of_a_device() -> None:
    strong, weak = steps()
    batches = [[stage.batch_size for stage in side.case.scenario.stages] for side in (*strong.sides, *weak.sides)]
    assert batches == [[16], [16], [16], [32]]
    assert [side.case.devices for side in strong.sides] == [1, 2]


def test_efficiency_is_the_speed_up_over_the_factor_of_devices_with_its_interval() -> None:
    strong, weak = steps()
    rows = table(steps(), measured({strong.label: 0.625, weak.label: 0.5}), PROVED)
    assert [(row.kind, row.devices, row.batch) for row in rows] == [
        ("strong", 1, "16"), ("strong", 2, "16"), ("weak", 1, "16"), ("weak", 2, "32"),
    ]  # fmt: skip
    baseline, two, _, weak_two = rows
    assert baseline.note == "baseline" and baseline.images_per_s == pytest.approx(320, rel=0.01)
    assert two.speedup is not None and two.efficiency is not None and weak_two.efficiency is not None
    assert two.speedup[0] == pytest.approx(1.6, rel=0.01)
    assert two.efficiency == pytest.approx([one / 2 for one in two.speedup])
    assert two.efficiency[1] < two.efficiency[0] < two.efficiency[2]
    assert weak_two.efficiency[0] == pytest.approx(1.0, rel=0.01)
    (_, cells), _ = sections(rows)
    assert [line[0] for line in cells] == ["devices", "1", "2"]
    assert cells[1][3:] == ("× 1.00", "100%", "baseline")
    assert cells[2][3].startswith("× 1.60 (1.60–") and cells[2][5] == f"P3, certificate {PROOF.sha256[:8]}"
    one = CaseScaling(backend="pytorch", model="resnet18", scenario="full", rows=tuple(rows))
    assert msgspec.json.decode(as_json([one]), type=list[CaseScaling]) == [one]


def on_two_devices(one: PairRow, factor: int) -> PairRow:
    """B on two devices, with `factor` times the batch."""
    case = one.b.case
    stages = tuple(replace(stage, batch_size=factor * stage.batch_size) for stage in case.scenario.stages)
    case = replace(case, devices=2, scenario=replace(case.scenario, stages=stages))
    return replace(one, b=replace(one.b, case=case))


def complete(accuracy: float, more_s: float) -> list[Record]:
    """Two runs of 44 steps of 16 images in two epochs; each process takes `more_s` longer than its training."""
    record = build(accuracy=accuracy)
    trained = record.total_s - outside_training_s(record)
    return [replace(record, total_s=trained + more_s) for _ in range(2)]


def test_a_device_pays_when_the_time_saved_is_that_of_its_start() -> None:
    strong, weak = steps()
    runs = {"A": complete(0.9, 10.0), "B": complete(0.875, 15.0)}
    _, two, _, slower = table(steps(), measured({strong.label: 0.625, weak.label: 1.5}, runs), PROVED)
    assert two.break_even is not None and two.break_even.images is not None and two.break_even.epochs is not None
    images, early, late = two.break_even.images
    # 5 s at 320 images/s, of which 0.375 are saved
    assert images == pytest.approx(5 * 320 / 0.375, rel=0.01)
    assert early < images < late
    assert two.break_even.epochs[0] == pytest.approx(images / (22 * 16))
    assert two.break_even.start_s == pytest.approx(5.0)
    assert two.accuracies is not None
    assert (two.accuracies.one, two.accuracies.other, two.accuracies.seeds) == (0.9, 0.875, 2)
    assert two.accuracies.change[0] == pytest.approx(-2.5)
    assert slower.break_even == BreakEven(note="never here, because the training is not faster")
    lines = list(remarks([two, slower]))
    assert lines[0].startswith("strong scaling, 2 devices: pays from 4.2") and "+5.0 s outside" in lines[0]
    assert lines[1].startswith("strong scaling, 2 devices: accuracy 87.5%, baseline 90.0%; change -2.5 points")
    assert lines[2].startswith("weak scaling, 2 devices: 67% (67% to 67%) of a step is exchange")
    assert lines[3] == "weak scaling, 2 devices: pays never here, because the training is not faster"


def test_the_share_of_exchanges_is_what_weak_scaling_loses_and_strong_scaling_does_not_show_it() -> None:
    strong, weak = steps()
    _, two, baseline, other = table(steps(), measured({strong.label: 0.625, weak.label: 0.625}), PROVED)
    assert two.exchange is None and baseline.exchange is None
    assert other.exchange is not None and other.efficiency is not None
    assert other.exchange == pytest.approx([1 - other.efficiency[place] for place in (0, 2, 1)])
    assert other.exchange[0] == pytest.approx(0.2, abs=0.01)  # a step of two devices takes 1.25 times as long


def test_without_complete_runs_or_a_clear_speed_up_the_break_even_is_not_known() -> None:
    strong, weak = steps()
    _, two, *_ = table(steps(), measured({strong.label: 0.625, weak.label: 0.5}), PROVED)
    assert two.break_even == BreakEven(note="not known without complete runs; give --seeds")
    runs = {"A": complete(0.9, 10.0), "B": complete(0.9, 15.0)}
    _, two, *_ = table(steps(), measured({strong.label: 0.999}, runs), PROVED)
    assert two.break_even == BreakEven(note="not known, because the interval of the speed-up includes 1")


def test_a_device_that_starts_no_later_pays_from_the_first_image() -> None:
    strong, weak = steps()
    runs = {"A": complete(0.9, 10.0), "B": complete(0.9, 9.0)}
    _, two, *_ = table(steps(), measured({strong.label: 0.625, weak.label: 0.5}, runs), PROVED)
    assert two.break_even is not None
    assert two.break_even.images == (0.0, 0.0, 0.0)


def test_the_baseline_is_printed_although_nothing_was_measured() -> None:
    rows = table(steps(), {}, PROVED)
    assert [(row.devices, row.note) for row in rows] == 2 * [(1, "baseline"), (2, "not measured")]


def test_a_row_without_a_pair_that_counts_says_how_many_are_needed() -> None:
    found = measured({steps()[0].label: 0.625})
    (label, one), *_ = found.items()
    assert one.comparison is not None
    findings = (throughput_finding((), 0.05),)
    none = one._replace(pairs=(), comparison=replace(one.comparison, findings=findings))
    rows = table(steps(), {label: none}, PROVED)
    assert [row.note for row in rows[:2]] == ["baseline", "0 pairs, but the first look needs 10"]


def test_another_norm_scope_needs_no_certificate_and_is_called_another_training() -> None:
    (stored,) = measured({"weak": 0.625}).values()
    pairs = tuple(
        replace(one, b=replace(one.b, case=replace(one.a.case, devices=2, norm_scope="device"))) for one in stored.pairs
    )
    gain = gain_of(stored._replace(pairs=pairs), NO_CERTIFICATES)
    assert gain is not None and gain.speedup is not None
    assert gain.note == "norm over each device: another training"


@pytest.mark.parametrize("text", ["1", "2,1", "0,2", "1,1", "2,3", "one,two"])
def test_devices_that_are_no_rising_multiples_are_refused(text: str) -> None:
    with pytest.raises(Refused, match=f"--devices {text}: write"):
        read_numbers(text)
    assert read_numbers("1,2,4") == (1, 2, 4)


def test_a_backend_without_data_parallelism_ends_with_its_reason() -> None:
    tiny = ("scaling", "tiny-cnn", "--backend", "reference", "--image-size", "32", "--scenario", "scratch", "--quiet")
    found = invoke(*tiny)
    assert found.exit_code == 3
    assert "the reference backend has no data parallelism" in found.stderr
    assert "strong scaling" in found.stdout and "baseline" in found.stdout
