"""Every rule: the traps that make a benchmark wrong, and the checks that catch each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness import PROGRAM
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
"""Every check. Checks with the same id catch the same trap in different places."""

SCOPES: Mapping[Scope, str] = {
    "dataset": "when a dataset is prepared; a breach refuses it",
    "session": "in the worker, before and after training; a breach fails the record",
    "audit": "in the worker, after each stage, tensor by tensor; a breach fails the record",
    "record": "when a record is stored and when it is read; a breach fails it",
    "files": "when a record is stored, against the prepared dataset and the logits; a breach fails it",
    "times": "when a record is read; a breach voids its throughput and latency",
    "mark": "when a record is read; a breach marks a figure with `~`",
    "pair": "when two rows are compared; a breach replaces the ratio by `≠` and its reason",
    "certificate": "when a certificate is made; the certificate does not reach the level of a breach",
    "table": "when a table is printed, against the stored records; a breach is a warning and exit code 1",
    "folder": "when a folder of results is read; a breach is a warning and exit code 3",
}
"""When the checks of a scope run, and what a breach does."""

TRAPS: Mapping[str, str] = {
    "V01": "Two different networks have the same name, so comparing their speeds does not compare the frameworks.",
    "V02": "Both sides name the same pretrained weights, but the values differ.",
    "V03": "Weights converted from another framework give different outputs.",
    "V04": "The logits are equal and the gradients are not; in float32, rounding hides the difference.",
    "V05": "Both sides start equal and diverge during training.",
    "V06": "Frameworks pad strided convolutions differently: the shapes are equal, the values are not.",
    "V07": "A step does extra work or leaves work out, for example a second forward pass for a metric.",
    "V08": "The new head differs in initial values, bias or dropout, or the network does not use it.",
    "V09": "Frozen weights or batch-norm statistics change, or statistics that should change do not.",
    "V11": "Batch-norm constants differ between frameworks, or the statistics had too few steps to converge.",
    "V13": "Dropout or drop-connect stays on in a frozen part, or the two sides drop different units.",
    "V14": "A part is declared trainable and does not train, for example because the model was compiled before.",
    "V15": "Frozen weights have optimizer state, so weight decay or old momentum can change them.",
    "V16": "Frozen weights do not change, but their gradients are computed, so freezing saves no time.",
    "V17": "Optimizer state of one stage is kept in the next on one side only.",
    "V18": "Adam's epsilon differs in value or position, which makes the first steps several times longer or shorter.",
    "V19": "Weight decay is added to the gradient on one side and subtracted from the weight on the other.",
    "V20": "Momentum contains the learning rate on one side only, so the sides diverge when the rate drops.",
    "V21": "The learning-rate schedule is off by one, or it advances per epoch instead of per step.",
    "V22": "Backbone and head have different learning rates, and the framework uses one for both.",
    "V23": "The loss is a mean of means, is clipped, or was not computed from the logits.",
    "V24": "The order of the samples differs, or an image is both trained on and evaluated.",
    "V26": "Inputs are not normalised with the constants that the pretrained weights need.",
    "V27": "Labels are shuffled, or the order of the classes differs.",
    "V28": "The augmented images differ.",
    "V29": "Evaluation leaves out the last batch or counts an image twice.",
    "V31": "An input pipeline repeats or loses samples.",
    "V32": "One side computes with fewer bits than the declared precision, for example with TF32.",
    "V34": "Compilation is counted as training or falls into a measured window.",
    "V37": "A framework ignores the thread setting, so it computes on more cores than declared or than the other side.",
    "V38": "Denormal numbers slow one side down, while the other side sets them to zero.",
    "V40": "An accelerator is still working when the clock stops.",
    "V41": "Warm-up is too short: slow first steps are counted in the measured window.",
    "V43": "Fetching, transfer or evaluation is inside the measured time on one side and outside on the other.",
    "V44": "Measuring itself takes a noticeable share of a step.",
    "V45": "The batch size was reduced without notice, for example after an out-of-memory error.",
    "V46": "The best of several seeds or epochs is reported as if it were the result.",
    "V48": "Steps of one process are treated as independent measurements, which makes the range too narrow.",
    "V50": "Nothing was measured, or something is missing, and it looks like success.",
    "V51": "A rate is computed from rounded times or from means of means instead of one division.",
    "V52": "Results of two protocols or of two versions of a case are pooled.",
    "V53": "Features that were kept belong to other weights, other input scaling or another view of the image.",
}
"""The description of each trap, by id."""


def rules_of(id: str) -> list[Rule[Any]]:
    """Return the checks with this id."""
    return [rule for rule in RULES if rule.id == id]


def as_markdown() -> str:
    """Return the content of `docs/rules.md`."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Rules: the ids in notes, reasons and certificates\n"
    yield "A rule describes a trap that makes a benchmark wrong. Its checks catch that trap."
    yield f"`{PROGRAM} rules V41` explains one rule in the terminal;"
    yield f"`{PROGRAM} rules --markdown > docs/rules.md` writes this file.\n"
    yield "| scope | when the checks run, and what a breach does |\n|---|---|"
    yield from (f"| {scope} | {meaning} |" for scope, meaning in SCOPES.items())
    for id, trap in TRAPS.items():
        yield f"\n## {id}\n\n{trap}\n"
        yield from (f"- {rule.scope}: {rule.sentence}" for rule in rules_of(id))
    yield ""
