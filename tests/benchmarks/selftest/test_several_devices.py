"""Mistakes of data parallelism in Keras, and their report; those on gloo are in `test_scaling_certificate.py`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from msgspec.structs import replace

from benchmarks.selftest.several_devices import trials
from benchmarks.selftest.several_devices.mistakes import MISTAKES
from benchmarks.selftest.several_devices.trials import DeviceTrial, SeveralDevices
from harness.process.ask import ask
from tests.benchmarks.commanding import invoke

FORMS = len(MISTAKES) * 2


@pytest.mark.long
@pytest.mark.parametrize("engine", ["jax", "tensorflow"])
def test_on_two_devices_of_keras_each_mistake_is_found_and_a_correct_training_is_proved(engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    arguments = {"backend": "keras3", "engine": engine, "seed": 0}
    found = ask(trials.run, arguments, SeveralDevices, engine=engine, timeout_s=600)
    assert (found.backend, found.declined, found.clean) == (f"keras3-{engine}", "", ())
    assert len(found.trials) == FORMS
    rules = {(trial.name, trial.magnitude): " ".join(trial.found) for trial in found.trials}
    for mistake, rule in zip(MISTAKES, ("(V05)", "(V05)", "(V21)"), strict=True):
        for magnitude in ("gross", "subtle"):
            assert rule in rules[mistake.name, magnitude]
    subtle = next(trial for trial in found.trials if trial.name == MISTAKES[0].name and trial.magnitude == "subtle")
    assert not [check for check in subtle.found if check.startswith("P3 losses in float64")]
    assert [check for check in subtle.found if check.startswith("P3 buffers in float64")]


def trial(name: str, *found: str) -> DeviceTrial:
    return DeviceTrial(name=name, magnitude="gross", found=found)


ONE = SeveralDevices(backend="one", trials=(trial("a", "P3 (V05)"), trial("a"), trial("b", "P3 (V21)")))


def test_the_score_counts_mistakes_whose_both_forms_are_found_in_backends_that_prove_a_correct_training() -> None:
    assert trials.score([ONE]) == (1, 2)
    assert trials.score([ONE, replace(ONE, backend="other", clean=("P3 losses",))]) == (1, 4)
    assert trials.score([SeveralDevices(backend="none", declined="one device")]) == (0, 0)


def test_the_lines_name_backend_mistake_form_and_check() -> None:
    assert list(trials.described([ONE, SeveralDevices(backend="none", declined="one device")]))[1:] == [
        "ok  one, no mistake: every check passes",
        "ok  one, a, gross: P3 (V05)",
        "NO  one, a, gross: not found",
        "ok  one, b, gross: P3 (V21)",
        "--  none: one device",
    ]


def test_a_mistake_on_two_devices_that_is_not_found_makes_the_command_end_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = "benchmarks.commands.inspecting.selftest"
    monkeypatch.setattr(f"{command}.in_parts", lambda seed, on_event: [])
    monkeypatch.setattr(f"{command}.probe_all", lambda on_event: [])
    monkeypatch.setattr(trials, "try_all", lambda seed, on_event: [ONE])
    result = invoke("selftest", "--backends", "--quiet")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "1/2"
