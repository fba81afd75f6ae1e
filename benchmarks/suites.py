"""The suites that come with the project. A user's own is a TOML file with the same fields (see `selection`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.scenarios import FIVE, SCENARIOS
from benchmarks.selection import Selection


class Suite(NamedTuple):
    """A named list of selections."""

    name: str
    explanation: str
    selections: tuple[Selection, ...]


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "smoke",
            "one short case each of reference, PyTorch and Keras on TensorFlow, without pretraining: does it run here?",
            (
                Selection(backend=("reference",), model=("tiny-cnn",), scenario=("scratch",), epochs=2),
                Selection(backend=("pytorch",), model=("resnet18",), scenario=("scratch",), epochs=2),
                Selection(backend=("keras3",), model=("mobilenet-v2-0.35",), scenario=("scratch",), epochs=2),
            ),
        ),
        Suite(
            "default",
            "mobilenet-v2-0.35 in PyTorch and Keras, resnet18 and efficientnet-b0 in PyTorch, five scenarios",
            (
                Selection(
                    backend=("pytorch", "keras3"), model=("mobilenet-v2-0.35",), scenario=FIVE, seeds=2, epochs=6
                ),
                # A larger rate for few epochs, so that the suite ends within minutes on two slow cores.
                Selection(
                    backend=("pytorch",), model=("resnet18", "efficientnet-b0"), scenario=FIVE, epochs=5, lr=0.01
                ),
            ),
        ),
        Suite(
            "gate",
            "what `gate` compares if no suite is named: one training and one frozen case of PyTorch, one of Keras",
            (
                Selection(backend=("pytorch",), model=("resnet18",), scenario=("full", "freeze-conv")),
                Selection(backend=("keras3",), model=("mobilenet-v2-0.35",), scenario=("full",)),
            ),
        ),
        Suite(
            "full",
            "every scenario, every backend and its default models, three seeds, embedded task",
            (
                Selection(backend=("pytorch",), scenario=tuple(SCENARIOS), seeds=3),
                Selection(backend=("keras3",), scenario=tuple(SCENARIOS), seeds=3),
            ),
        ),
    )
}
