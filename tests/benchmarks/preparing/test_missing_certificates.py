"""`run` makes the certificates that its cases lack before it measures, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.preparing.missing_certificates import lacking
from benchmarks.preparing.plan import PlannedCase
from harness.process.machine import Machine
from harness.spec import Job
from results.certificates.certificate import NO_CERTIFICATES, read_certificates
from tests.benchmarks.commanding import QUICK, invoke

MACHINE = Machine(cpu="Testor 1", cores=2, memory_gib=8, gpus=(), architecture="x86_64")
MIRROR = """
from types import SimpleNamespace

from msgspec.structs import replace

from backends import reference


def open_session(case, model, classes):
    session = reference.open_session(case, model, classes)
    train = session.train

    def other(stage, feed, clock):
        return train(replace(stage, weight_decay={decay}), feed, clock)

    session.train = other
    return session


names = {{name: getattr(reference, name) for name in reference.__all__}}
BACKENDS = {{"mirror": SimpleNamespace(**{{**names, "open_session": open_session}})}}
"""
"""A backend that is the reference backend under another name, but for its weight decay."""


def plugin(folder: Path, decay: str) -> Path:
    path = folder / "mirror.py"
    path.write_text(MIRROR.format(decay=decay))
    return path


def run(tmp_path: Path, images: Path, *more: str | Path, decay: str = "stage.weight_decay") -> tuple[int, str, str]:
    result = invoke(
        "run", *QUICK, "--backend", "mirror", "--model", "tiny-cnn", "--data", images, "--scenario", "scratch",
        "--plugin", plugin(tmp_path, decay), "--results", tmp_path / "results", *more,
    )  # fmt: skip
    return result.exit_code, result.stdout, result.stderr


def test_a_missing_certificate_is_made_before_measuring_and_once(images: Path, tmp_path: Path) -> None:
    code, table, said = run(tmp_path, images, "--certify", "require")
    assert code == 0, said
    assert "P4" in table and "≠" not in table
    assert said.index("certifying tiny-cnn in reference and mirror") < said.index("[1/2]")
    (made,) = (tmp_path / "results" / "certificates").iterdir()
    code, table, said = run(tmp_path, images)
    assert code == 0 and "P4" in table and "certifying" not in said
    assert list((tmp_path / "results" / "certificates").iterdir()) == [made]


def test_without_certifying_there_is_no_ratio(images: Path, tmp_path: Path) -> None:
    code, table, said = run(tmp_path, images, "--certify", "never")
    assert code == 0 and "≠ no certificate" in table and "certifying" not in said


def test_backends_that_differ_get_no_ratio_and_are_not_certified_again(images: Path, tmp_path: Path) -> None:
    code, table, said = run(tmp_path, images, "--certify", "require", decay="0.1")
    assert code == 3 and "≠ P2 only" in table and "(rounding)" not in table and "certifying" in said
    code, table, said = run(tmp_path, images, decay="0.1")
    assert code == 0 and "≠ P2 only" in table and "certifying" not in said


def planned(**wanted: object) -> list[tuple[SelectedCase, PlannedCase]]:
    """Cases of the default suite's twins, as if they were prepared."""
    cases = expand(
        Selection(**{"backend": ("pytorch", "keras3"), "model": ("mobilenet-v2-0.35",), **wanted}), read_catalogue()
    )  # type: ignore[arg-type]
    return [(selected, PlannedCase(selected.case, Job(case=selected.case, dataset_path=""))) for selected in cases]


def test_one_certificate_is_asked_for_all_scenarios_sizes_and_seeds_of_two_backends() -> None:
    (request,) = lacking(
        planned(scenario=("full", "freeze-conv"), image_size=(64, 96), seeds=2),
        read_catalogue(),
        NO_CERTIFICATES,
        MACHINE,
    )
    assert [scenario.name for scenario in request.scenarios] == ["full", "freeze-conv"]
    assert request.sizes == (64, 96)
    assert not request.priced
    assert [[selected.case.backend for selected in cases] for cases in request.arms] == [
        ["pytorch"] * 2,
        ["keras3"] * 2,
    ]


def test_recipes_of_one_scenario_and_precisions_have_certificates_of_their_own() -> None:
    recipes = lacking(planned(scenario=("full",), batch_size=(8, 16)), read_catalogue(), NO_CERTIFICATES, MACHINE)
    precisions = lacking(
        planned(scenario=("full",), precision=("fp32", "bf16")), read_catalogue(), NO_CERTIFICATES, MACHINE
    )
    assert (len(recipes), len(precisions)) == (2, 2)


@pytest.mark.parametrize("wanted", [{"backend": ("pytorch",)}, {"native_defaults": True}])
def test_a_model_in_one_backend_and_native_defaults_need_no_certificate(wanted: dict[str, object]) -> None:
    assert lacking(planned(scenario=("full",), **wanted), read_catalogue(), NO_CERTIFICATES, MACHINE) == []


def test_a_case_that_is_skipped_needs_no_certificate() -> None:
    skipped = [(selected, one._replace(job=None)) for selected, one in planned(scenario=("full",))]
    assert lacking(skipped, read_catalogue(), read_certificates(Path("nowhere")), MACHINE) == []
