"""One answer for terminal, report and exports: what it chooses, what it never does, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.running.record import Record
from results.certificates.certificate import Certificate
from results.exports.pull_request import as_summary
from results.report.page_data import gather
from results.report.sections.results import answer_section
from results.tables.answer import OPTIMISTIC, answers, paragraphs
from tests.results.certificates.test_certificate import certificate
from tests.results.records import build
from tests.results.tables.test_table import tabulate

KERAS: dict[str, Any] = {"backend": "keras3", "engine": "tensorflow"}
JAX: dict[str, Any] = {"backend": "keras3", "engine": "jax"}


def taking(record: Record, epoch_s: float, first_s: float = 1.5) -> Record:
    """The record with epochs of so many seconds, and a first step of so many."""
    (stage,) = record.stages
    epochs = tuple(replace(epoch, seconds=epoch_s) for epoch in stage.epochs)
    windows = (replace(stage.windows[0], seconds=first_s), *stage.windows[1:])
    return replace(record, stages=(replace(stage, epochs=epochs, windows=windows),))


def said(folder: Path, *records: Record, certificates: tuple[Certificate, ...] = ()) -> list[list[str]]:
    table = tabulate(folder, *records)
    return paragraphs(answers(table, certificates), list(table["status"]))


def test_it_is_the_shortest_training_that_the_test_images_cannot_tell_from_the_best(tmp_path: Path) -> None:
    full, head = taking(build(scenario="full", accuracy=0.80), 9), taking(build(scenario="head", accuracy=0.79), 3)
    (answer,) = said(tmp_path, full, head, taking(build(scenario="scratch", accuracy=0.5), 2))
    assert answer == [
        "On embedded-target, the fastest way to the best accuracy was head of resnet18 with pytorch: 79.0 % after "
        "4.55 s of training (1 run, 1 seed).",
        "The highest accuracy of 3 cases is 80.0 % (full of resnet18). The resolution of 500 test images is ± 3.5 "
        "points; 2 cases are within it, and this one has the shortest training time.",
        "There is only one run, so the spread of accuracy and training time between runs is unknown.",
        OPTIMISTIC,
    ]


def test_seeds_and_runs_give_intervals_and_a_lone_seed_is_said(tmp_path: Path) -> None:
    (three,) = said(tmp_path / "three", *(build(seed=seed, accuracy=0.7 + seed / 100) for seed in range(3)))
    assert "71.0 % (95 % interval 68.5–73.5) after 2.55 s (2.55–2.55) of training (3 runs, 3 seeds)" in three[0]
    assert three[1:] == ["It is the only case."]
    (again,) = said(tmp_path / "again", build(), build())
    assert again[2:] == ["There is only one seed, so the spread of accuracy between seeds is unknown."]


def test_without_a_certificate_each_framework_has_an_answer_of_its_own_and_it_says_why(tmp_path: Path) -> None:
    ours, theirs = said(tmp_path, taking(build(), 9), taking(build(accuracy=0.99, **KERAS), 3))
    assert ours[0].startswith("On embedded-target, the fastest way to the best accuracy with pytorch was full of ")
    why = "It is not compared with the answer of {}: no certificate (`finetune-bench certify` makes a certificate)."
    assert why.format("keras3-tensorflow") in ours
    assert why.format("pytorch") in theirs
    assert "99.0" not in " ".join(ours)
    assert "75.0" not in " ".join(theirs)


def test_with_a_certificate_the_frameworks_are_compared_by_training_without_compiling(tmp_path: Path) -> None:
    ours = taking(build(), 2.0, first_s=0.1)  # 4 s, of which next to nothing is compiling
    theirs = taking(build(**KERAS), 2.5, first_s=2.4)  # 5 s, of which 2.35 s are compiling
    proof = certificate(ours, theirs)
    (answer,) = said(tmp_path, ours, theirs, certificates=(proof,))
    assert "was full of resnet18 with keras3-tensorflow: 75.0 % after 2.65 s of training" in answer[0]
    assert f"With pytorch the same case reached 75.0 % after 3.95 s (certificate {proof.sha256[:8]}, P3)." in answer


def test_under_a_certificate_the_accuracy_counts_before_the_time(tmp_path: Path) -> None:
    ours, theirs = taking(build(accuracy=0.9), 9), taking(build(accuracy=0.6, **KERAS), 2)
    (answer,) = said(tmp_path, ours, theirs, certificates=(certificate(ours, theirs),))
    assert "with pytorch: 90.0 %" in answer[0]


@pytest.mark.parametrize("changes", [{"scenario": "head"}, {"model": "resnet34"}, {"stage": {"weight_decay": 0.5}}])
def test_answers_that_are_different_cases_are_not_compared(changes: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = build(), build(**KERAS, **changes)
    found = said(tmp_path, ours, theirs, certificates=(certificate(ours, theirs), certificate(theirs, ours)))
    assert len(found) == 2
    assert (
        "It is not compared with the answer of keras3-tensorflow: the two frameworks have different best cases."
        in found[0]
    )


def test_a_certificate_of_two_frameworks_says_nothing_of_a_third(tmp_path: Path) -> None:
    ours, theirs, third = taking(build(), 4), taking(build(**KERAS), 5), taking(build(**JAX), 2)
    joined, alone = said(tmp_path, ours, theirs, third, certificates=(certificate(ours, theirs),))
    assert "with pytorch was full" in joined[0]
    assert any("With keras3-tensorflow the same case" in one for one in joined)
    assert "with keras3-jax was full" in alone[0]
    assert any("not compared with the answer of keras3-jax: no certificate" in one for one in joined)


def test_a_score_that_chose_its_own_epoch_is_never_preferred(tmp_path: Path) -> None:
    selected = build(scenario="selected", stage={"keep": "best"}, test_is_val=True, accuracy=0.99)
    (answer,) = said(tmp_path / "both", selected, build(scenario="fair", accuracy=0.6))
    assert "was fair of resnet18" in answer[0]
    assert answer[-1] == "Left out: 1 case (the epoch was selected on the images of the score)."
    (nothing,) = said(tmp_path / "alone", selected)
    assert nothing == ["There is no answer because no case is a candidate: 1 case (the epoch was selected on the "
                       "images of the score)."]  # fmt: skip


def test_an_idiom_is_never_an_answer(tmp_path: Path) -> None:
    (answer,) = said(tmp_path, build(idiom=True, accuracy=0.99), build(accuracy=0.6))
    assert "60.0 %" in answer[0]
    assert answer[-1] == "Left out: 1 case (each framework's own defaults)."


def test_settings_machines_and_packages_have_answers_of_their_own_and_are_named(tmp_path: Path) -> None:
    records = [build(), replace(build(accuracy=0.9), machine="m2"), build(threads=2), build(versions={"torch": "9"})]
    starts = [answer[0].partition(", the fastest")[0] for answer in said(tmp_path, *records)]
    assert len(set(starts)) == 4
    assert starts[1].startswith("On embedded-target (1 thread, machine m1, environment ")
    assert starts[2].startswith("On embedded-target (1 thread, machine m2, environment ")
    assert starts[3].startswith("On embedded-target (2 threads, machine m1, environment ")


def test_nothing_measured_is_said_with_what_became_of_the_cases(tmp_path: Path) -> None:
    found = said(tmp_path, build(status="failed"), build(status="skipped", seed=1))
    assert found == [["Nothing was measured, so there is no answer: 1 failed, 1 skipped."]]


def test_terminal_report_and_export_say_the_same(tmp_path: Path) -> None:
    from results.tables.render import render

    records = [taking(build(), 9), taking(build(scenario="head", accuracy=0.74), 3), build(**KERAS)]
    table = tabulate(tmp_path, *records)
    expected = paragraphs(answers(table))
    assert len(expected) == 2
    assert list(answer_section(gather(tmp_path)).paragraphs) == [" ".join(own) for own in expected]
    summary = as_summary(table).replace("\\", "").replace("*", "")
    text = " ".join(render(table).decode().split())
    for own in expected:
        for sentence in own:
            assert sentence in summary
            assert sentence in text
