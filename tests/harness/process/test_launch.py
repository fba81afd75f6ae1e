from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from harness.process.environment import PASSED_ON, Place, worker_environment
from harness.process.launch import Outcome, Worker, launch
from harness.process.machine import usable_cores

ROOT = Path(__file__).resolve().parents[3]


def run(function: str, folder: Path, /, timeout_s: float | None = 60, **arguments: Any) -> Outcome:
    return launch(f"tests.harness.jobs:{function}", arguments, folder=folder, timeout_s=timeout_s)


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends (a zombie nobody waits for has ended too)."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_function_is_called_by_name_and_its_answer_comes_back(tmp_path: Path) -> None:
    outcome = run("add", tmp_path, left=2, right=3)
    assert (outcome.ending, outcome.reason) == ("ok", "")
    assert msgspec.json.decode(outcome.value) == {"sum": 5}
    assert 0 < outcome.seconds < 60


def test_a_worker_runs_the_code_of_its_place_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "harness", tmp_path / "other" / "harness")
    file = tmp_path / "other" / "harness" / "extra.py"
    file.write_text("def where():\n    return __file__\n")
    monkeypatch.chdir(ROOT)
    outcome = launch("harness.extra:where", {}, folder=tmp_path / "job", place=Place(root=tmp_path / "other"))
    assert msgspec.json.decode(outcome.require()) == str(file)


def test_a_worker_of_another_place_than_its_parent_thinks_is_refused(tmp_path: Path) -> None:
    outcome = launch("harness.process.machine:usable_cores", {}, folder=tmp_path / "job", place=Place(root=tmp_path))
    assert outcome.ending == "refused"
    assert outcome.reason == f"the harness in {ROOT} ran instead of the one in {tmp_path}"


def test_what_a_worker_prints_goes_to_its_log_and_disturbs_nothing(tmp_path: Path, capfd: Any) -> None:
    outcome = run("chatter", tmp_path)
    assert (outcome.ending, bytes(outcome.value)) == ("ok", b'"heard"')
    log = (tmp_path / "log.txt").read_text()
    assert all(words in log for words in ("to stdout", '{"ending": "failed"}', "straight to the descriptor"))
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_exits_is_a_failure_with_its_code_and_last_words(tmp_path: Path) -> None:
    outcome = run("leave", tmp_path, code=7)
    assert outcome.ending == "failed"
    assert outcome.reason == "exited with 7; last line of its log: about to leave"


def test_a_worker_that_exits_with_0_but_without_an_answer_is_a_failure(tmp_path: Path) -> None:
    outcome = run("leave_at_once", tmp_path, code=0)
    assert (outcome.ending, outcome.reason) == ("failed", "exited with 0")


def test_the_answer_of_an_earlier_worker_in_the_same_folder_is_not_taken(tmp_path: Path) -> None:
    run("add", tmp_path, left=1, right=1)
    assert run("leave_at_once", tmp_path, code=0).ending == "failed"


def test_a_call_that_names_nothing_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    outcome = run("no_such_function", tmp_path)
    assert outcome.ending == "failed"
    assert "no_such_function" in outcome.reason


def test_a_native_crash_is_a_failure_that_names_the_signal(tmp_path: Path) -> None:
    outcome = run("crash", tmp_path)
    assert outcome.ending == "failed"
    assert outcome.reason.startswith("crashed in native code (SIGSEGV)")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_killed_from_outside_is_killed_and_names_the_signal(tmp_path: Path, number: signal.Signals) -> None:
    def kill(event: dict[str, Any]) -> None:
        os.kill(event["pid"], number)

    outcome = launch("tests.harness.jobs:sleep", {"seconds": 60}, folder=tmp_path, on_event=kill, timeout_s=60)
    assert (outcome.ending, outcome.reason) == ("killed", f"killed from outside ({number.name})")


def test_a_worker_that_asks_for_more_memory_than_there_is_is_out_of_memory(tmp_path: Path) -> None:
    outcome = run("take_memory", tmp_path, limit_bytes=8 * 2**30)
    assert outcome.ending == "oom"
    assert "Unable to allocate 32.0 GiB" in outcome.reason


def test_a_hanging_worker_ends_in_time_and_nothing_of_its_group_is_left(tmp_path: Path) -> None:
    children: list[int] = []
    started = time.monotonic()
    outcome = launch(
        "tests.harness.jobs:leave_a_child",
        {"wait": True},
        folder=tmp_path,
        timeout_s=3,
        on_event=lambda event: children.append(event["pid"]),
    )
    assert (outcome.ending, outcome.reason) == ("timeout", "not finished after 3 s")
    assert time.monotonic() - started < 6
    assert children
    assert all(gone(pid) for pid in children)


def test_a_child_that_outlives_its_worker_is_ended_and_does_not_hold_up_the_parent(tmp_path: Path) -> None:
    children: list[int] = []
    started = time.monotonic()
    outcome = launch(
        "tests.harness.jobs:leave_a_child",
        {"wait": False},
        folder=tmp_path,
        timeout_s=60,
        on_event=lambda event: children.append(event["pid"]),
    )
    assert (outcome.ending, bytes(outcome.value)) == ("ok", b'"done"')
    assert time.monotonic() - started < 20
    assert all(gone(pid) for pid in children)


def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    pids: list[int] = []

    def kill_the_parent(event: dict[str, Any]) -> None:
        pids.append(event["pid"])
        os.kill(parent_of(event["pid"]), signal.SIGKILL)

    outcome = launch("tests.harness.jobs:launch_another", {}, folder=tmp_path, timeout_s=60, on_event=kill_the_parent)
    assert outcome.ending == "killed"
    assert len(pids) == 1
    assert gone(pids[0])


def parent_of(pid: int) -> int:
    return psutil.Process(pid).ppid()


def test_an_interrupt_ends_the_worker_before_it_goes_on(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(event: dict[str, Any]) -> None:
        pids.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch("tests.harness.jobs:sleep", {"seconds": 60}, folder=tmp_path, on_event=interrupt)
    assert gone(pids[0], within_s=0.1)


def test_a_worker_sees_only_the_allowed_part_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    said = msgspec.json.decode(
        launch("tests.harness.jobs:look_around", {}, folder=tmp_path, cores=1, timeout_s=60).value
    )
    seen = said["environment"]
    assert "PYTHONSTARTUP" not in seen
    assert "TF_DETERMINISTIC_OPS" not in seen
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert seen["OMP_NUM_THREADS"] == "1"
    assert (seen["GOMP_SPINCOUNT"], seen["PYTHONHASHSEED"]) == ("50000", "0")
    made_by_python = {"LC_CTYPE"}  # PEP 538: set by the interpreter itself in the C locale
    assert seen.keys() - made_by_python <= worker_environment(1).keys()
    assert worker_environment(1).keys() - set(PASSED_ON) == {
        "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "OMP_NUM_THREADS",
        "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
        "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONIOENCODING"}  # fmt: skip


def test_the_engine_is_chosen_before_anything_is_imported() -> None:
    assert worker_environment(1, "jax")["KERAS_BACKEND"] == "jax"
    assert "KERAS_BACKEND" not in worker_environment(1)


def test_a_worker_is_bound_to_its_cores_and_its_pools_are_told(tmp_path: Path) -> None:
    before = usable_cores()
    outcome = launch("tests.harness.jobs:look_around", {}, folder=tmp_path, cores=1, timeout_s=60)
    said = msgspec.json.decode(outcome.value)
    assert said["cores"] == before[-1:]
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    assert {said["environment"][name] for name in pools} == {"1"}
    assert said["blas"] <= 1
    assert usable_cores() == before


@pytest.mark.parametrize(("beside", "place"), [(1, -2), (99, -1)])
def test_a_worker_starts_beside_others_if_there_is_room_and_joins_them_with_all_its_threads(
    beside: int, place: int, all_cores: list[int], tmp_path: Path
) -> None:
    call = "tests.harness.jobs:look_at_threads"
    with Worker(call, {}, folder=tmp_path, cores=1, timeout_s=60, beside=beside) as worker:
        assert next(worker.events())["cores"] == 2 * [all_cores[-2:][place:][:1]]
        worker.join()
        worker.send({})
        assert list(worker.events()) == []
        assert msgspec.json.decode(worker.outcome().require()) == 2 * [all_cores[-1:]]


def test_what_a_worker_reported_in_time_is_read_after_its_limit_too(tmp_path: Path) -> None:
    with Worker("tests.harness.jobs:sleep", {"seconds": 60}, folder=tmp_path, timeout_s=2) as worker:
        time.sleep(2.5)
        assert list(worker.events()) == [{"pid": worker.pid}]
        assert worker.outcome().reason == "not finished after 2 s"


def test_a_worker_that_reports_without_end_ends_in_time(tmp_path: Path) -> None:
    began = time.monotonic()
    with Worker("tests.harness.jobs:report_without_end", {}, folder=tmp_path, timeout_s=2) as worker:
        assert {event["step"] for event in worker.events()} == {0}
        assert worker.outcome().ending == "timeout"
    assert time.monotonic() - began < 10


def test_a_worker_gets_its_folder_its_start_and_no_input(tmp_path: Path) -> None:
    before = time.time()
    said = msgspec.json.decode(run("look_around", tmp_path).value)
    assert said["folder"] == str(tmp_path)
    assert before <= said["started"] <= time.time()
    assert said["stdin"] == ""


def test_a_worker_starts_lean(tmp_path: Path) -> None:
    modules = msgspec.json.decode(run("look_around", tmp_path).value)["modules"]
    heavy = {"torch", "torchvision", "tensorflow", "keras", "jax", "pandas", "scipy", "PIL", "rich", "click"}
    assert not heavy & set(modules)


@pytest.mark.parametrize("module", ["harness.running.run", "harness.pairing.turns", "backends.reference.session"])
def test_what_a_measured_worker_imports_is_lean(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "scipy", "PIL", "psutil", "rich", "click"} & set(done.stdout.split())


def test_every_event_arrives_in_order(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    launch("tests.harness.jobs:work", {"seconds": 0, "steps": 5000}, folder=tmp_path, on_event=events.append)
    assert events == [{"step": step} for step in range(5000)]


def test_nobody_need_listen(tmp_path: Path) -> None:
    assert launch("tests.harness.jobs:work", {"seconds": 0, "steps": 5000}, folder=tmp_path).ending == "ok"


def test_the_parent_sleeps_while_a_worker_works(tmp_path: Path) -> None:
    """CPU seconds between the worker's first report and its end, over those seconds."""
    marks: list[tuple[float, float]] = []

    def note(event: dict[str, Any]) -> None:
        marks.append((time.monotonic(), thread_cpu_s()))

    gc.collect()  # a collection of what other tests left would take tens of milliseconds
    launch("tests.harness.jobs:work", {"seconds": 3, "steps": 1}, folder=tmp_path, on_event=note)
    (began, before), ended, after = marks[0], time.monotonic(), thread_cpu_s()
    assert ended - began > 2.9
    assert after - before < 0.005 * (ended - began)


def thread_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime


def test_a_long_run_without_a_word_is_no_reason_to_end(tmp_path: Path) -> None:
    assert run("sleep", tmp_path, seconds=2.5).ending == "ok"


def test_workers_can_be_launched_from_threads_at_once(tmp_path: Path) -> None:
    outcomes: dict[int, Outcome] = {}

    def one(number: int) -> None:
        outcomes[number] = run("add", tmp_path / str(number), left=number, right=0)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: msgspec.json.decode(o.value)["sum"] for n, o in outcomes.items()} == {0: 0, 1: 1, 2: 2}


def test_no_descriptor_is_left_open_in_the_parent(tmp_path: Path) -> None:
    run("add", tmp_path, left=1, right=1)
    before = open_descriptors()
    for function, arguments in (("add", {"left": 1, "right": 1}), ("crash", {})):
        run(function, tmp_path, **arguments)
    assert open_descriptors() == before


def open_descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def test_launching_imports_no_framework() -> None:
    code = (
        "import sys; from pathlib import Path; from harness.process.launch import launch; import tempfile\n"
        "with tempfile.TemporaryDirectory() as d:\n"
        "    assert launch('tests.harness.jobs:add', {'left': 1, 'right': 2}, folder=Path(d)).ending == 'ok'\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "tensorflow", "keras", "jax", "pandas", "numpy"} & set(done.stdout.split())
