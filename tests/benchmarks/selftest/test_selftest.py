"""The benchmark of the benchmark, and whether it could fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from benchmarks.selftest import fixtures, running
from benchmarks.selftest.certificates import rehearsed
from benchmarks.selftest.experiments import Experiment, ExperimentRunner, ExperimentSetting
from benchmarks.selftest.machine import MS, Pending, SimulatedMachine
from benchmarks.selftest.naive_formulas import NAIVE_FORMULAS, NaiveResult, show
from benchmarks.selftest.report import lines, merged, score
from benchmarks.selftest.running import Clean, SelftestOutcome, SinTrial, attempt
from benchmarks.selftest.sin import Sin, SinPlace
from benchmarks.selftest.sins import SINS
from harness.clock import Clock
from harness.rules import Breach, Rule, ask, without
from results.certificates.certificate import Check
from results.certificates.evidence import at_most
from results.certificates.proof import prove
from results.rules.certificate_rules import CERTIFICATE_RULES
from results.rules.registry import RULES, TRAPS
from tests.benchmarks.commanding import invoke

RESULTS = Path(__file__).resolve().parents[3] / "results"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ExperimentRunner:
    return ExperimentRunner(tmp_path_factory.mktemp("bench"))


def named(name: str) -> Sin:
    return next(sin for sin in SINS if sin.name == name)


def test_every_sin_is_noticed_by_its_rule_and_gets_through_without_it() -> None:
    result = invoke("selftest", "--quiet")
    assert result.exit_code == 0, result.output
    printed = result.output.splitlines()
    assert printed[-1] == "39/39"
    assert sum(line.startswith("ok ") for line in printed) == len(SINS) + len(NAIVE_FORMULAS)
    assert not [line for line in printed if line.startswith("NO ")]
    assert "100 correct runs: none is reported" in printed


def test_the_sins_are_those_of_the_rules(shared: Path) -> None:
    text = " ".join((shared / "RULES.md").read_text().partition("rule speaks: ")[2].split())
    wanted = [re.sub(r" \(.*\)$", "", sin.strip(" .")) for sin in text.split(" · ")]
    assert [sin.name for sin in SINS[: len(wanted)]] == wanted
    assert {sin.rule for sin in SINS[len(wanted) :]} == {"V53"}


def test_no_check_knows_the_sins() -> None:
    product = [
        *RESULTS.rglob("*.py"),
        *RESULTS.parent.glob("harness/**/*.py"),
        RESULTS.parent / "benchmarks/running/execute.py",
    ]
    assert not [path for path in product if "selftest" in path.read_text()]


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("name", ["frozen weight moved", "a missing update", "head initialised differently"])
def test_a_sin_is_found_wherever_it_is_planted(runner: ExperimentRunner, name: str, seed: int) -> None:
    for gross in (True, False):
        trial = attempt(runner, named(name), gross, (seed,))
        assert trial.fault == ""
        assert trial.message.startswith(f"{trial.rule}: ")


def virtuous(place: SinPlace) -> AbstractContextManager[None]:
    return nullcontext()


def test_a_sin_that_nobody_notices_is_not_counted(runner: ExperimentRunner) -> None:
    trial = attempt(runner, Sin("none at all", "V09", ExperimentSetting(), virtuous), True, (0,))
    assert trial.fault == "V09 does not detect it: no message"


def test_a_rule_that_speaks_when_it_is_switched_off_is_not_counted(runner: ExperimentRunner) -> None:
    """A sentence with its id comes from somewhere else than the rule."""

    lost = [Breach("V99", "", "all is lost")]

    @contextmanager
    def said_elsewhere(place: SinPlace) -> Iterator[None]:
        with patch("benchmarks.selftest.experiments.unfollowed", lambda table, frame: lost):
            yield

    trial = attempt(runner, Sin("a vacuous one", "V99", ExperimentSetting(), said_elsewhere), True, (0,))
    assert trial.fault == "without V99 it is still reported: ['V99: all is lost']"


def test_a_sin_that_something_without_a_rule_stops_is_not_counted(runner: ExperimentRunner) -> None:
    @contextmanager
    def broken(place: SinPlace) -> Iterator[None]:
        def fail(*arguments: Any) -> None:
            raise ValueError("no sin, a fault")

        with patch("harness.running.stage.StageObserver.epoch_begins", fail):
            yield

    trial = attempt(runner, Sin("a fault", "V09", ExperimentSetting(), broken), True, (0,))
    assert "V09 does not detect it: ['ValueError: no sin, a fault']" in trial.fault


@pytest.mark.parametrize(
    "setting", [ExperimentSetting(asynchronous=True, seed=30), ExperimentSetting(input="stream", head="mlp", seed=40)]
)
def test_what_is_clean_is_not_spoken_against(runner: ExperimentRunner, setting: ExperimentSetting) -> None:
    experiment = Experiment(setting)
    assert runner.judge(experiment) == []
    assert runner.judge(experiment, ["V09", "V40"]) == []


def test_rules_that_would_notice_too_are_found_and_the_right_one_notices_alone(runner: ExperimentRunner) -> None:
    trial = attempt(runner, named("a batch fed twice"), False, (3,))
    assert (trial.rule, trial.fault) == ("V24", "")
    assert {"V27", "V28"} <= set(trial.also)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.id} {rule.scope}")
def test_every_rule_is_switched_off_in_one_way_and_comes_back(rule: Rule[Any]) -> None:
    speaking = rule._replace(check=lambda: [("here", "something")])
    said = [Breach(rule.id, "here", "something")]
    with without([rule.id]):
        assert list(speaking()) == []
    assert list(speaking()) == said
    with without([other for other in TRAPS if other != rule.id]):
        assert list(speaking()) == said


def test_every_rule_of_a_certificate_names_comparisons_that_are_made(
    runner: ExperimentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = ExperimentSetting()
    evidence = runner._rehearsals.compare(*runner._jobs(setting, fixtures.dataset(runner._home)))
    scenarios = [rehearsed(setting.scenario)]
    assert ask(CERTIFICATE_RULES, evidence, scenarios) == []

    def failed(*arguments: Any, **named: Any) -> Check:
        return replace(at_most(*arguments, **named), passed=False)

    monkeypatch.setattr("results.certificates.evidence.at_most", failed)
    monkeypatch.setattr("results.certificates.proof.at_most", failed)
    made = {id for check in prove(evidence, scenarios) for id in check.rule.split(", ")}
    assert made == {rule.id for rule in CERTIFICATE_RULES}
    for rule in CERTIFICATE_RULES:
        assert {breach.rule for breach in rule(evidence, scenarios)} == {rule.id}


def test_V40_on_a_machine_whose_device_lags_behind_the_clock_recovers_the_truth() -> None:
    machine = SimulatedMachine(0, asynchronous=True)
    clock = Clock(
        steps=200, batch_size=8, warmup_steps=3, sync=machine.wait, compile_events=lambda: 0,
        on_epoch_end=lambda epoch: None, now=machine.now,
    )  # fmt: skip
    clock.epoch_begin()
    for _ in range(200):
        clock.tick(Pending(0.0, machine, machine.step()))
    clock.epoch_end()
    window = next(window for window in clock.windows() if window.kind == "throughput")
    assert window.seconds / window.steps == pytest.approx(100 * MS / 1e9, rel=0.01)
    assert clock.drained_ns == 0


def trial(name: str, fault: str = "") -> SinTrial:
    return SinTrial(name=name, rule="V09", magnitude="subtle", message="it moved (V09)", also=("V14",), fault=fault)


def test_the_score_counts_sins_whose_both_magnitudes_are_proved() -> None:
    clean = Clean(runs=50, messages=())
    one = SelftestOutcome(trials=(trial("b"), trial("b")), clean=clean)
    other = SelftestOutcome(trials=(trial("a"), trial("a", "no")), clean=clean, shown=(shown(),))
    whole = merged([one, other], ["a", "b"])
    assert score(whole) == (1, 2)
    assert score(replace(whole, clean=Clean(runs=100, messages=("a mark",)))) == (0, 2)
    text = list(lines(whole))
    assert text[1:4] == [
        "NO   1 a: detected by V09 (and by V14)",
        "       subtle: no",
        "ok   2 b: detected by V09 (and by V14)",
    ]
    assert "100 correct runs: none is reported" in text
    assert text[-2:] == ["ok a formula: gives 2; true is 1", "      this harness: no (V51)"]


def shown(**changes: str) -> NaiveResult:
    return NaiveResult(**{"name": "a formula", "naive": "2", "true": "1", "message": "no (V51)", **changes})


def test_a_shim_that_is_right_or_goes_unnoticed_does_not_hold() -> None:
    assert shown().holds
    assert not shown(naive="1").holds
    assert not shown(message="").holds


def test_a_sin_that_gets_away_makes_the_command_end_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [SelftestOutcome(trials=(trial(SINS[0].name, "nobody"),), clean=Clean(runs=1, messages=()))]
    monkeypatch.setattr("benchmarks.commands.inspecting.selftest.in_parts", lambda seed, on_event: parts)
    result = invoke("selftest", "--quiet")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "0/1"


def test_well_known_arithmetic_gives_wrong_answers(runner: ExperimentRunner) -> None:
    latency, hidden, equal, divided = show(runner)
    assert float(latency.naive.split()[0]) > 20 * float(latency.true.split()[0])
    assert "V51" in latency.message
    assert hidden.naive.endswith("without a problem")
    assert hidden.message == "V07: stage 1: 36 forwards in 18 steps"
    assert (equal.naive, equal.true[:7]) == ("equal", "unequal")
    assert "V05" in equal.message
    assert float(divided.naive.split()[-1]) < float(divided.true.split()[-1]) / 10
    assert "V23" in divided.message


def test_clean_runs_differ_in_scenario_input_head_and_machine() -> None:
    settings: list[ExperimentSetting] = []

    class Noting:
        def judge(self, experiment: Experiment) -> list[Breach | str]:
            settings.append(experiment.setting)
            return []

    clean = running.without_sin(Noting(), 0, range(25))  # type: ignore[arg-type]
    assert (clean.runs, clean.messages) == (100, ())
    assert {setting.scenario.name for setting in settings} == {scenario.name for scenario in fixtures.SCENARIOS}
    for field in ("input", "head", "asynchronous", "certified"):
        assert len({getattr(setting, field) for setting in settings}) == 2
    assert len({setting.seed for setting in settings}) == 25
