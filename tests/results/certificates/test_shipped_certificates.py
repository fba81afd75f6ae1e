"""The certificates that come with the project cover every pair of the default suite in the environment of `bench`."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import expand
from benchmarks.choosing.suites import SUITES
from benchmarks.preparing.embedded_networks import SHIPPED
from harness.data.checkpoint import read_meta
from results.certificates.certificate import Certificate, read_certificates
from results.certificates.scope import Subject, coverage_of, subject_of_case

CATALOGUE = read_catalogue()
CASES = [
    selected for one in SUITES["default"].selections for selected in expand(one, CATALOGUE) if selected.case.seed == 0
]
TWINS = {"pytorch", "keras3-tensorflow"}
FOUND = read_certificates(Path("no results here"))


def subjects(model: str, scenario: str) -> dict[str, Subject]:
    """By backend; packages as the certificate that covers them names them, since other versions are another matter."""
    digest = read_meta(SHIPPED / f"{model}.safetensors").sha256
    return {
        selected.case.backend_name: subject_of_case(replace(selected.case, checkpoint_sha256=digest), "", "cpu")
        for selected in CASES
        if (selected.case.model, selected.case.scenario.name) == (model, scenario)
    }


def of_its_versions(certificate: Certificate, subject: Subject) -> Subject:
    arm = next(arm for arm in certificate.arms if arm.backend == subject.backend)
    return subject._replace(packages=arm.packages)


def test_every_file_is_a_valid_certificate_and_known_to_be_shipped() -> None:
    assert FOUND.problems == ()
    assert FOUND.all and {one.sha256 for one in FOUND.all} == FOUND.shipped


@pytest.mark.parametrize("scenario", sorted({selected.case.scenario.name for selected in CASES}))
def test_every_scenario_of_the_default_suite_s_twins_is_covered(scenario: str) -> None:
    own = subjects("mobilenet-v2-0.35", scenario)
    assert set(own) == TWINS
    covering = [
        one
        for one in FOUND.all
        if coverage_of(*(of_its_versions(one, own[backend]) for backend in sorted(TWINS)), [one]).certificate
    ]
    assert covering


def test_the_certificate_is_of_the_pinned_versions() -> None:
    pinned = (Path(__file__).parents[3] / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    assert FOUND.all
    for certificate in FOUND.all:
        for arm in certificate.arms:
            for package in arm.packages.split(", "):
                name, version = package.split(" ")
                assert name == "finetune-bench" or f"{name}=={version}" in pinned, package


def test_the_legend_names_a_shipped_certificate_as_made_elsewhere() -> None:
    digest = next(iter(FOUND.shipped))
    from results.tables.sheet import _ratios
    from results.tables.side_by_side import ComparedRow, Ratio

    certificate = next(one for one in FOUND.all if one.sha256 == digest)
    ratio = Ratio(value=1.0, low=0.9, high=1.1, certificate=certificate, level=4)
    said = "\n".join(_ratios([ComparedRow({}, {}, {"keras3-tensorflow": ratio})], FOUND.shipped))
    assert f"certificate {digest[:8]}" in said and "on another machine and included in the project" in said
