"""Energy above idle: per image, to a target, with an uncertainty; and a reason where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec.structs import replace

import results
from harness.running.record import Energy, EnergyCounter, EnergyUsed, Record, StageEnergy
from results.storage.energy import NOT_ABOVE, epoch_joules, image_joules, source
from results.tables.render import render
from results.tables.sheet import Style
from tests.results.records import build
from tests.results.tables.test_load import store

RAPL = EnergyCounter(name="RAPL", idle_w=10.0, idle_spread_w=0.5, update_s=0.001)
GPU = EnergyCounter(name="NVML", idle_w=60.0, idle_spread_w=2.0, update_s=0.1)
NO_RAPL = "this machine has no RAPL counter"


def used(seconds: float, *watts: float) -> EnergyUsed:
    return EnergyUsed(seconds=seconds, joules=tuple(seconds * power for power in watts))


def metered(*counters: EnergyCounter, watts: tuple[float, ...], first_w: float = 0.0, **about: object) -> Record:
    """A record of two epochs of 2 s at constant powers; its throughput window has 30 steps of 50 ms, 480 images."""
    record = build(**about)
    (stage,) = record.stages
    first = used(1.5, *(power + first_w for power in watts))
    epoch = used(2.0, *watts)
    longer = EnergyUsed(seconds=3.5, joules=tuple(a + b for a, b in zip(epoch.joules, first.joules, strict=True)))
    kinds = {
        "first": first,
        "warmup": used(0.15, *watts),
        "throughput": used(1.5, *watts),
        "latency": used(0.5, *watts),
    }
    energy = StageEnergy(kinds=kinds, epochs=(longer, epoch))
    return replace(record, stages=(replace(stage, energy=energy),), energy=Energy(counters=counters))


def test_the_energy_per_image_is_that_above_idle_over_all_counters() -> None:
    record = metered(RAPL, GPU, watts=(35.0, 300.0))
    images = sum(w.images for w in record.stages[0].windows if w.kind == "throughput")
    found = image_joules(record)
    assert found is not None
    assert found.value == pytest.approx((25.0 + 240.0) * 1.5 / images)
    edges = math.sqrt(2) * math.hypot(35.0 * 0.001, 300.0 * 0.1)
    assert found.error == pytest.approx(math.hypot(edges, 0.5 * 1.5, 2.0 * 1.5) / images)


def test_the_energy_of_an_epoch_leaves_out_compiling() -> None:
    steady, compiling = (metered(RAPL, watts=(30.0,), first_w=more) for more in (0.0, 100.0))
    first, second = epoch_joules(compiling)
    usual = 20.0 * 1.5 / 30
    assert second == pytest.approx(40.0)
    assert first == pytest.approx(40.0 + usual)
    assert epoch_joules(steady) == pytest.approx([first, second])


def test_a_load_that_is_not_above_idle_has_no_energy_but_a_reason(tmp_path: Path) -> None:
    for watts in (9.0, 10.2):
        record = metered(RAPL, watts=(watts,))
        assert image_joules(record) is None
        assert source(record) == f"RAPL; {NOT_ABOVE}"
    store(tmp_path, record)
    frame = results.load(tmp_path)
    assert frame["joules_per_image"].isna().all()
    assert frame["train_joules"].isna().all()


def test_the_table_has_energy_with_its_source_and_uncertainty_only_when_wide(tmp_path: Path) -> None:
    store(tmp_path, *(metered(RAPL, watts=(30.0 + seed,), seed=seed) for seed in range(2)))
    rows = results.table(results.load(tmp_path), 0.6)
    (row,) = rows.to_dict("records")
    assert row["joules_to_accuracy"] == pytest.approx(sum(epoch_joules(metered(RAPL, watts=(30.5,)))), rel=0.01)
    assert row["energy_source"] == "RAPL"
    wide = render(rows, style=Style(wide=True), width=300).decode()
    assert "J: energy above the idle machine, by RAPL; standard uncertainty per image at most" in wide
    assert "J to 60.0 %" in wide
    assert "J: energy" not in render(rows, width=300).decode()


def test_a_machine_without_a_counter_says_so_when_wide_and_older_records_say_nothing(tmp_path: Path) -> None:
    store(tmp_path / "without", replace(build(), energy=Energy(absent=(NO_RAPL,))))
    store(tmp_path / "older", build())
    texts = [
        render(results.table(results.load(tmp_path / name)), style=Style(wide=True), width=300).decode()
        for name in ("without", "older")
    ]
    assert f"energy is left out: {NO_RAPL}" in texts[0]
    assert "energy" not in texts[1]
    assert all("J per" not in text for text in texts)
