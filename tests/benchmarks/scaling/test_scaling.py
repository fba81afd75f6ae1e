"""Tables of scaling from comparisons made by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.choosing.documents import as_json
from benchmarks.choosing.selection import WHOLE, SelectedCase
from benchmarks.commands.measuring.scaling import CaseScaling, read_numbers
from benchmarks.scaling.scaling import ScalingStep, proof_of, sections, steps_of, table
from harness.errors import Refused
from results.certificates.certificate import NO_CERTIFICATES
from results.storage.comparison import Comparison, SideFacts
from results.verdicts.pair_findings import throughput_finding
from tests.benchmarks.commanding import invoke
from tests.harness.test_spec import CASE
from tests.results.pairs import pair

BASELINE = SelectedCase(CASE, "embedded", None, WHOLE)
SIDES = SideFacts(name="A", text="here"), SideFacts(name="B", text="here")


def steps(**fields: Any) -> list[ScalingStep]:
    return steps_of(BASELINE, (1, 2), fields.get("norm_scope", "global"))


def measured(ratios: dict[str, float]) -> tuple[dict[str, Comparison], dict[str, list[Any]]]:
    """Ten pairs per label; two devices need `ratio` times as long per image as one."""
    pairs = {
        label: [pair(ratio * (1 + 0.001 * (n % 3)), number=n) for n in range(10)] for label, ratio in ratios.items()
    }
    comparisons = {
        label: Comparison(
            label=label, name=label, sides=SIDES, verdict="inconclusive", findings=(throughput_finding(found, 0.05),)
        )
        for label, found in pairs.items()
    }
    return comparisons, pairs


def test_strong_scaling_keeps_the_batch_and_weak_scaling_that_of_a_device() -> None:
    strong, weak = steps()
    batches = [[stage.batch_size for stage in side.case.scenario.stages] for side in (*strong.sides, *weak.sides)]
    assert batches == [[16], [16], [16], [32]]
    assert [side.case.devices for side in strong.sides] == [1, 2]


def test_efficiency_is_the_speed_up_over_the_factor_of_devices_with_its_interval() -> None:
    strong, weak = steps()
    rows = table(steps(), *measured({strong.label: 0.625, weak.label: 0.5}), {strong.label: "P4, certificate 1234"})
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
    assert cells[2][3].startswith("× 1.60 (1.60–") and cells[2][5] == "P4, certificate 1234"
    one = CaseScaling(backend="pytorch", model="resnet18", scenario="full", rows=tuple(rows))
    assert msgspec.json.decode(as_json([one]), type=list[CaseScaling]) == [one]


def test_the_baseline_is_printed_although_nothing_was_measured() -> None:
    rows = table(steps(), {}, {}, {})
    assert [(row.devices, row.note) for row in rows] == 2 * [(1, "baseline"), (2, "not measured")]


def test_a_strong_row_without_certificate_names_the_command_and_other_trainings_are_called_so() -> None:
    one, two = CASE, replace(CASE, devices=2)
    text = proof_of("strong", (one, two), "", "cpu", NO_CERTIFICATES)
    assert text.endswith("certify tiny-cnn --backend reference --set devices=2 --scenario own")
    assert proof_of("weak", (one, two), "", "cpu", NO_CERTIFICATES) == "another batch"
    scoped = replace(two, norm_scope="device")
    assert "another training" in proof_of("strong", (one, scoped), "", "cpu", NO_CERTIFICATES)


@pytest.mark.parametrize("text", ["1", "2,1", "0,2", "1,1", "2,3", "one,two"])
def test_devices_that_are_no_rising_multiples_are_refused(text: str) -> None:
    with pytest.raises(Refused, match=f"--devices {text}: write"):
        read_numbers(text)
    assert read_numbers("1,2,4") == (1, 2, 4)


def test_a_backend_without_data_parallelism_ends_with_its_reason() -> None:
    found = invoke("scaling", "tiny-cnn", "--backend", "reference", "--image-size", "32", "--quiet")
    assert found.exit_code == 3
    assert "the reference backend has no data parallelism" in found.stderr
    assert "strong scaling" in found.stdout and "baseline" in found.stdout
