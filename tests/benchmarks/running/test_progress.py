from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.running.progress import RunProgress
from harness.running.initial_weights import LoadReport
from tests.results.records import build


def shown(*events: dict[str, Any], cases: int = 2, terminal: bool = True) -> str:
    """What a terminal was sent; every event comes ten seconds after the one before."""
    screen, time_s = io.StringIO(), [0.0]
    console = Console(file=screen, force_terminal=terminal, width=200, color_system=None)
    with RunProgress(console, now=lambda: time_s[0]) as progress:
        progress.expect(cases)
        for event in events:
            time_s[0] += 10
            progress.on_event(event)
    return screen.getvalue()


def epoch(number: int, *, stage: int = 1, stages: int = 1, **more: Any) -> dict[str, Any]:
    done = {"stage": stage, "stages": stages, "epoch": number, "epochs": 4, "images_per_s": 123.4, "val_accuracy": 0.5}
    return {**done, **more}


def test_a_terminal_shows_case_epoch_speed_accuracy_and_time_left_already_in_the_first_case() -> None:
    text = shown({"begin": "pytorch/resnet18/full/seed0"}, epoch(1))
    assert "pytorch/resnet18/full/seed0" in text
    assert "epoch 1/4, 123 images/s, 50.0%, about 2 min left" in text  # an eighth of the work took 20 s


def test_time_left_shrinks_with_the_share_that_is_done() -> None:
    text = shown({"begin": "one"}, epoch(4), {"end": build()}, {"begin": "two"}, epoch(2, stage=2, stages=2))
    assert "stage 2/2, epoch 2/4, 123 images/s, 50.0%, about 7 s left" in text


def test_pretraining_tells_its_own_time_left() -> None:
    text = shown({"pretraining": "resnet18", **epoch(1)}, {"pretraining": "resnet18", **epoch(2)})
    assert "pretraining resnet18 (once, then cached)" in text
    assert "epoch 2/4, 123 images/s, 50.0%, about 20 s left" in text


@pytest.mark.parametrize("cases", [1, 2])
def test_without_a_terminal_each_case_has_a_line_that_begins_with_the_case(cases: int) -> None:
    begun = shown({"begin": "pytorch/resnet18/full/seed0"}, epoch(1), cases=cases, terminal=False)
    assert begun == f"[1/{cases}] pytorch/resnet18/full/seed0: "
    text = shown({"begin": "pytorch/resnet18/full/seed0"}, epoch(1), {"end": build()}, cases=cases, terminal=False)
    assert text == begun + "accuracy 75.0%, 320 images/s, 2.5 s of training, 12 s in all\n"


def test_without_a_terminal_each_trial_of_the_selftest_has_a_line() -> None:
    text = shown({"trying": "a missing update"}, {"trying": "no sin"}, {"trying": "no sin"}, terminal=False)
    assert text == "trying a missing update\ntrying no sin\n"


def test_without_a_terminal_preparing_pretraining_and_certifying_are_announced_once() -> None:
    certifying = {"certifying": "resnet18 in pytorch and keras3-jax", "scenarios": ["full", "two-stage"]}
    text = shown(
        {"preparing": "photos"}, {"preparing": "photos", "detail": "8 of 9 images"},
        {"pretraining": "resnet18", **epoch(1)}, {"pretraining": "resnet18", **epoch(2)},
        certifying, {"certifying": "pytorch in fp64", "asking": "full, stage 1"},
        terminal=False,
    )  # fmt: skip
    assert text.splitlines() == [
        "preparing photos",
        "pretraining resnet18 (once, then cached)",
        "certifying resnet18 in pytorch and keras3-jax (once, then stored): full, two-stage",
    ]


def test_what_the_import_of_a_checkpoint_chose_ends_on_the_cases_line() -> None:
    load = LoadReport(loaded=("a",), notes=("the weights in 'model' were taken", "padding is not known"))
    text = shown({"begin": "one"}, {"end": build(load=load)}, cases=1, terminal=False)
    assert text.endswith(
        "12 s in all; checkpoint: the weights in 'model' were taken; checkpoint: padding is not known\n"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_on_a_cluster_each_case_has_a_complete_line_with_its_node(terminal: bool) -> None:
    busy = {"measuring": 2, "nodes": 2}
    text = shown(busy, {"end": build(), "node": "10.0.0.7:1"}, busy, terminal=terminal)
    assert f"[1/2] {build().case.label} on 10.0.0.7:1: accuracy 75.0%" in text
    assert ("2 cases on 2 nodes" in text) is terminal
