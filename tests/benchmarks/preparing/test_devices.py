"""What cannot be done on several devices is declined or refused in one line, before the run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.selection import Selection, expand
from benchmarks.preparing.plan import refuse_undivided, without_devices
from harness.errors import Refused
from harness.process.machine import measuring_threads
from harness.spec import Case
from tests.benchmarks.commanding import SMALL, invoke, refused
from tests.harness.test_spec import CASE

TWO = replace(CASE, devices=2)


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"features": "kept"}, "--features live"),
        ({"input": "stream"}, "--input arrays"),
        ({"input": "native"}, "--input arrays"),
        ({"compile": True}, "leave out --compile"),
        ({"idiom": True}, "leave out --native-defaults"),
        ({"keep_memory": True}, "leave out --keep-memory"),
        ({"fold_norms": True}, "leave out --fold-norms"),
        ({"precision": "fp16"}, "use --precision bf16"),
        ({"optimizer_rule": "own"}, "leave out --optimizer-rule own"),
    ],
)
def test_a_setting_that_needs_one_device_is_declined_with_its_remedy(fields: dict[str, Any], remedy: str) -> None:
    assert remedy in str(without_devices(replace(TWO, **fields)))
    assert without_devices(replace(CASE, **fields)) is None
    assert without_devices(TWO) is None


def test_a_batch_that_does_not_divide_is_refused_by_its_stage() -> None:
    refuse_undivided(TWO)
    with pytest.raises(Refused, match=r"^own, stage 1: a batch of 16 images .* 3 devices; use --batch-size 15 or"):
        refuse_undivided(replace(CASE, devices=3))


def test_statistics_of_each_device_need_several_devices() -> None:
    refuse_undivided(replace(TWO, norm_scope="device"))
    with pytest.raises(Refused, match="use it with --devices 2"):
        refuse_undivided(replace(CASE, norm_scope="device"))


def test_the_command_refuses_before_anything_runs() -> None:
    assert "cannot be divided between 3 devices" in refused("run", *SMALL, "--scenario", "scratch", "--devices", "3")
    assert refused("run", *SMALL, "--devices", "0") == "error: --devices 0: must be at least 1"


def test_a_backend_without_data_parallelism_says_so() -> None:
    found = invoke("run", *SMALL, "--scenario", "scratch", "--devices", "2", "--quiet")
    assert found.exit_code == 3
    assert "the reference backend has no data parallelism; leave out --devices" in found.output


def test_the_default_threads_leave_a_core_free_of_all_devices() -> None:
    def cases(**chosen: Any) -> list[Case]:
        wanted = {"backend": ("pytorch",), "model": ("resnet18",), "scenario": ("full",), **chosen}
        return [selected.case for selected in expand(Selection(**wanted), read_catalogue())]

    one, two = cases(devices=(1, 2))
    assert one.threads == two.threads == max(1, measuring_threads() // 2)
    assert (one.cores, two.cores) == (one.threads, 2 * one.threads)
    assert cases()[0].threads == measuring_threads()
