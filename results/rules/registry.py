"""Every rule: the traps that make a benchmark wrong, and the checks that catch each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.auditing.audit import STAGE_RULES, TENSOR_RULES
from harness.rules import Rule, Scope
from harness.running.checks import SESSION_RULES
from results.rules.certificate_rules import CERTIFICATE_RULES
from results.rules.file_rules import DATASET_RULES, FILE_RULES
from results.rules.folder_rules import FOLDER_RULES
from results.rules.pair_rules import PAIR_RULES
from results.rules.record_rules import RECORD_RULES
from results.rules.table_rules import TABLE_RULES
from results.rules.time_rules import MARK_RULES, TIME_RULES

RULES: tuple[Rule[Any], ...] = (
    *DATASET_RULES, *SESSION_RULES, *TENSOR_RULES, *STAGE_RULES, *RECORD_RULES, *FILE_RULES, *TIME_RULES, *MARK_RULES,
    *PAIR_RULES, *CERTIFICATE_RULES, *TABLE_RULES, *FOLDER_RULES,
)  # fmt: skip
"""Every check. Checks with one id catch one trap in different places."""

SCOPES: Mapping[Scope, str] = {
    "dataset": "when a dataset is prepared; a breach refuses it",
    "session": "in the worker, before and after training; a breach fails the record",
    "audit": "in the worker, after each stage, tensor by tensor; a breach fails the record",
    "record": "when a record is stored and when it is read; a breach fails it",
    "files": "when a record is stored, against the prepared dataset and the logits; a breach fails it",
    "times": "when a record is read; a breach voids its throughput and latency",
    "mark": "when a record is read; a breach marks a figure with `~`",
    "pair": "when two rows are compared; a breach replaces the ratio by `≠` and its reason",
    "certificate": "when a certificate is made; a breach ends the levels that are reached",
    "table": "when a table is printed, against the stored records; a breach is a warning and exit code 1",
    "folder": "when a folder of results is read; a breach is a warning and exit code 3",
}
"""When the checks of a scope run, and what a breach does."""

TRAPS: Mapping[str, str] = {
    "V01": "Two different networks have one name, so their speeds say nothing about the frameworks.",
    "V02": "Both sides name the same pretrained weights, and one of them holds other values.",
    "V03": "Weights that were converted from another framework compute another function.",
    "V04": "The logits are equal and the gradients are not; in float32, rounding hides the difference.",
    "V05": "Both sides start alike and drift apart during training.",
    "V06": "Frameworks pad strided convolutions differently: the shapes are equal, the values are unrelated.",
    "V07": "A step does extra work or leaves work out, for example a second forward pass for a metric.",
    "V08": "The new head differs: its first values, its bias, its dropout, or it is not the layer that is used.",
    "V09": "Frozen weights or batch-norm statistics move, or statistics that should move stay as they were.",
    "V11": "Batch-norm constants differ between frameworks, or too few steps were made for the statistics to settle.",
    "V13": "Dropout or drop-connect stays on in a frozen part, or drops other units on the two sides.",
    "V14": "A part is declared trainable and does not train, for example because the model was compiled before.",
    "V15": "Frozen weights have optimizer state, so that weight decay or old momentum can move them.",
    "V16": "Frozen weights do not move, but their gradients are computed, so freezing saves no time.",
    "V17": "Optimizer state of one stage is kept in the next on one side only.",
    "V18": "Adam's epsilon has another value or another place, which changes the first steps several-fold.",
    "V19": "Weight decay is added to the gradient on one side and subtracted from the weight on the other.",
    "V20": "Momentum contains the learning rate on one side only, so the sides part when the rate drops.",
    "V21": "The learning-rate schedule is off by one, or it advances per epoch instead of per step.",
    "V22": "Backbone and head have different learning rates, and the framework uses one for both.",
    "V23": "The loss is a mean of means, is clipped, or was not computed from the logits.",
    "V24": "The samples come in another order, or an image is both trained on and evaluated.",
    "V26": "Inputs are normalised with other constants than the pretrained weights need.",
    "V27": "Labels are shuffled, or the classes are in another order.",
    "V28": "The augmented images differ.",
    "V29": "Evaluation leaves out the last batch or counts an image twice.",
    "V31": "An input pipeline repeats or loses samples.",
    "V32": "One side computes with fewer bits, for example with TF32, than the precision that is declared.",
    "V34": "Compiling is counted as training or falls into a measured window.",
    "V37": "A framework ignores the thread setting, so it computes on more cores than declared or than the other side.",
    "V38": "Denormal numbers slow one side down, while the other side sets them to zero.",
    "V40": "An accelerator still works when the clock is stopped.",
    "V41": "Warm-up is too short: slow first steps are counted in the measured window.",
    "V43": "Fetching, transfer or evaluation is inside the measured time on one side and outside on the other.",
    "V44": "Measuring itself takes a noticeable share of a step.",
    "V45": "The batch size was reduced without notice, for example after an out-of-memory error.",
    "V46": "The best of several seeds or epochs is reported as if it were the result.",
    "V48": "Steps of one process are treated as independent measurements, which makes the range too narrow.",
    "V50": "Nothing was measured, or something is missing, and it looks like success.",
    "V51": "A rate is computed from rounded times or from means of means instead of one division.",
    "V52": "Results of two protocols or of two versions of a case are pooled.",
}
"""What goes wrong, by id."""


def rules_of(id: str) -> list[Rule[Any]]:
    """The checks with this id."""
    return [rule for rule in RULES if rule.id == id]


def as_markdown() -> str:
    """`docs/rules.md`."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Rules: what the ids in notes, reasons and certificates mean\n"
    yield "A rule is a trap that makes a benchmark wrong, and the checks that catch it."
    yield "`python -m benchmarks rules V41` explains one in the terminal;"
    yield "`python -m benchmarks rules --markdown > docs/rules.md` makes this file.\n"
    yield "| scope | when its checks run, and what a breach does |\n|---|---|"
    yield from (f"| {scope} | {meaning} |" for scope, meaning in SCOPES.items())
    for id, trap in TRAPS.items():
        yield f"\n## {id}\n\n{trap}\n"
        yield from (f"- {rule.scope}: {rule.sentence}" for rule in rules_of(id))
    yield ""
