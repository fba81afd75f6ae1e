from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.clock import TimeSource
from harness.running.sensors import Disturbance, Wall, peak_memory, private_memory

ROOT = Path(__file__).parents[3]


def test_the_parts_add_up_to_the_time_since_the_start() -> None:
    started = time.time() - 0.5
    wall = Wall(started)
    for part in ("a", "b", "a"):
        time.sleep(0.01)
        wall.lap(part)
    assert list(wall.parts()) == ["start", "a", "b"]
    assert wall.parts()["start"] == pytest.approx(0.5, abs=0.1)
    assert sum(wall.parts().values()) == pytest.approx(time.time() - started, abs=0.02)


def test_a_split_books_what_is_known_and_the_rest_on_the_remainder() -> None:
    started = time.time()
    wall = Wall(started)
    time.sleep(0.05)
    wall.split("other", {"step": 0.02, "evaluation": 0.01})
    parts = wall.parts()
    assert (parts["step"], parts["evaluation"]) == (0.02, 0.01)
    assert 0.02 <= parts["other"] < 0.2
    time.sleep(0.05)
    wall.split("other", {"step": 0.02})
    assert wall.parts()["step"] == 0.04
    assert sum(wall.parts().values()) < time.time() - started + 0.005


def test_V43_parts_that_overlap_are_an_error() -> None:
    wall = Wall(time.time())
    time.sleep(0.01)
    with pytest.raises(RuntimeError, match="parts of the wall time overlap"):
        wall.split("other", {"step": 5.0, "evaluation": 5.0})


def test_a_time_that_is_left_out_is_in_no_part() -> None:
    time_source = iter([0, 10, 40, 50])
    wall = Wall(time.time(), TimeSource(now=lambda: next(time_source) * 10**9))
    wall.lap("build")
    wall.leave_out(25 * 10**9)
    wall.lap("step")
    wall.lap("other")
    assert {part: seconds for part, seconds in wall.parts().items() if part != "start"} == {
        "build": 10, "step": 5, "other": 10
    }  # fmt: skip


def test_parts_are_handed_out_as_a_copy() -> None:
    wall = Wall(time.time())
    wall.parts()["mine"] = 1.0
    assert "mine" not in wall.parts()


def test_V42_cpu_time_over_wall_time_tells_working_from_sleeping() -> None:
    asleep = Disturbance()
    time.sleep(0.3)
    idle = asleep.read()
    assert idle.cpu_over_wall < 0.2
    assert idle.voluntary_switches >= 1
    busy = Disturbance()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert busy.read().cpu_over_wall > 2 * idle.cpu_over_wall


def test_private_memory_counts_what_is_touched_and_no_mapped_file(tmp_path: Path) -> None:
    size = 64 * 2**20
    (tmp_path / "file").write_bytes(b"\1" * size)
    before = private_memory()
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) == size // 4096
        assert private_memory() - before < size / 4
    # Pages asked of the kernel itself: an allocator may hand out what an earlier test has freed.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as touched:
        touched[:] = b"\1" * size
        assert private_memory() - before > size * 0.9
    assert peak_memory() > size


PEAKS = """
import mmap, sys
from harness.running.sensors import anonymous_peak
peaks = [anonymous_peak()]
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[::4096])
peaks.append(anonymous_peak())
touched = mmap.mmap(-1, len(mapped), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
touched[:] = bytes(len(mapped))
touched.close()
print(*peaks, anonymous_peak())
"""


def test_the_anonymous_peak_keeps_what_was_touched_and_leaves_out_mapped_files(tmp_path: Path) -> None:
    size = 64 * 2**20
    (tmp_path / "file").write_bytes(b"\1" * size)
    command = [sys.executable, "-c", PEAKS, str(tmp_path / "file")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    before, mapped, touched = map(int, said.split())
    assert mapped - before < size / 4
    assert touched - mapped > size * 0.9
