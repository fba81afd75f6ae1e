"""How exactly the real backends compute here, with their switches either way, and on how many threads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest

from benchmarks.selftest.real import Probed, described, faults
from harness.process.launch import launch
from harness.running.numerics import CoreUse, Numerics

BACKENDS = [
    ("pytorch", None, "resnet18"),
    ("keras3", "tensorflow", "mobilenet-v2-0.35"),
    ("keras3", "jax", "mobilenet-v2-0.35"),
    ("keras3", "torch", "mobilenet-v2-0.35"),
]


@cache
def probed(folder: Path, backend: str, engine: str | None, model: str) -> Probed:
    arguments = {"backend": backend, "engine": engine, "model": model}
    outcome = launch(
        "benchmarks.selftest.real:probe", arguments, folder=folder / f"{backend}-{engine}", cores=1, engine=engine
    )
    return msgspec.json.decode(outcome.require(), type=Probed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numerics")


@pytest.mark.parametrize(("backend", "engine", "model"), BACKENDS)
def test_V32_products_and_convolutions_are_as_exact_as_float32_with_the_switch_off(
    folder: Path, backend: str, engine: str | None, model: str
) -> None:
    found = probed(folder, backend, engine, model)
    assert faults(found) == []
    assert len(found.switched) == 2
    for asked in (found.numerics, found.switched[next(name for name in found.switched if "TF32 off" in name)]):
        assert asked is not None
        assert asked.product_bits > 18
        assert asked.convolution_bits > 18


@pytest.mark.parametrize(("backend", "engine", "model"), BACKENDS)
def test_V37_one_thread_on_one_core_is_one_thread(folder: Path, backend: str, engine: str | None, model: str) -> None:
    found = probed(folder, backend, engine, model)
    assert found.bound is not None
    assert found.bound.cores < 1.05
    assert found.bound.threads < 1.5


@pytest.mark.parametrize(("backend", "engine", "model"), BACKENDS)
def test_V38_what_becomes_of_denormals_is_known(folder: Path, backend: str, engine: str | None, model: str) -> None:
    found = probed(folder, backend, engine, model)
    assert found.numerics is not None
    assert found.numerics.flushes_denormals is not None
    if backend == "pytorch":
        assert found.numerics.flushes_denormals is True
        assert [asked.flushes_denormals for asked in found.switched.values()] == [True, False]


def test_what_is_not_as_declared_is_said_with_its_rule() -> None:
    tf32 = Numerics(product_bits=11.7, convolution_bits=21.0, flushes_denormals=True)
    fine = Numerics(product_bits=21.9, convolution_bits=21.0, flushes_denormals=False)
    made = Probed(
        backend="b", numerics=tf32, switched={"TF32 off": fine, "TF32 on": tf32}, bound=CoreUse(cores=1.9, threads=2.0)
    )
    assert faults(made) == [
        "a product keeps 12 bits of mantissa with the default settings (V32)",
        "1.90 cores were busy with one thread (V37)",
    ]
    _, first, second, *_ = described([made, Probed(backend="c", declined="not installed")])
    assert first.startswith("NO  b: product 11.7")
    assert second == "      one thread, bound to a core: 1.90 cores and 2.0 threads busy (V37)"
    assert list(described([Probed(backend="c", declined="not installed")]))[1] == "--  c: not installed"
