"""What may take over ten minutes says so on stderr before it starts; what is short does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.commands.measuring.certify import announce
from benchmarks.comparing.budget import Limits
from benchmarks.comparing.cost import ExpectedCost, costs, total
from benchmarks.comparing.sides import expand_sides, read_sides
from benchmarks.preparing.certify import Request
from benchmarks.running.forecast import EMBEDDED, GMACS_PER_CORE_S, START_S, expected_s, nominal_s, say_if_long
from harness.running.evaluate import TRAIN_SAMPLE
from results.certificates.certificate import write_certificate
from tests.benchmarks.commanding import QUICK, SMALL, frozen_only, invoke, records
from tests.benchmarks.commands.measuring.test_gate import suite
from tests.results.certificates.test_certificate import certificate
from tests.results.records import build

CATALOGUE = read_catalogue()
NOTICE = "this is expected to take "
BROKEN = """
from msgspec.structs import replace
from backends import reference


def build(size):
    raise RuntimeError("broken")


MODELS = {"reference": [replace(reference.MODELS["tiny-cnn"], name="broken", build=build, gmacs=1e6)]}
"""
"""A model of much arithmetic that ends as soon as it is built."""


@pytest.fixture
def broken(tmp_path: Path) -> tuple[str | Path, ...]:
    """Options that choose a model which is expected to take long, and fails at once."""
    (tmp_path / "broken.py").write_text(BROKEN)
    return (*QUICK, "--model", "broken", "--scenario", "scratch", "--plugin", tmp_path / "broken.py",
            "--results", tmp_path / "results")  # fmt: skip


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((10.0, 600.0), ""),
        ((120.0, 601.0), "this is expected to take 2 to 10 min; do less\n"),
        ((0.0, 7200.0), "this is expected to take up to 120 min; do less\n"),
        ((900.0, 900.0), "this is expected to take about 15 min; do less\n"),
    ],
)
def test_over_ten_minutes_are_announced(
    span: tuple[float, float], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_if_long(*span, "do less")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", said)


def test_all_pairs_without_a_second_measurement_take_one_time_and_the_budget_ends_them(tmp_path: Path) -> None:
    specs = read_sides((), (), (), (), CATALOGUE)
    cases = expand_sides(specs, {"backend": ("reference",), "model": ("tiny-cnn",)}, CATALOGUE)
    noise = Limits(seeds=0, turn_s=5.0, every_pair=True, confirm=False)
    (one,) = costs(cases, noise, tmp_path, CATALOGUE)
    assert one.least_s == one.most_s > 20 * 12 * 5.0
    (two,) = costs(cases, noise._replace(every_pair=False, confirm=True), tmp_path, CATALOGUE)
    assert two == ExpectedCost(one.least_s / 2, one.most_s * 2)
    assert total(cases, noise._replace(budget_s=60.0), tmp_path, CATALOGUE) == ExpectedCost(60.0, 60.0)


def test_a_fixed_backbone_sees_evaluated_images_once_and_with_kept_features_each_view_once() -> None:
    def seconds(scenario: str, **settings: Any) -> float:
        wanted = {"backend": ("pytorch",), "model": ("resnet18",), "scenario": (scenario,), "epochs": 10, **settings}
        (selected,) = expand(Selection(**wanted), CATALOGUE)
        return (nominal_s(selected.case, CATALOGUE) - START_S["pytorch"]) / one_image

    gmacs = CATALOGUE.backends["pytorch"].models["resnet18"].gmacs
    one_image = gmacs * 64 * 64 / (224 * 224) / GMACS_PER_CORE_S
    train, evaluated = EMBEDDED[0], EMBEDDED[1] + TRAIN_SAMPLE
    assert seconds("full") == pytest.approx(10 * (3 * train + evaluated))
    assert seconds("freeze-conv") == pytest.approx(10 * train + evaluated)
    assert seconds("freeze-conv-live-norm") == pytest.approx(10 * (train + evaluated))
    for augment, views in {"none": 1, "flip": 2, "random-resized-crop,flip": 10}.items():
        kept = seconds("freeze-conv", features=("kept",), augment=(augment,))
        assert kept == pytest.approx(views * train + evaluated)


def test_what_ran_here_before_is_expected_to_take_as_long_again(finished_copy: Path) -> None:
    known = records(finished_copy)
    wanted = known[0].case
    alike = [one.total_s for one in known if one.case.scenario == wanted.scenario]
    assert expected_s([wanted], finished_copy, CATALOGUE) == [pytest.approx(sum(alike) / len(alike))]


@pytest.mark.parametrize("command", [("compare", "here", "here", "--seeds", "0"), ("noise",), ("run",)], ids=" ".join)
def test_a_long_comparison_and_a_long_run_say_so_unless_they_are_to_be_quiet(
    command: tuple[str, ...], broken: tuple[str | Path, ...]
) -> None:
    turns = () if command[0] == "run" else ("--turn", "60")
    said = invoke(*command, *broken, *turns)
    assert said.exit_code == 3, said.output
    assert said.stderr.count(NOTICE) == 1
    assert NOTICE not in invoke(*command, *broken, *turns, "--quiet").stderr


def test_a_short_run_says_nothing(tmp_path: Path) -> None:
    said = invoke("run", *SMALL, "--scenario", "scratch", "--results", tmp_path)
    assert said.exit_code == 0, said.output
    assert NOTICE not in said.stderr


def test_a_long_gate_says_so(tmp_path: Path) -> None:
    base = frozen_only(tmp_path / "base")
    arguments = ("--suite", suite(tmp_path, "scratch"), "--seeds", "0", "--turn", "60", "--results", tmp_path)
    said = invoke("gate", "--base", base, *arguments)
    assert said.exit_code == 3, said.output
    assert f"{NOTICE}120 to 48" in said.stderr


def test_a_long_search_says_so(tmp_path: Path) -> None:
    pythons = ("--python", "A=/nowhere/python", "--python", f"B={sys.executable}")
    said = invoke("bisect", *SMALL, "--scenario", "scratch", *pythons, "--turn", "6", "--results", tmp_path)
    assert said.exit_code == 2, said.output
    assert f"{NOTICE}up to 24" in said.stderr


def test_a_certificate_is_expected_to_take_as_long_as_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (
        expand(Selection(backend=(backend,), model=("resnet18",), scenario=("full",)), CATALOGUE)
        for backend in ("pytorch", "keras3")
    )
    request = Request((one, other), (64,), with_checkpoint=False)
    announce(request, tmp_path)
    assert capsys.readouterr().err == ""
    pair = build(backend="pytorch"), build(backend="keras3", engine="tensorflow")
    write_certificate(tmp_path, certificate(*pair, seconds=1800.0), "key")
    announce(request, tmp_path)
    assert f"{NOTICE}about 30 min" in capsys.readouterr().err
