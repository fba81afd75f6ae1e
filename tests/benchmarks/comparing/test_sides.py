"""Reading the two sides of a comparison, and what must not be compared."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.comparing.sides import SideSpec, expand_sides, read_share, read_sides, sides_differ
from harness.errors import Refused
from tests.benchmarks.commanding import SMALL, invoke, refused

CATALOGUE = read_catalogue()


def sides(
    *texts: str, python: tuple[str, ...] = (), settings: tuple[str, ...] = (), delay: tuple[str, ...] = ()
) -> tuple[SideSpec, SideSpec]:
    return read_sides(texts, python, settings, delay, CATALOGUE)


def test_backends_revisions_folders_interpreters_and_settings_are_sides() -> None:
    assert sides("pytorch", "keras3-jax")[1].settings == {"backend": ("keras3",), "engine": ("jax",)}
    assert sides("rev:main", "rev:HEAD")[0].revision == "main"
    assert sides("dir:/base", "here")[0].folder == Path("/base")
    assert sides(python=("B=/usr/bin/python3",))[1].python == "/usr/bin/python3"
    assert sides(settings=("B.precision=bf16", "B.batch-size=4"))[1].settings == {
        "precision": ("bf16",),
        "batch_size": (4,),
    }
    assert sides(delay=("B=5%",))[1].delay == 0.05


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"texts": ("pytorch",)}, "pytorch: give two sides, such as `pytorch keras3`"),
        ({"texts": ("pytroch", "keras3")}, "did you mean pytorch"),
        ({"settings": ("C.precision=bf16",)}, r"--set C.precision=bf16: C is not a side \(A or B\); write B.p"),
        ({"settings": ("precision=bf16",)}, "--set precision=bf16: precision is not a side .+; write B.precision=bf16"),
        ({"settings": ("B.precision",)}, "--set B.precision: no value; write B.precision=bf16"),
        ({"settings": ("B.precison=bf16",)}, "--set B.precison=bf16: .*did you mean precision"),
        ({"settings": ("B.precision=half",)}, "half is not a value .+; write one of fp32, tf32, bf16, fp16, fp64"),
        ({"settings": ("B.threads=many",)}, "--set B.threads=many: many is not a value of threads"),
        ({"settings": ("B.data=cats",)}, "data must be the same on both sides; write --data cats"),
        ({"python": ("/usr/bin/python3",)}, "--python /usr/bin/python3: .+ is not a side .+; write B=venv/bin/python"),
        ({"delay": ("5%",)}, "--inject-delay 5%: 5% is not a side .+; write B=5%"),
        ({"delay": ("B=fast",)}, "is not a percentage"),
        ({"delay": ("B=-5%",)}, "must be between"),
    ],
)  # fmt: skip
def test_sides_that_cannot_be_read_are_refused_with_what_to_write(call: dict[str, tuple[str, ...]], says: str) -> None:
    texts = call.pop("texts", ())
    with pytest.raises(Refused, match=says):
        sides(*texts, **call)


def test_a_share_is_written_either_way() -> None:
    assert read_share("3%", "--margin") == read_share("0.03", "--margin") == 0.03


def test_sides_have_the_same_models_and_scenarios() -> None:
    both = expand_sides(
        sides("pytorch", "keras3"), {"model": ("resnet18",), "scenario": ("full", "scratch")}, CATALOGUE
    )
    assert [(a.case.backend, b.case.backend, a.case.scenario.name) for a, b in both] == [
        ("pytorch", "keras3", "full"), ("pytorch", "keras3", "scratch")
    ]  # fmt: skip
    with pytest.raises(Refused, match=r"different cases: A has .+; B has .+; choose cases of both with --model"):
        expand_sides(
            sides(settings=("B.scenario=scratch",)), {"model": ("resnet18",), "scenario": ("full",)}, CATALOGUE
        )


def test_without_a_scenario_only_full_is_compared() -> None:
    ((a, b),) = expand_sides(sides(), {"backend": ("pytorch",), "model": ("resnet18",)}, CATALOGUE)
    assert a.case == b.case
    assert a.case.scenario.name == "full"


def test_other_data_another_checkpoint_and_an_idiom_are_refused_with_the_field(tmp_path: Path) -> None:
    common = ("compare", "--scenario", "scratch", "--seeds", "0", "--results", tmp_path, *SMALL)
    assert "must be the same on both sides" in refused(*common, "--set", "B.data=elsewhere")
    assert "differ in dataset_sha256" in refused(*common, "--set", "B.image_size=64")
    assert "only one side has native defaults" in refused(*common, "--set", "B.native-defaults=true")
    assert not (tmp_path / "runs").exists() or not list(tmp_path.rglob("pair"))


@pytest.mark.parametrize(
    "sides",
    [
        (),
        ("--set", "B.precision=fp32"),
        ("--set", "A.threads=1", "--set", "B.threads=1"),
        ("--inject-delay", "B=0%"),
        ("--python", f"A={sys.executable}"),
        ("--dry-run",),
    ],
    ids=" ".join,
)
def test_two_sides_that_do_not_differ_are_refused_with_the_ways_to_name_them(
    sides: tuple[str, ...], tmp_path: Path
) -> None:
    line = refused("compare", *sides, "--scenario", "scratch", "--results", tmp_path, *SMALL)
    assert "A and B are the same" in line
    assert all(way in line for way in ("compare pytorch keras3", "rev:main here", "--set", "--python", "noise"))
    assert list(tmp_path.iterdir()) == []


def test_two_sides_that_differ_in_anything_are_compared() -> None:
    for specs in (
        sides(settings=("B.threads=3",)),
        sides(python=("B=/usr/bin/python3.12",)),
        sides(delay=("B=5%",)),
        sides("rev:main", "here"),
        sides("dir:/base", "here"),
    ):
        assert sides_differ(specs, expand_sides(specs, {"backend": ("reference",)}, CATALOGUE))


def test_two_backends_without_a_certificate_are_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    said = refused("compare", "pytorch", "keras3", "--model", "resnet18", "--scenario", "scratch", "--limit", "32",
                   "--image-size", "32", "--results", tmp_path)  # fmt: skip
    assert "cannot be compared: no certificate" in said
    assert "certify resnet18 --backends pytorch keras3-tensorflow" in said


def test_fewer_pairs_than_a_look_needs_and_an_interpreter_that_is_none_are_refused(tmp_path: Path) -> None:
    common = ("compare", "here", "here", "--scenario", "scratch", "--results", tmp_path, *SMALL)
    assert "--pairs 9: must be from 10 to 20" in refused(*common, "--pairs", "9")
    assert "cannot be run" in refused(*common, "--python", "B=/nowhere/python")


def test_an_interpreter_without_the_packages_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    said = refused("compare", "--scenario", "scratch", "--results", tmp_path, *SMALL, "--python", f"B={bare}")
    assert "side B" in said
    assert "cannot run the harness" in said


def test_a_dry_run_says_what_it_costs_and_measures_nothing(tmp_path: Path) -> None:
    sides = ("--inject-delay", "B=5%")
    said = invoke("compare", *sides, "--scenario", "scratch", "--results", tmp_path, *SMALL, "--dry-run").output
    assert "1 cases" in said
    assert "min if the verdicts are clear after 10 pairs" in said
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(("cores", "options", "said"), [(2, (), "2 to 8 min"), (1, (), "3 to 12 min"),
                                                        (2, ("--alternate",), "3 to 12 min")])  # fmt: skip
def test_a_dry_run_counts_the_starts_once_where_both_have_cores(
    cores: int, options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.comparing.cost.usable_cores", lambda: list(range(cores)))
    case = ("--backend", "pytorch", "--model", "resnet18", "--scenario", "scratch", "--seeds", "0")
    assert said in invoke("compare", "here", "here", *case, *options, "--results", tmp_path, "--dry-run").output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"python": ("A=old", "A=new")}, "--python is given twice for A"),
        ({"settings": ("B.layout=channels-first", "B.layout=channels-last")}, "--set is given twice for B.layout"),
        ({"settings": ("B.batch-size=8", "B.batch_size=16")}, "--set is given twice for B.batch-size"),
        ({"delay": ("B=3%", "A=1%", "B=8%")}, "--inject-delay is given twice for B"),
    ],
)
def test_a_second_value_for_the_same_side_is_refused(given: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(Refused, match=words):
        sides(**given)
