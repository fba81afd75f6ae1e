"""The text of `advise`: the answer first, then its evidence, what was not tried, and the command of the full run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.advising.interval import Score
from benchmarks.advising.policy import RaceResult, Ranked
from harness.errors import printable
from results.tables.columns import METRICS
from results.tables.wording import counted

ORDER = ("probes", "race", "repeats")


class TwinScore(msgspec.Struct, frozen=True):
    """The chosen case in another framework that a certificate covers."""

    network: str
    accuracy: float
    train_s: float
    certificate: str


class Images(NamedTuple):
    """The data: its name, numbers of images, and the share of the largest class in the test images.

    `held_out` says whether the test images are apart from the validation images.
    """

    name: str
    validation: int
    test: int
    largest: str
    share: float
    held_out: bool
    small_batch: int | None = None


class Advice(NamedTuple):
    """Everything that the text says.

    `others` are the test accuracies of the cases not chosen. `names` describes each contender. `before_s` is
    the time of the preparation, None if runs are counted; `spent_s` is the whole time.
    """

    images: Images
    choice: RaceResult
    score: Score | None
    seeds: int
    others: Sequence[float]
    names: Mapping[object, str]
    twins: tuple[TwinScore, ...]
    several_backends: bool
    before_s: float | None
    spent_s: float
    limit: str
    runs: int
    command: str


def lines(advice: Advice) -> Iterator[str]:
    """Yield the answer, its evidence, the standings, what was not tried, the budget, and the command."""
    yield from map(printable, _answer(advice))
    yield ""
    yield from map(printable, _standings(advice))
    yield from map(printable, _not_tried(advice.choice.not_tried))
    yield _budget(advice)
    if advice.command:
        yield ""
        yield "The full run:"
        yield f"  {advice.command}"


def _answer(advice: Advice) -> Iterator[str]:
    leader, score, images = advice.choice.leader, advice.score, advice.images
    if leader is None or score is None:
        yield f"On {images.name}, it cannot be told which case is best: nothing was measured within {advice.limit}."
        return
    kind = "test images that did not choose it" if images.held_out else "validation images, which chose it"
    interval = f"95 % interval {percent(score.low)}–{percent(score.high)}"
    yield (
        f"On {images.name}, the best accuracy within {advice.limit} was {advice.names[leader.contender]}: "
        f"{percent(score.accuracy)} % ({interval}) on {images.test} {kind}, "
        f"after {METRICS['train_s'].write(leader.training_s)} s of training ({counted(advice.seeds, 'seed')})."
    )
    yield from _rivals(advice, leader)
    resolution = f"± {percent(score.resolution)} points{_within(advice, score)}"
    yield f"The resolution of {images.test} test images is {resolution}."
    yield (
        "The interval is Wilson's for these images, widened by the spread over seeds"
        f"{'' if images.held_out else '; the score is optimistic, because the data has no images apart'}."
    )
    if score.low <= images.share:
        yield (
            f"It cannot be told from always answering {images.largest!r}, which is right for "
            f"{percent(images.share)} % of these images."
        )
    for twin in advice.twins:
        yield (
            f"With {backend_of(twin.network)} the same case reached {percent(twin.accuracy)} % after "
            f"{METRICS['train_s'].write(twin.train_s)} s (certificate {twin.certificate})."
        )
    if advice.several_backends:
        yield (
            "Networks of several frameworks took part without a certificate: their accuracies are compared, "
            "their times are not."
        )
    if images.small_batch:
        yield f"The batch size is {images.small_batch}, because there are few training images."


def _rivals(advice: Advice, leader: Ranked) -> Iterator[str]:
    rivals, images = advice.choice.rivals, f"the validation images ({advice.images.validation} in each run)"
    if len(advice.choice.standings) == 1:
        yield "It is the only case that was measured."
    elif not rivals:
        yield f"On {images}, every other case is worse by more than they resolve, at the length that it reached."
    else:
        first = min(rivals, key=lambda one: one.training_s)
        faster = (
            f"; the fastest of these to train is {advice.names[first.contender]}"
            if first.training_s < leader.training_s
            else ""
        )
        yield f"On {images} it cannot be told from {counted(len(rivals), 'other case')}{faster}."


def _within(advice: Advice, score: Score) -> str:
    """Return how many other cases have a test accuracy within the resolution, and how many are better by more."""
    others = list(advice.others)
    if not others:
        return ""
    within = sum(abs(other - score.accuracy) <= score.resolution for other in others)
    better = sum(other - score.accuracy > score.resolution for other in others)
    more = f", {better} better by more" if better else ""
    return f"; {within} of {counted(len(others), 'other measured case')} within it{more}"


def _standings(advice: Advice) -> Iterator[str]:
    leader = advice.choice.leader
    for one in advice.choice.standings:
        state = "chosen" if one is leader else "worse" if one.behind else "cannot be told from it"
        yield (
            f"  {advice.names[one.contender]}: {percent(one.accuracy)} % of validation images, "
            f"{METRICS['train_s'].write(one.training_s)} s, {counted(one.runs, 'run')}, {state}"
        )


def _not_tried(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield a line per reason with all that it kept from being tried."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, why in reasons.items() if why == reason]
        yield f"  not tried, because {reason}: {', '.join(names)}"


def _budget(advice: Advice) -> str:
    unit = "" if advice.before_s is None else " s"
    parts = [] if advice.before_s is None else [f"preparation {advice.before_s:.0f} s"]
    parts += [f"{name} {advice.choice.spent[name]:.0f}{unit}" for name in ORDER if name in advice.choice.spent]
    spent = f"{counted(advice.runs, 'run')} in {advice.spent_s:.0f} s"
    return f"Spent: {spent} of at most {advice.limit} ({', '.join(parts)})."


def backend_of(network: str) -> str:
    """Return the backend of a network's name.

    >>> backend_of("resnet18 with keras3-jax")
    'keras3-jax'
    """
    return network.rpartition(" with ")[2]


def percent(share: float) -> str:
    """Return a fraction as per cent with one digit, as tables show accuracy."""
    return METRICS["accuracy"].write(share)
