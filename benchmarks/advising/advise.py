"""`advise` from the options to the advice: prepare, divide, choose, and describe."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from benchmarks.advising.advice import Advice, Images, TwinScore, backend_of
from benchmarks.advising.field import Budget, MachineField, Setup
from benchmarks.advising.held_out import HeldOut, held_out
from benchmarks.advising.interval import Score, score
from benchmarks.advising.policy import NO_TIME, PROBE, Advising, Contender, RaceResult, name_of
from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.options import words
from benchmarks.choosing.scenarios import with_files
from benchmarks.choosing.selection import Selection, expand, of_model
from benchmarks.datasets.named import PreparedData
from benchmarks.preparing.plan import Preparation
from harness import PROGRAM
from harness.errors import Declined

SEEDS = 5
"""The number of seeds of the full run in the printed command."""


def with_methods(options: Mapping[str, Any], catalogue: Catalogue) -> tuple[dict[str, Any], Catalogue]:
    """Return the options and the catalogue with the scenarios of TOML files by name."""
    if "scenario" not in options:
        return dict(options), catalogue
    names, scenarios = with_files(options["scenario"], catalogue.scenarios)
    return {**options, "scenario": names}, replace(catalogue, scenarios=scenarios)


def divided(options: Mapping[str, Any], catalogue: Catalogue, preparation: Preparation) -> tuple[HeldOut, PreparedData]:
    """Divide and prepare the data. Raises `Refused` and `Declined` as preparing does."""
    (data,) = options["data"]
    division = held_out(data, options, catalogue)
    first = expand(Selection(**{**options, **division.options}), catalogue)[0]
    return division, preparation.dataset(data, first.case.image_size, first.division)


def advise(setup: Setup, budget: Budget) -> Advice:
    """Spend the budget and return the advice."""
    field = MachineField(setup, budget)
    before_s = time.monotonic() - budget.started if budget.steps is None else None
    choice = Advising(field).choose()
    twins = _twins(field, choice)
    leader = choice.leader
    return Advice(
        images=_images(setup.data, field),
        choice=choice,
        score=None if leader is None else _score(field, leader.contender),
        seeds=0 if leader is None else len(field.records[leader.contender]),
        others=[_score(field, one.contender).accuracy for one in choice.standings[1:]],
        names={one.contender: described(field, one.contender) for one in choice.standings},
        twins=twins,
        several_backends=len({backend_of(one.contender.network) for one in choice.standings}) > 1,
        before_s=before_s,
        spent_s=time.monotonic() - budget.started,
        limit=f"{budget.seconds / 60:g} min" if budget.steps is None else f"{budget.steps} runs",
        runs=sum(map(len, field.records.values())),
        command="" if leader is None else command(field, leader.contender, setup.catalogue),
    )


def described(field: MachineField, contender: Contender) -> str:
    """Return the method, network and length of a contender in words."""
    if contender.method == PROBE:
        return f"freeze-conv of {contender.network} from kept features, without augmentation"
    epochs = field.options_of(contender).get("epochs")
    short = contender.rung < field.rungs - 1
    return f"{contender.method} of {contender.network}{f', stopped after {epochs} epochs' if short else ''}"


def command(field: MachineField, contender: Contender, catalogue: Catalogue) -> str:
    """Return the `run` command of a contender, with several seeds."""
    case = field.selected(contender, 0).case
    chosen: dict[str, Any] = {"backend": (case.backend,), "model": (case.model,)}
    if case.engine:
        chosen["engine"] = (case.engine,)
    for name in ("checkpoint", "input_scaling"):
        if name in field.options:
            chosen[name] = of_model(field.options[name], case.model, catalogue)
    chosen = {**field.options, **chosen, **field.options_of(contender), "seeds": SEEDS, "plugin": catalogue.plugins}
    return f"{PROGRAM} run {shlex.join(word for name, value in chosen.items() for word in words(name, value))}"


def _score(field: MachineField, contender: Contender) -> Score:
    tests = [record.test for record in field.records[contender] if record.test is not None]
    return score([test.accuracy for test in tests], tests[0].images)


def _twins(field: MachineField, choice: RaceResult) -> tuple[TwinScore, ...]:
    """Run the chosen case once in each framework that a certificate covers, as far as the budget allows."""
    found = []
    for contender, proof in field.twins_of(choice.leader.contender) if choice.leader else ():
        try:
            if proof is None:
                raise Declined("no certificate covers the chosen case")
            if field.guess(contender) * field.safety > field.left():
                raise Declined(NO_TIME)
            trial = field.run(contender, 0)
        except Declined as reason:
            choice.not_tried[name_of(contender)] = str(reason)
            continue
        level = proof.level(field.options_of(contender)["scenario"][0])
        accuracy = _score(field, contender).accuracy
        found.append(TwinScore(contender.network, accuracy, trial.training_s, f"{proof.sha256[:8]}, P{level}"))
    return tuple(found)


def _images(data: PreparedData, field: MachineField) -> Images:
    meta = data.meta
    counts = data.images["val" if meta.test_is_val else "test"]
    batch = field.options.get("batch_size")
    return Images(
        name=meta.name,
        validation=field.images(1),
        test=min(sum(counts), field.given.get("limit") or sum(counts)),
        largest=meta.classes[counts.index(max(counts))],
        share=max(counts) / sum(counts),
        held_out=not meta.test_is_val,
        small_batch=batch[0] if batch and "batch_size" not in field.given else None,
    )
