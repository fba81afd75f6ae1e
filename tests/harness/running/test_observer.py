"""What is seen of a session while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from msgspec.structs import replace

from harness.contract import Session, Tensor
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.feed import Feed
from harness.running.observer import StageObserver, Work
from harness.spec import Stage

STAGE = Stage(epochs=2, head_lr=0.1, backbone_lr=0.1, frozen=1, batch_size=4)


def feed(kind: Any = "stream") -> Feed:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    split = Split(pixels, np.zeros(8, np.int64), np.arange(8))
    return Feed(
        split, batch_size=4, epochs=2, seed=0, image_size=8, normalisation=NORMALISATIONS["imagenet"],
        augmentations=(), layout="nhwc", input=kind,
    )  # fmt: skip


class Watched:
    """A session that counts, with norm layers in a frozen and in a free block."""

    def __init__(self) -> None:
        self.done = Work(forwards=5, backwards=5, updates=5, samples=20, inferences=3)
        self.state_now: dict[str, Mapping[str, Any]] = {}
        self.counters = {"frozen.count": 7, "free.count": 7}

    def work(self) -> Work:
        return self.done

    def did(self, **more: int) -> None:
        self.done = replace(self.done, **{name: getattr(self.done, name) + count for name, count in more.items()})

    def slots(self) -> Mapping[str, Mapping[str, Any]]:
        return self.state_now

    def state(self) -> Iterator[Tensor]:
        for block, (name, count) in enumerate(self.counters.items()):
            yield Tensor(name, np.array(count), "backbone", block, "counter")


def witness(session: Any, of: Feed) -> StageObserver:
    return StageObserver(cast(Session, session), STAGE, of)


def test_V07_work_is_that_of_the_stage_and_inferences_those_inside_the_window() -> None:
    session, given = Watched(), feed()
    seen = witness(session, given)
    for epoch in range(2):
        seen.epoch_begins(epoch)
        session.did(forwards=2, backwards=2, updates=2, samples=8, inferences=epoch)
        seen.epoch_ends()
        session.did(inferences=40)
    assert _whole(seen, session) == Work(forwards=4, backwards=4, updates=4, samples=16, inferences=1)


def _whole(seen: StageObserver, session: Watched) -> Work | None:
    for _ in range(2):
        list(seen.passing(session.state()))
    return seen.seen().work


def test_V07_norm_layers_that_should_count_are_counted_and_frozen_ones_are_not() -> None:
    session, given = Watched(), feed()
    seen = witness(session, given)
    assert [tensor.name for tensor in seen.passing(session.state())] == ["frozen.count", "free.count"]
    session.counters = {"frozen.count": 7, "free.count": 11}
    list(seen.passing(session.state()))
    assert seen.seen().norm_forwards == (4, 4)


def test_V17_optimizer_state_is_looked_at_before_the_first_step_only() -> None:
    session, given = Watched(), feed()
    seen = witness(session, given)
    session.state_now = {"head.weight": {"momentum": np.array([0.0, -2.0])}, "head.bias": {"momentum": np.zeros(0)}}
    seen.epoch_begins(0)
    session.state_now = {"head.weight": {"momentum": np.array([9.0])}}
    seen.epoch_begins(1)
    _whole(seen, session)
    assert seen.seen().slots_at_start == 2.0


def test_V43_streamed_batches_that_were_drawn_before_the_window_are_counted() -> None:
    session, given = Watched(), feed()
    seen = witness(session, given)
    batches = given.epoch(0)
    next(batches)
    seen.epoch_begins(0)
    list(batches)
    seen.epoch_ends()
    seen.epoch_begins(1)
    _whole(seen, session)
    assert seen.seen().drawn_early == 1


def test_V43_ready_batches_are_in_memory_and_drawing_them_is_no_fetch() -> None:
    session, given = Watched(), feed("arrays")
    seen = witness(session, given)
    list(given.epoch(0))
    seen.epoch_begins(0)
    _whole(seen, session)
    assert seen.seen().drawn_early == 0


class Silent:
    """A session that does not count."""

    def slots(self) -> Mapping[str, Mapping[str, Any]]:
        return {}


def test_a_session_that_does_not_count_is_not_spoken_for() -> None:
    seen = witness(Silent(), feed())
    seen.epoch_begins(0)
    seen.epoch_ends()
    for _ in range(2):
        list(seen.passing(()))
    assert (seen.seen().work, seen.seen().norm_forwards) == (None, None)
