"""`doctor`: what is installed, and a ceiling that is measured, stored and shown in the table."""

from __future__ import annotations

import re
from pathlib import Path

from harness.process.machine import describe_machine
from results.ceilings.stored import read_ceilings
from tests.benchmarks.commanding import ROOT, SMALL, invoke, refused


def test_the_doctor_names_machine_threads_backends_and_load() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    rows = [re.split(" {2,}", line, maxsplit=2) for line in result.stdout.splitlines()]
    found = {what: verdict for verdict, what, _ in rows}
    assert {"machine", "GPU", "threads", "pytorch", "keras3", "reference", "load", "disk", "system"} <= found.keys()
    assert set(found.values()) <= {"ok", "note", "warning"}
    assert describe_machine().key in result.stdout


def test_a_measured_ceiling_gives_the_runs_of_its_network_an_mfu(tmp_path: Path) -> None:
    network = ("--backend", "reference", "--model", "tiny-cnn", "--image-size", "32", "--batch-size", "8")
    measured = invoke("doctor", "--ceiling", *network, "--results", tmp_path)
    assert measured.exit_code == 0, measured.output
    (ceiling,) = read_ceilings(tmp_path)
    assert ceiling.machine == describe_machine().key
    rate = f"{ceiling.flops_per_second / 1e9:.1f} GFLOP/s"
    assert f"tiny-cnn, reference, 32 px, fp32, batch 8, threads {ceiling.threads}: {rate}" in measured.stdout
    done = invoke("run", *SMALL, "--scenario", "scratch", "--epochs", "4", "--results", tmp_path)
    assert done.exit_code == 0, done.output
    shown = invoke("table", "--wide", "--results", tmp_path).stdout
    assert "MFU" in shown
    assert "doctor --ceiling" not in shown
    assert re.search(r"MFU of scratch, tiny-cnn with reference: .*convolutions and products \d+%", shown)


def test_a_network_that_cannot_be_measured_is_named_with_the_reason(tmp_path: Path) -> None:
    plugin = ROOT / "docs" / "examples" / "my_backend.py"
    chosen = ("--plugin", plugin, "--backend", "mean-colour", "--results", tmp_path)
    result = invoke("doctor", "--ceiling", *chosen)
    assert result.exit_code == 3
    assert "mean-colour, mean-colour: no ceiling: mean-colour cannot compute the layers" in result.stdout
    assert read_ceilings(tmp_path) == ()


def test_options_for_a_ceiling_without_one_are_refused() -> None:
    assert "--image-size chooses networks for --ceiling; add --ceiling" in refused("doctor", "--image-size", "32")
