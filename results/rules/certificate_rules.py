"""Rules about the evidence of a certificate: each reports the failed comparisons of its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.rules import Finding, Rule
from harness.spec import Scenario
from results.certificates.certificate import Check
from results.certificates.evidence import EvidencePair
from results.certificates.proof import architecture, conventions, function, gradients, training

Compare = Callable[[EvidencePair, Sequence[Scenario]], Iterable[Check]]
CertificateRule = Rule[[EvidencePair, Sequence[Scenario]]]


def _proved(id: str, sentence: str, compare: Compare) -> CertificateRule:
    def check(pair: EvidencePair, scenarios: Sequence[Scenario]) -> Iterator[Finding]:
        for one in compare(pair, scenarios):
            if not one.passed and id in one.rule.split(", "):
                place = " ".join(filter(None, (f"P{one.level}", one.scenario, one.where)))
                yield place, f"{one.what}: {one.worst:.2g} of {one.limit:.2g}"

    return Rule(id, sentence, "certificate", check)


CERTIFICATE_RULES = (
    _proved("V01", "The networks differ in tensors, layers, parameters or multiply-accumulates.", architecture),
    _proved("V06", "The two sides give a layer different output shapes.", architecture),
    _proved("V08", "Initial values differ in the backbone or in the head.", architecture),
    _proved("V26", "Normalised images differ.", function),
    _proved("V03", "Features or logits of the same images differ by more than rounding.", function),
    _proved("V04", "The loss or a gradient of one step differs by more than rounding.", gradients),
    _proved("V05", "Losses, buffers or weights differ by more than rounding within ten steps of training.", training),
    _proved("V09", "A tensor changed that a stage freezes, or did not change although the stage trains it.", training),
    _proved("V21", "A learning rate differs from the schedule at some step.", training),
    _proved("V24", "The batches or the selected epoch differ.", training),
    _proved("V11", "Momentum or epsilon of a norm layer differs.", conventions),
    _proved("V13", "A dropout layer differs in position, rate, granularity or scale.", conventions),
    _proved("V18", "The updates of an optimizer on given gradients differ.", conventions),
    _proved("V19", "The updates of an optimizer with weight decay on given gradients differ.", conventions),
    _proved("V20", "The updates of an optimizer on given gradients differ after the learning rate drops.", conventions),
    _proved("V22", "The step of the backbone or the head does not follow the learning rate of that part.", conventions),
    _proved("V28", "The batches of an augmentation differ.", conventions),
)
