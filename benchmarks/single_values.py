"""Batches of one image: where batch norm would get a single value per channel, the case is refused before it runs."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from harness.errors import Refused
from harness.launch import launch
from harness.run import open_case
from harness.spec import Case, Part, Scenario, Stage

ANY = Scenario(name="any", explanation="", stages=(Stage(epochs=1, head_lr=0.1, backbone_lr=0.1),), start="random")


class SingleValued(msgspec.Struct, frozen=True, kw_only=True):
    """A batch-norm layer that gets one value per channel and image."""

    layer: str
    part: Part
    block: int


def refuse_single_values(case: Case, plugins: Sequence[str]) -> None:
    """Raise `Refused` for a stage whose batches are one image of one value per channel for some batch norm.

    A worker builds the network to tell, only where a stage has batches of one image.
    """
    asked = [(number, stage) for number, stage in enumerate(case.scenario.stages, 1) if stage.batch_size == 1]
    if not asked:
        return
    alike = replace(case, scenario=ANY, dataset="", dataset_sha256="", seed=0, compile=False)
    norms = _asked(msgspec.json.encode(alike), tuple(plugins))
    for number, stage in asked:
        for norm in norms:
            if stage.uses_batch_statistics(norm.part, norm.block):
                raise Refused(
                    f"{case.scenario.name}, stage {number}: a batch of 1 image of {case.image_size} px leaves "
                    f"{norm.layer} of {case.model} one value per channel, which batch norm cannot normalise; use a "
                    "--batch-size of 2 or more, a larger --image-size or --norm frozen"
                )


@functools.cache
def _asked(case: bytes, plugins: tuple[str, ...]) -> list[SingleValued]:
    engine = msgspec.json.decode(case, type=Case).engine
    arguments = {"case": msgspec.json.decode(case), "plugins": plugins}
    with tempfile.TemporaryDirectory() as folder:
        outcome = launch("benchmarks.single_values:single_valued", arguments, folder=Path(folder), engine=engine)
    # A network that cannot be built here is no fault of its batches; the run says what it is.
    return msgspec.json.decode(outcome.value, type=list[SingleValued]) if outcome.ending == "ok" else []


def single_valued(case: dict[str, Any], plugins: list[str]) -> list[SingleValued]:
    """Batch-norm layers of a case's network whose output has one value per channel, in order. Runs in a worker."""
    wanted = msgspec.convert(case, Case)
    backend, model = open_case(wanted, plugins)
    session = backend.open_session(wanted, model, 2)
    outputs = {layer.name: layer.output for layer in session.layers()}
    return [
        SingleValued(layer=name, part=tensor.part, block=tensor.block)
        for tensor in session.state()
        if tensor.role == "norm_mean"
        and (name := tensor.name.rpartition(".")[0]) in outputs
        and math.prod(outputs[name][1:]) == 1
    ]
