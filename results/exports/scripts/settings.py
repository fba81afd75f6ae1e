"""What a script says about its case, the same for every framework: docstring, constants, and cases that have none."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.data.augment import complete
from harness.data.checkpoint import Normalisation
from harness.errors import Declined
from harness.running.record import Record
from harness.spec import Augmentation, Case, Frozen, Stage

WIDTH = 88
"""Columns of a script, as formatters use them by default."""
DEFAULTS = {"backbone_lr": "=0.0", "weight_decay": "=0.0", "frozen": "=()", "keep_best": "=False"}
"""The default of a field of a stage that is an argument."""


class Described(NamedTuple):
    """A case to write a script for.

    `weights` is the name of the file of its backbone, empty for random values; `file` is the name of the script.
    """

    record: Record
    normalisation: Normalisation
    weights: str
    file: str = "script.py"

    @property
    def case(self) -> Case:
        """The case of the record."""
        return self.record.case

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order."""
        return self.case.scenario.stages

    @property
    def freezes(self) -> bool:
        """Whether a stage has a frozen part."""
        return any(stage.frozen not in ("none", 0) for stage in self.stages)

    @property
    def whole_backbone_frozen(self) -> bool:
        """Whether no stage trains the backbone."""
        return all(stage.frozen == "backbone" for stage in self.stages)

    @property
    def decays(self) -> bool:
        """Whether a stage has weight decay."""
        return any(stage.weight_decay for stage in self.stages)

    @property
    def keeps_best(self) -> bool:
        """Whether a stage returns the weights of its best epoch."""
        return any(stage.keep == "best" for stage in self.stages)

    def values(self, field: str) -> list[Any]:
        """Return the value of a field in each stage; `keep_best` is whether the stage keeps its best epoch."""
        return [stage.keep == "best" if field == "keep_best" else getattr(stage, field) for stage in self.stages]

    def varies(self, field: str) -> bool:
        """Return whether two stages have different values of a field."""
        return any(value != self.values(field)[0] for value in self.values(field))

    def name(self, field: str) -> str:
        """Return the expression for a field of a stage: an argument if it varies, otherwise a constant."""
        return field if self.varies(field) else field.upper()

    def arguments(self, *fields: str) -> list[str]:
        """Return those of the fields that are arguments, because they vary."""
        return [field for field in fields if self.varies(field)]

    def differences(self, frozen: Callable[[Frozen], object]) -> Iterator[tuple[str, list[str]]]:
        """Yield, for each stage, its batch size and the keyword arguments that vary, as code.

        `frozen` returns the value of a frozen part.
        """
        for number, stage in enumerate(self.stages):
            values = {field: self.values(field)[number] for field in self.fields if self.varies(field)}
            values |= {"frozen": frozen(stage.frozen)} if "frozen" in values else {}
            if stage.frozen == "backbone":
                values.pop("backbone_lr", None)
            size = literal(values.pop("batch_size")) if "batch_size" in values else "BATCH_SIZE"
            yield size, [f"{field}={literal(value)}" for field, value in values.items() if value]

    @property
    def evaluation_size(self) -> str:
        """The batch size for evaluation, as code."""
        return str(self.stages[0].batch_size) if self.varies("batch_size") else "BATCH_SIZE"

    @property
    def weights_option(self) -> str:
        """The line that declares the option for the file of weights; empty without one."""
        line = f'    parser.add_argument("--weights", type=Path, default="{self.weights}")\n'
        return line if self.weights else ""

    @property
    def fields(self) -> list[str]:
        """The fields of a stage that the script uses and that may vary, in order."""
        used = {"epochs": True, "batch_size": True, "head_lr": True, "backbone_lr": not self.whole_backbone_frozen,
                "weight_decay": self.decays, "frozen": self.freezes, "keep_best": self.keeps_best}  # fmt: skip
        return [field for field, needed in used.items() if needed]

    @property
    def rates(self) -> list[str]:
        """The fields of a stage that only the optimizer uses."""
        return [field for field in self.fields if field in ("head_lr", "backbone_lr", "weight_decay")]

    @property
    def scheduled(self) -> bool:
        """Whether the learning rates change during a stage."""
        schedule = self.stages[0].schedule
        return schedule.name != "constant" or schedule.warmup_steps > 0


def refuse_unsupported(case: Case) -> None:
    """Raise `Declined` with the setting that no script reproduces."""
    first = case.scenario.stages[0]
    fixed = ("optimizer", "schedule", "norm", "bn_momentum", "label_smoothing")
    differing = next((f for f in fixed if any(getattr(s, f) != getattr(first, f) for s in case.scenario.stages)), None)
    reasons = {
        f"a scenario whose stages differ in {differing}": differing is not None,
        "precision " + case.precision: case.precision != "fp32",
        "--native-defaults": case.idiom,
        "--optimizer-rule own": case.own_optimizer,
        "the mlp head": case.head == "mlp",
        "--reuse-head": case.reuse_head,
        "--limit": case.limit is not None,
        "the augmentation views": any(one.name == "views" for one in case.augment),
    }
    for what, present in reasons.items():
        if present:
            raise Declined(f"--to script: {what} is not supported; choose another case")


def docstring(described: Described, command: str, needs: str, notes: Sequence[str] = ()) -> str:
    """Return the docstring of a script; `command` runs it, `needs` are the packages, `notes` are sentences."""
    case, record = described.case, described.record
    quality = record.test or record.val
    split = "validation" if record.test is None else "test"
    measured = f", whose accuracy was {quality.accuracy:.1%} on {quality.images} {split} images" if quality else ""
    about = (
        f"FOLDER holds train/CLASS and val/CLASS with images, and test/CLASS if there are test images. It "
        f"needs {needs}. The settings are those of the run {case.label}{measured}."
    )
    about = " ".join([about, *notes])
    title = _wrapped(f"---Fine-tune {case.model}: {case.scenario.explanation or case.scenario.name}.")
    text = "\n\n".join([title.removeprefix("---"), f"    {command}", _wrapped(about)])
    return '"""' + text.replace('"', "'") + '\n"""\n'


def _wrapped(text: str) -> str:
    text = text.replace("\\", "/")  # a scenario of a user may have any name
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def constants(described: Described, *facts: tuple[str, list[object]]) -> str:
    """Return assignments: images, the fields that all stages share, and facts, each with its names and their values."""
    case, shared = described.case, [field for field in described.fields if not described.varies(field)]
    groups = [("epochs", "batch_size"), ("head_lr", "backbone_lr"), ("weight_decay",)]
    known = [[field for field in group if field in shared] for group in groups]
    lines: list[tuple[str, list[object]]] = [
        ("IMAGE_SIZE, RESIZE", [case.image_size, side(case)]),
        ("MEAN, STD", [described.normalisation.mean, described.normalisation.std]),
        *(
            (", ".join(map(str.upper, group)), [described.values(field)[0] for field in group])
            for group in known
            if group
        ),
        *facts,
    ]
    return "".join(f"{names} = {', '.join(map(literal, values))}\n" for names, values in lines)


def side(case: Case) -> int:
    """Return the side in pixels to which images are resized before the crop: that of `benchmarks.datasets`."""
    return case.image_size if case.dataset.startswith("embedded") else round(case.image_size * 8 / 7)


def call(indent: int, head: str, arguments: Sequence[str], tail: str) -> str:
    """Return `head`, the arguments and `tail` in one line, or divided as formatters divide a call that is too long.

    >>> call(4, "f(", ["a", "b=1"], ")")
    '    f(a, b=1)\\n'
    """
    space, inside = " " * indent, ", ".join(arguments)
    if len(whole := f"{space}{head}{inside}{tail}") <= WIDTH:
        return f"{whole}\n"
    if head.endswith("(") and len(line := f"{space}    {inside}") <= WIDTH:
        return f"{space}{head}\n{line}\n{space}{tail}\n"
    lines = "".join(f"{space}    {argument},\n" for argument in arguments)
    return f"{space}{head}\n{lines}{space}{tail}\n"


def literal(value: object) -> str:
    """Return a value as formatters write it, small numbers with 15 digits at most.

    >>> literal((0.5, 0.25)), literal(["conv1"]), literal(0.0001)
    ('(0.5, 0.25)', '["conv1"]', '1e-4')
    """
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        digits, _, power = f"{value:.14e}".partition("e")
        return f"{float(digits):.15g}e{int(power)}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(literal, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def complete_augmentations(case: Case) -> list[Augmentation]:
    """Return the augmentations with every parameter, without the centre crop, which always follows."""
    return [complete(one) for one in case.augment if one.name != "centre-crop"]


def joined(*sections: str) -> str:
    """Return the sections with two empty lines between them, without the empty ones."""
    return "\n\n\n".join(section.strip("\n") for section in sections if section) + "\n"
