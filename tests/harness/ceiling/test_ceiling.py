"""The arithmetic of a step and its shortest time, from planted times of layers."""

from __future__ import annotations

from typing import Any

import pytest

from harness.ceiling.ceiling import Ceiling, LayerTimes
from harness.spec import Frozen

BATCH = 16


def times(name: str, block: int, macs: int, until: int, *seconds: float, **fields: Any) -> LayerTimes:
    names = ("forward", "input gradient", "weight gradient")
    known: dict[str, Any] = {"kind": "Conv", "part": "head" if block < 0 else "backbone", **fields}
    return LayerTimes(
        name=name,
        block=block,
        macs=macs,
        gradient_until=until,
        seconds=dict(zip(names, seconds, strict=False)),
        **known,
    )


def make_ceiling(**fields: Any) -> Ceiling:
    """Two blocks of a convolution and a norm, and a head; 5, 7 and 1 MACs."""
    known: dict[str, Any] = {
        "machine": "m1", "backend": "pytorch", "model": "resnet18", "image_size": 64, "head": "linear", "device": "cpu",
        "device_name": "Testor 1", "precision": "fp32", "threads": 1, "idiom": False, "batch_size": BATCH,
        "cpu_over_wall": 1.0, "versions": {}, "made": "2026-01-01",
        "layers": (
            times("first", 0, 5, 0, 1.0, 100.0, 3.0),
            times("norm", 0, 0, 1, 20.0, 30.0, kind="Norm"),
            times("second", 1, 7, 1, 5.0, 6.0, 7.0),
            times("head", -1, 1, 2, 8.0, 9.0, 10.0),
        ),
    }  # fmt: skip
    return Ceiling(**{**known, **fields})


@pytest.mark.parametrize(
    ("frozen", "kept", "flops", "seconds"),
    [
        ("none", "none", 2 * (2 * 5 + 3 * 7 + 3), (1 + 3) + (5 + 6 + 7) + (8 + 9 + 10)),
        (1, "none", 2 * (5 + 2 * 7 + 3), 1 + (5 + 7) + (8 + 9 + 10)),
        (1, 1, 2 * (2 * 7 + 3), (5 + 7) + (8 + 9 + 10)),
        ("backbone", "none", 2 * (5 + 7 + 2), 1 + 5 + (8 + 10)),
        ("backbone", "backbone", 2 * 2, 8 + 10),
    ],
)
def test_frozen_layers_pay_no_backward_pass_and_kept_ones_nothing(
    frozen: Frozen, kept: Frozen, flops: int, seconds: float
) -> None:
    cost = make_ceiling().step(frozen, kept)
    assert cost.flops == flops
    assert cost.seconds == pytest.approx(seconds / BATCH)


def test_layers_without_arithmetic_have_seconds_and_no_flops_while_they_are_trained() -> None:
    assert make_ceiling().step().other_seconds == {"Norm": pytest.approx(50 / BATCH)}
    assert make_ceiling().step(1).other_seconds == {}


def test_rates_and_bytes_of_each_pass_are_those_of_its_time() -> None:
    layers = (
        times("norm", 0, 0, 1, 2.0, 4.0, kind="Norm", tensor_bytes=600),
        times("conv", 0, 5, 0, 1.0, 5.0, 2.0, tensor_bytes=80),
        times("of an older file", 1, 7, 1, 5.0, 6.0, 7.0),
    )
    ceiling = make_ceiling(layers=layers)
    flops = 2 * 5 * BATCH
    assert list(ceiling.rates()) == [
        ("conv", "forward", flops / 1.0, flops / 80),
        ("conv", "input gradient", flops / 5.0, flops / 80),
        ("conv", "weight gradient", flops / 2.0, flops / 80),
    ]
    assert ceiling.bytes_per_second == 600 / 2.0
    assert ceiling.step().tensor_bytes == pytest.approx(2 * 80 / BATCH)  # its input needs no gradient
    assert make_ceiling().bytes_per_second == 0


def test_a_ceiling_is_disturbed_if_threads_of_a_cpu_lacked_a_core() -> None:
    assert make_ceiling(cpu_over_wall=0.8).disturbed
    assert not make_ceiling(cpu_over_wall=0.95).disturbed
    assert make_ceiling(cpu_over_wall=1.5, threads=2).disturbed
    assert not make_ceiling(cpu_over_wall=0.2, device="cuda").disturbed


def test_the_ceiling_is_the_sum_of_flops_over_the_sum_of_times_and_the_peak_one_layer() -> None:
    ceiling = make_ceiling()
    assert ceiling.flops_per_second == pytest.approx(BATCH * 2 * 34 / 49)
    assert ceiling.peak == (pytest.approx(2 * 5 * BATCH / 1.0), "first, forward")
