"""The questions of level P4 for one arm of a certificate: optimizers, dropout layers, augmentations.

A question changes the session, so `reload` loads the same arrays before each question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from harness.certifying import gradient_tape
from harness.certifying.dropout_probe import Dropping, watch
from harness.contract import BUFFERS, Probe, Session
from harness.data.augment import AUGMENTATIONS, parse_augment
from harness.data.checkpoint import Normalisation
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.spec import Case, Optimizer, Part, Stage

DRAWS = 10_000
FULL = Stage(epochs=1, head_lr=1e-3, backbone_lr=1e-3)
HEAD = Stage(epochs=1, head_lr=0.01, backbone_lr=0.001, frozen="backbone", weight_decay=0.01)
PLAIN = Stage(epochs=1, head_lr=0.01, backbone_lr=0.001, optimizer=Optimizer(name="sgd", momentum=0.0))
Named = Iterator[tuple[str, NDArray[Any]]]
Reload = Callable[[], None]


def updates(session: Session, probe: Probe, kind: str, reload: Reload) -> Named:
    """Yield the head's tensors after each step of an update rule with given gradients (V18-V20)."""
    reload()
    names = {t.name: t.array.shape for t in session.state() if t.part == "head" and t.role not in BUFFERS}
    stage = replace(HEAD, optimizer=gradient_tape.RULES[kind])
    for step, tensors in enumerate(probe.play(stage, gradient_tape.factors(), gradient_tape.gradients(names))):
        for name, array in tensors.items():
            yield f"tape/{kind}/{step}/{name}", array


def movement(session: Session, probe: Probe, reload: Reload) -> Named:
    """Yield the mean step of each tensor by part when every gradient is 1, which is the part's learning rate (V22)."""
    reload()
    before = {t.name: t for t in session.state()}
    ones = {t.name: np.ones(t.array.shape) for t in before.values() if t.role not in BUFFERS}
    sizes: dict[Part, list[float]] = {"backbone": [], "head": []}
    for name, array in next(iter(probe.play(PLAIN, [1.0], [ones]))).items():
        sizes[before[name].part].append(float(np.abs(array - before[name].array).mean()))
    for part, values in sizes.items():
        yield f"ratio/{part}", np.array(values)


def dropped(probe: Probe, reload: Reload) -> Iterator[Dropping]:
    """Yield the behaviour of each dropout layer, with everything trained and with a frozen backbone (V13)."""
    for name, stage in (("full", FULL), ("freeze-conv", HEAD)):
        reload()
        yield from (watch(name, layer) for layer in probe.stochastic(stage, DRAWS))


def augmented(
    split: Split, case: Case, batch_size: int, normalisation: Normalisation, session: Session
) -> dict[str, str | None]:
    """Return the digest of one epoch of batches, as the session receives them, for each augmentation (V28)."""
    found = {}
    for name in AUGMENTATIONS:
        feed = Feed(
            split,
            batch_size=batch_size,
            epochs=1,
            seed=case.seed,
            image_size=case.image_size,
            normalisation=normalisation,
            augmentations=parse_augment(name),
            layout=session.batch_layout,
        )
        feed.epoch(0)
        found[name] = feed.delivered.pixels_sha256
    return found
