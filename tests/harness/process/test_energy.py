"""Energy counters: a made-up powercap folder, and a stand-in for NVML; no machine of the tests has a counter."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from harness.process import energy, gpu
from harness.process.energy import Idle, Rapl, open_counters, watch_idle
from tests.harness.process.test_gpu import ask

LARGEST = 65_532_610_987


def zone(folder: Path, place: str, name: str, uj: int = 0) -> Path:
    home = folder / place
    home.mkdir(parents=True)
    (home / "name").write_text(f"{name}\n")
    (home / "max_energy_range_uj").write_text(f"{LARGEST}\n")
    (home / "energy_uj").write_text(f"{uj}\n")
    return home


def spend(home: Path, joules: float) -> None:
    """Count on, as the kernel does: in microjoules, from 0 again after the largest value."""
    file = home / "energy_uj"
    (home / "next").write_text(str((int(file.read_text()) + round(joules * 1e6)) % LARGEST))
    (home / "next").replace(file)  # at once: a thread of the counter reads meanwhile


def test_packages_and_memory_are_added_and_their_parts_and_the_whole_system_are_not(tmp_path: Path) -> None:
    counted = [zone(tmp_path, "intel-rapl:0", "package-0", 5), zone(tmp_path, "intel-rapl:1", "package-1", 7)]
    counted.append(zone(tmp_path, "intel-rapl:0:2", "dram", 9))
    others = [zone(tmp_path, "intel-rapl:0:0", "core"), zone(tmp_path, "intel-rapl:0:1", "uncore")]
    others += [zone(tmp_path, "intel-rapl:2", "psys"), zone(tmp_path, "intel-rapl-mmio:0", "package-0")]
    (tmp_path / "intel-rapl").mkdir()
    (counter,), absent = open_counters("cpu", tmp_path)
    assert (counter.name, absent, counter.joules()) == ("RAPL", [], 0.0)
    for place in counted:
        spend(place, 2.5)
    for place in others:
        spend(place, 100)
    assert counter.joules() == pytest.approx(7.5)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    home = zone(tmp_path, "intel-rapl:0", "package-0", LARGEST - 1_000_000)
    counter = Rapl([home])
    spend(home, 3.0)
    assert int((home / "energy_uj").read_text()) == 2_000_000
    assert counter.joules() == pytest.approx(3.0)
    spend(home, 1.0)
    assert counter.joules() == pytest.approx(4.0)


def test_two_wraps_between_readings_are_seen_because_the_counter_is_read_in_between(tmp_path: Path) -> None:
    home = zone(tmp_path, "intel-rapl:0", "package-0")
    counter = Rapl([home], reread_s=0.01)
    for _ in range(3):
        spend(home, LARGEST * 0.75e-6)
        time.sleep(0.5)
    assert counter.joules() == pytest.approx(3 * LARGEST * 0.75e-6)


def test_what_is_missing_is_a_sentence(tmp_path: Path) -> None:
    assert open_counters("cpu", tmp_path / "none") == ([], ["this machine has no RAPL counter"])
    assert open_counters("cpu", tmp_path) == ([], ["this machine has no RAPL counter"])


def test_a_counter_that_this_user_may_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = zone(tmp_path, "intel-rapl:0", "package-0")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may read everything
    assert open_counters("cpu", tmp_path) == ([], [f"{home / 'energy_uj'} is not readable by this user"])


def test_a_counter_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    home = zone(tmp_path, "intel-rapl:0", "package-0")
    (home / "energy_uj").write_text("")
    counters, (sentence,) = open_counters("cpu", tmp_path)
    assert counters == []
    assert sentence.startswith("the RAPL counter of this machine cannot be read")


def test_nvml_is_not_asked_for_a_case_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(energy, "open_gpu_energy", lambda: asked.append(1) or "NVML gives no energy")
    assert open_counters("cpu", tmp_path)[1] == ["this machine has no RAPL counter"]
    assert not asked
    assert open_counters("cuda", tmp_path)[1] == ["NVML gives no energy", "this machine has no RAPL counter"]


COUNTING = "__import__('harness.process.gpu', fromlist=['x']).open_gpu_energy()"


def test_nvml_counts_millijoules_of_the_gpu_that_this_process_sees(tmp_path: Path) -> None:
    question = f"[(c.name, c.joules(), c.joules()) for c in [{COUNTING}]]"
    assert ask(question, tmp_path, CUDA_VISIBLE_DEVICES="1") == ["[('NVML', 0.25, 0.5)]"]


@pytest.mark.parametrize("fault", ["driver", "energy", "permission"])
def test_a_gpu_without_a_counter_or_without_permission_is_a_sentence(tmp_path: Path, fault: str) -> None:
    assert ask(COUNTING, tmp_path, FAULT=fault)[-1].startswith("NVML gives no energy of the GPU (")


# What the library says without a GPU can only be asked on a machine without one.
@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has an NVIDIA GPU")
def test_the_real_library_has_no_counter_on_a_machine_without_a_gpu() -> None:
    assert isinstance(gpu.open_gpu_energy(), str)


class Steady:
    """A counter of a machine that uses `watts`, and counts at every `update_s` of a clock that the test turns."""

    name = "made up"

    def __init__(self, watts: float, update_s: float) -> None:
        self.now, self._watts, self._update_s = 0.0, watts, update_s

    def joules(self) -> float:
        return self._watts * self._update_s * int(self.now / self._update_s + 1e-9)


def test_the_idle_machine_has_its_power_its_spread_and_the_interval_of_its_counter() -> None:
    counter = Steady(20.0, 0.1)

    def sleep(seconds: float) -> None:
        counter.now += seconds

    (idle,) = watch_idle([counter], 2.0, lambda: counter.now, sleep)
    assert idle.watts == pytest.approx(20.0, rel=0.02)
    assert idle.spread_w < 1.0
    assert idle.update_s == pytest.approx(0.1, abs=0.006)


def test_a_counter_that_stands_still_has_an_interval_as_long_as_the_watch() -> None:
    counter = Steady(0.0, 1.0)

    def sleep(seconds: float) -> None:
        counter.now += seconds

    assert watch_idle([counter], 2.0, lambda: counter.now, sleep) == [Idle(0.0, 0.0, pytest.approx(2.0, abs=0.05))]


def test_a_counter_is_no_longer_read_once_it_is_dropped_or_its_file_is_gone(tmp_path: Path) -> None:
    dropped = Rapl([zone(tmp_path, "intel-rapl:0", "package-0")], reread_s=0.05)
    gone = zone(tmp_path, "intel-rapl:1", "package-1")
    kept = Rapl([gone], reread_s=0.05)
    threads = [thread for thread in threading.enumerate() if thread.name.endswith("(_reread)")]
    assert len(threads) >= 2
    (gone / "energy_uj").unlink()
    del dropped
    for thread in threads[-2:]:
        thread.join(timeout=10)
        assert not thread.is_alive()
    with pytest.raises(FileNotFoundError):
        kept.joules()
