"""The settings and interpreters that differ between two sides, as factors that can be switched one at a time."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.comparing.sides import SideSpec
from benchmarks.preparing.plan import without_fixed_part
from harness.errors import Declined, Refused
from harness.process.ask import ask
from harness.running.evaluate import TRAIN_SAMPLE
from harness.running.opening import find_model_for
from harness.spec import SETTINGS, Case
from results.explanations.explanation import Factor
from results.storage.rows import SideName

MOST = 6
"""The largest number of factors; two orders of six are already fourteen pairs of processes."""
FRAMEWORK, ENVIRONMENT, EVALUATION = "framework", "environment", "evaluation"
LAYERS, RULE = "native layers", "optimizer rule"
"""The two factors of native defaults: batch norm and its constants as shipped, and the optimizer as shipped."""
NATIVE = "native defaults"
WHOLE = ("backend", "engine")
"""Settings of one factor: no backend runs between two frameworks."""
SAME = ("scenario", "model", "image_size", "epochs", "limit")
"""Settings that must be the same on both sides: with other values it is another task."""
Switched = frozenset[int]
"""The numbers of the factors that have the value of B; all others have that of A."""


class Corner(NamedTuple):
    """One combination of factors: its case, the settings that make it, the delay of each step, and the interpreter.

    `python` is None for the interpreter of this process. `train_sample` is the number of training images that a whole
    run evaluates after each epoch.
    """

    selected: SelectedCase
    settings: dict[str, Any]
    delay: float
    python: str | None
    train_sample: int


class FactorSet:
    """The factors between two sides; each combination of them is a `Corner`. Raises `Refused` for bad input.

    `common` are the settings of both sides. With `whole`, whole runs are measured: they may have kept features, and
    `samples` has the number of training images that a side evaluates after each epoch.
    """

    def __init__(
        self,
        specs: tuple[SideSpec, SideSpec],
        common: Mapping[str, Any],
        catalogue: Catalogue,
        *,
        whole: bool = False,
        samples: Mapping[SideName, int] = MappingProxyType({}),
    ) -> None:
        self._catalogue, self._common = catalogue, {"scenario": ("full",), **common}
        self.whole = whole
        self._samples = samples.get("A", TRAIN_SAMPLE), samples.get("B", TRAIN_SAMPLE)
        _refuse_other_tasks(specs, whole=whole)
        specs = _rule_apart(specs, common)
        a, b = specs[0].settings, specs[1].settings
        self._same = {name: value for name, value in a.items() if name in b and b[name] == value}
        self._ends = self._one(specs[0].settings), self._one(specs[1].settings)
        self._python = specs[0].python
        self.factors: list[Factor] = self._differing(specs)
        if not self.factors:
            raise Refused(
                "A and B are the same; give each side its settings, such as --set A.layout=channels-first "
                "--set B.layout=channels-last, or its environment, such as --python B=new/bin/python"
            )
        names = [factor.name for factor in self.factors]
        count = len(names) - ({LAYERS, RULE} <= set(names))  # the two parts of native defaults count as one
        if count > MOST:
            raise Refused(
                f"A and B differ in {count} factors ({', '.join(names)}), and at most {MOST} can be switched; "
                "give both sides the same value of some"
            )

    @property
    def all(self) -> Switched:
        """Every factor: side B."""
        return frozenset(range(len(self.factors)))

    def corner(self, switched: Switched) -> Corner:
        """Return the case of a combination."""
        settings, delay, python, sample = dict(self._same), 0.0, self._python, self._samples[0]
        for number, factor in enumerate(self.factors):
            settings |= factor.settings[number in switched]
            delay += factor.delays[number in switched]
            if any(factor.pythons):
                python = factor.pythons[number in switched] or None
            if any(factor.samples):
                sample = factor.samples[number in switched]
        return Corner(self._one(settings), settings, delay, python, sample)

    def name(self, switched: Switched) -> str:
        """Return a combination as text: `A`, `B`, or `A with fused, layout of B`."""
        if not switched:
            return "A"
        names = ", ".join(sorted(factor.name for number, factor in enumerate(self.factors) if number in switched))
        return "B" if switched == self.all else f"A with {names} of B"

    def group(self, declined: Mapping[Switched, str]) -> None:
        """Join factors into one if they cannot be separated: some combinations of them are declined, for these reasons.

        Raises `Declined` if a side itself is declined.
        """
        for side, switched in (("A", frozenset[int]()), ("B", self.all)):
            if switched in declined:
                raise Declined(f"side {side}: {declined[switched]}")
        self.factors = [
            self.factors[min(part)]
            if len(part) == 1
            else _together([self.factors[number] for number in sorted(part)], reason)
            for part, reason in inseparable(len(self.factors), declined)
        ]

    def declined(self) -> dict[Switched, str]:
        """Return the combinations that cannot run here, with the reasons; each backend answers in one worker."""
        cases = {switched: self.corner(switched).selected.case for switched in subsets(len(self.factors))}
        found = {switched: unfit.reason for switched, case in cases.items() if (unfit := without_fixed_part(case))}
        alike = sorted(cases, key=lambda switched: cases[switched].backend_name)
        for _, group in itertools.groupby(alike, key=lambda switched: cases[switched].backend_name):
            members = list(group)
            asked = [cases[switched] for switched in members]
            arguments = {"cases": asked, "plugins": self._catalogue.plugins}
            reasons = ask(reasons_of, arguments, list[str], engine=asked[0].engine, about=asked[0].backend_name)
            found |= {switched: reason for switched, reason in zip(members, reasons, strict=True) if reason}
        return found

    def _differing(self, specs: tuple[SideSpec, SideSpec]) -> list[Factor]:
        """Return the settings whose change alone makes another case of side A or of side B."""
        a, b = specs[0].settings, specs[1].settings
        wanted = {**_values(self._common, (*a, *b)), **a}, {**_values(self._common, (*a, *b)), **b}
        names = dict.fromkeys(name for name in (*a, *b) if wanted[0].get(name) != wanted[1].get(name))
        groups = [(FRAMEWORK, [name for name in names if name in WHOLE])]
        apart = "optimizer_rule" in names and "native_defaults" in names
        groups += [(_label(name, apart=apart), [name]) for name in names if name not in WHOLE]
        found = []
        for label, members in groups:
            one, other = (_values(side, members) for side in wanted)
            if members and self._matters(wanted, one, other):
                texts = self._text(members, 0, one), self._text(members, 1, other)
                found.append(Factor(name=label, texts=texts, settings=(one, other)))
        delays = specs[0].delay, specs[1].delay
        if delays[0] != delays[1]:
            texts = f"{delays[0]:.0%}", f"{delays[1]:.0%}"
            found.append(Factor(name="injected delay", texts=texts, settings=({}, {}), delays=delays))
        texts = specs[0].python or sys.executable, specs[1].python or sys.executable
        if texts[0] != texts[1]:
            pythons = specs[0].python or "", specs[1].python or ""
            found.append(Factor(name=ENVIRONMENT, texts=texts, settings=({}, {}), pythons=pythons))
        if self._samples[0] != self._samples[1]:
            texts = f"{self._samples[0]} images", f"{self._samples[1]} images"
            found.append(Factor(name=EVALUATION, texts=texts, settings=({}, {}), samples=self._samples))
        return found

    def _matters(
        self, wanted: tuple[dict[str, Any], dict[str, Any]], one: dict[str, Any], other: dict[str, Any]
    ) -> bool:
        """Return whether switching these settings alone changes the case, from A or from B."""
        if one.keys() | other.keys() <= set(WHOLE):
            return self._ends[0].case.backend_name != self._ends[1].case.backend_name
        from_a = {**_without(wanted[0], one), **other}
        from_b = {**_without(wanted[1], other), **one}
        return self._one(from_a) != self._ends[0] or self._one(from_b) != self._ends[1]

    def _one(self, settings: Mapping[str, Any]) -> SelectedCase:
        cases = expand(Selection(**{**self._common, **settings, "seeds": 1}), self._catalogue)
        if len(cases) != 1:
            listed = ", ".join(dict.fromkeys(one.case.label for one in cases))
            raise Refused(
                f"explain takes one case for each side, not {len(cases)} ({listed}); choose it with --backend and "
                "--scenario, or with --set A.backend=… and --set B.backend=…"
            )
        return cases[0]

    def _text(self, members: Sequence[str], side: int, values: Mapping[str, Any]) -> str:
        case = self._ends[side].case
        if members[0] in WHOLE:
            return case.backend_name
        if members[0] == "optimizer_rule":
            return "own" if case.own_optimizer else "matched"
        fields = [name for name, setting in SETTINGS.items() if setting.option == members[0]]
        value = getattr(case, fields[0]) if fields else values.get(members[0], ("default",))
        value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def inseparable(factors: int, declined: Mapping[Switched, str]) -> list[tuple[Switched, str]]:
    """Return parts of the factors whose every combination runs, each with the reason why it is one; empty for one.

    Each step unites the two parts that avoid most of the declined combinations.

    >>> inseparable(3, {frozenset({0}): "0 needs 2", frozenset({0, 1}): "0 needs 2"})
    [(frozenset({1}), ''), (frozenset({0, 2}), '0 needs 2')]
    """
    parts: list[tuple[Switched, str]] = [(frozenset({number}), "") for number in range(factors)]
    while left := [switched for switched in declined if all(_whole(part, switched) for part, _ in parts)]:
        one, other = max(
            itertools.combinations(parts, 2),
            key=lambda two: sum(not _whole(two[0][0] | two[1][0], switched) for switched in left),
        )
        united = one[0] | other[0]
        reason = next(declined[switched] for switched in left if not _whole(united, switched))
        reasons = dict.fromkeys(text for text in (one[1], other[1], reason) if text)
        parts = [part for part in parts if part not in (one, other)] + [(united, "; ".join(reasons))]
    return parts


def subsets(factors: int) -> Iterable[Switched]:
    """Yield every combination of factors, the smallest first."""
    for count in range(factors + 1):
        yield from map(frozenset, itertools.combinations(range(factors), count))


def reasons_of(cases: list[Case], plugins: list[str]) -> list[str]:
    """Return why each case of one backend cannot run here, or an empty text; runs in a worker."""
    return [_reason(case, plugins) for case in cases]


def _reason(case: Case, plugins: Sequence[str]) -> str:
    try:
        find_model_for(case, plugins)
    except Declined as reason:
        return str(reason)
    return ""


def _rule_apart(specs: tuple[SideSpec, SideSpec], common: Mapping[str, Any]) -> tuple[SideSpec, SideSpec]:
    """Return the sides with the optimizer's rule as a setting of its own, if only one of them has native defaults."""
    native = [{**common, **spec.settings}.get("native_defaults", False) for spec in specs]
    if native[0] == native[1] or any("optimizer_rule" in {**common, **spec.settings} for spec in specs):
        return specs
    rules = ("own" if is_native else "matched" for is_native in native)
    a, b = (
        spec._replace(settings={"native_defaults": is_native, **spec.settings, "optimizer_rule": rule})
        for spec, is_native, rule in zip(specs, native, rules, strict=True)
    )
    return a, b


def _refuse_other_tasks(specs: Sequence[SideSpec], *, whole: bool) -> None:
    for spec in specs:
        for name, value in spec.settings.items():
            if name in SAME:
                text, option = value[0] if isinstance(value, tuple) else value, name.replace("_", "-")
                raise Refused(
                    f"--set {spec.name}.{option}={text}: {option} must be the same on both sides; write "
                    f"{'MODEL' if name == 'model' else f'--{option} {text}'}"
                )
            if name == "features" and value == ("kept",) and not whole:
                raise Refused(
                    f"--set {spec.name}.features=kept: kept features are computed between epochs, which turns do not "
                    "time; measure --whole-runs"
                )
        if whole and spec.delay:
            raise Refused(f"--inject-delay {spec.name}: only steps can be delayed; leave out --whole-runs")


def _together(factors: Sequence[Factor], reason: str) -> Factor:
    a, b = ({name: value for one in factors for name, value in one.settings[side].items()} for side in (0, 1))
    if {LAYERS, RULE} <= {one.name for one in factors}:  # nothing to tell apart: this framework has one rule
        factors = [replace(one, name=NATIVE) if one.name == LAYERS else one for one in factors if one.name != RULE]
    return Factor(
        name=" + ".join(one.name for one in factors),
        texts=(", ".join(one.texts[0] for one in factors), ", ".join(one.texts[1] for one in factors)),
        settings=(a, b),
        delays=(sum(one.delays[0] for one in factors), sum(one.delays[1] for one in factors)),
        pythons=next((one.pythons for one in factors if any(one.pythons)), ("", "")),
        reason=reason if len(factors) > 1 else "",
    )


def _whole(part: Switched, switched: Switched) -> bool:
    """Return whether a combination switches all of a part or nothing of it."""
    return part <= switched or not part & switched


def _values(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def _without(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in set(names)}


def _label(option: str, *, apart: bool) -> str:
    if option == "native_defaults" and apart:
        return LAYERS
    return option.replace("_", " ")
