"""Pieces that are missing give a page that says so."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from harness.running.record import Record
from results.certificates.certificate import write_certificate
from results.report.page import page
from results.report.page_data import gather
from results.report.section import Chart, Section
from results.report.write import CHARTS, limited, sections, write_report
from tests.results.certificates.test_certificate import KERAS, certificate
from tests.results.records import build, without_training_images
from tests.results.report.conftest import Open
from tests.results.report.records import many, store_run


def page_of(folder: Path, *records: Record, end: bool = True, planned: tuple[str, ...] = ()) -> str:
    store_run(folder, *records, end=end, planned=planned)
    write_report(folder, folder / "report.html")
    return (folder / "report.html").read_text()


def test_only_failures(tmp_path: Path, open_page: Open) -> None:
    text = page_of(tmp_path, build(status="failed", reason="the loss is not finite"), build(status="oom", seed=1))
    assert "Nothing was measured, so there is no answer: 1 failed, 1 oom." in text
    assert "the loss is not finite" in text
    said = open_page(tmp_path / "report.html").locator("main").inner_text()
    for sentence in ("No case has a figure.", "No case finished an epoch.", "No step was timed.",
                     "No predictions are stored.", "No process recorded the parts of its time."):  # fmt: skip
        assert sentence in said


def test_no_record_at_all(tmp_path: Path) -> None:
    text = page_of(tmp_path, planned=("a", "b"), end=False)
    assert "planned 2 cases and has no record of 2 of them" in text
    assert "There are no records." in text


def test_more_charts_than_can_be_looked_at_are_left_out_and_it_is_said() -> None:
    section = Section("wall", "Where the time goes", charts=(Chart("wall", "", "", {}),) * (CHARTS + 5))
    assert limited(section).charts == section.charts[:CHARTS]
    assert limited(section).notes == ("40 of 45 charts are drawn; the tables have all cases.",)
    assert limited(limited(section)) == limited(section)


def test_no_accuracy(tmp_path: Path) -> None:
    record = replace(build(), test=None, val=None)
    assert "no case is a candidate: 1 case (no accuracy or no training time)." in page_of(tmp_path, record)


def test_one_run_of_one_case_has_no_interval_and_nothing_to_compare(tmp_path: Path) -> None:
    text = page_of(tmp_path, build())
    assert "It is the only case." in text
    assert "There is only one run, so the spread of accuracy and training time between runs is unknown." in text
    assert "No certificate found. Use `finetune-bench certify` to create one." in text


def test_a_run_that_was_cut_off_says_what_it_lacks(tmp_path: Path) -> None:
    record = build()
    text = page_of(tmp_path, record, planned=(record.key, "never"), end=False)
    assert "has no record of 1 of them; `run --resume` runs the missing cases" in text


def test_two_protocols_are_two_settings_with_an_answer_each(tmp_path: Path) -> None:
    first = store_run(tmp_path, build(), build(seed=1))
    old = first.read_bytes().replace(b'"protocol":', b'"protocol":9')
    first.with_name(f"{'0' * 25}1.jsonl").write_bytes(old.replace(first.stem.encode(), b"0" * 25 + b"1"))
    material = gather(tmp_path)
    settings = [case.setting for case in material.shown]
    assert len(settings) == 2
    assert len(set(settings)) == 2
    text = page(material, sections(material), "mixed")
    assert all(setting in text for setting in settings)
    assert text.count("the fastest way to the best accuracy was") == 2


def test_logits_of_other_classes_than_the_record_names_are_not_shown(tmp_path: Path) -> None:
    store_run(tmp_path, *many(seeds=1))
    file = next((tmp_path / "runs").rglob("*.jsonl"))
    file.write_bytes(file.read_bytes().replace(b',"bee"]', b"]", 1))
    write_report(tmp_path, tmp_path / "report.html")
    assert "its logits do not match the 2 classes of its record" in (tmp_path / "report.html").read_text()


def test_logits_that_are_gone_and_images_that_are_gone_are_named(tmp_path: Path) -> None:
    store_run(tmp_path, *many(seeds=1))
    write_report(tmp_path, tmp_path / "report.html")
    assert "The images are not shown" in (tmp_path / "report.html").read_text()
    next((tmp_path / "objects").rglob("*.npz")).unlink()
    write_report(tmp_path, tmp_path / "report.html")
    assert "copy the whole objects folder along with the runs" in (tmp_path / "report.html").read_text()


def test_training_images_that_were_not_evaluated_have_no_curve(tmp_path: Path, open_page: Open) -> None:
    page_of(tmp_path, without_training_images(build(curve=(0.5, 0.7))))
    lines = """[...window.report.views].filter(([id]) => id.startsWith("learning-accuracy"))
        .flatMap(([, view]) => view.data("epochs").map((row) => [row.split, row.epoch]))"""
    assert open_page(tmp_path / "report.html").evaluate(lines) == [["validation", 1], ["validation", 2]]


def test_a_certificate_allows_a_ratio_and_is_listed_with_what_it_proved(tmp_path: Path) -> None:
    one, other = build(), build(**KERAS, step_us=60_000)
    proof = certificate(one, other)
    write_certificate(tmp_path, proof, "k")
    text = page_of(tmp_path, one, other)
    assert "× 0.83 P3" in text
    assert "No certificate found" not in text
    assert "pytorch and keras3-tensorflow" in text
    assert proof.sha256[:8] in text
