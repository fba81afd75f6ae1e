from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from msgspec.structs import replace

from backends.reference.session import ReferenceSession
from benchmarks.choosing.scenarios import RECIPES, SCENARIOS, find_scenario
from benchmarks.datasets.writing import PreparedDataset
from harness.clock import NotFinite
from harness.data.augment import parse_augment
from harness.data.checkpoint import read_checkpoint
from harness.errors import Declined, Refused
from harness.process.energy import Idle
from harness.running import sensors
from harness.running.evaluate import quality
from harness.running.initial_weights import head_arrays
from harness.running.record import Energy, Record
from harness.running.saved_model import read_card
from harness.spec import Optimizer, Schedule, key, version
from results.rules.record_rules import breaches
from results.storage.windows import compile_s
from results.tables.figures import measure
from tests.harness.cases import STAGE, run_here, scenario, tiny_arrays, tiny_case, write_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def record(tiny_dataset: PreparedDataset, checkpoint: str) -> Record:
    return run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario()), checkpoint_path=checkpoint)


def test_the_wall_parts_do_not_overlap_and_add_up(record: Record) -> None:
    assert set(record.wall_s) == {"start", "open files", "import", "build", "load", "audit", "setup", "prepare", "wait",
                                  "first step", "step", "evaluation", "other"}  # fmt: skip
    assert all(seconds >= 0 for seconds in record.wall_s.values())
    assert sum(record.wall_s.values()) == pytest.approx(record.total_s, rel=1e-9)


def test_the_wall_is_no_longer_than_the_time_that_passed(tiny_dataset: PreparedDataset) -> None:
    before = time.time()
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(STAGE, STAGE, start="random")))
    assert found.total_s < time.time() - before + 0.005


def test_training_in_the_wall_is_training_on_the_clock(record: Record) -> None:
    training = record.wall_s["first step"] + record.wall_s["step"] + record.wall_s["wait"]
    assert training == pytest.approx(sum(epoch.seconds for stage in record.stages for epoch in stage.epochs), rel=1e-6)


def test_every_step_and_every_epoch_is_in_the_record(record: Record) -> None:
    (stage,) = record.stages
    assert len(stage.step_us) == len(stage.losses) == 2 * 6
    assert sum(window.steps for window in stage.windows) == 12
    assert [window.kind for window in stage.windows] == ["first", "warmup", "throughput", "latency"]
    assert all(window.images == 8 * window.steps for window in stage.windows)
    assert len(stage.epochs) == 2
    assert stage.samples_seen == (2, 2)
    assert stage.norm_steps == 12
    assert stage.losses[-1] < stage.losses[0]


def test_accuracy_is_that_of_the_stored_logits(tiny_dataset: PreparedDataset, checkpoint: str, tmp_path: Path) -> None:
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario()), tmp_path, checkpoint_path=checkpoint)
    with np.load(tmp_path / "logits.npz", allow_pickle=False) as stored:
        assert stored["logits"].shape == (24, 3)
        assert stored["logits"].dtype == np.float32
        assert list(stored["ids"]) == list(range(24))
        assert quality(stored["logits"], stored["labels"]) == found.test
    assert found.test is not None
    assert found.test.images == 24
    assert found.val is not None
    assert found.val.accuracy == found.stages[-1].epochs[-1].val_accuracy


def test_the_record_says_what_ran(record: Record, tiny_dataset: PreparedDataset) -> None:
    assert (record.status, record.key, record.version) == ("ok", key(record.case), version(record.case))
    assert record.classes == tiny_dataset.meta.classes
    assert record.parameters == {"backbone": 6088, "head": 3 * 33, "buffers": 112}
    assert record.stages[0].trainable_parameters == 6088 + 3 * 33
    assert record.effective is not None
    assert (record.effective.device, record.effective.precision) == ("cpu", "fp32")
    assert {"python", "numpy"} <= record.versions.keys()
    assert record.memory is not None
    assert record.memory.process_peak > record.memory.private_peak > 0
    assert record.sensors is not None
    assert record.sensors.cpu_over_wall > 0


def test_every_epoch_is_reported_as_it_ends(tiny_dataset: PreparedDataset) -> None:
    events: list[dict[str, Any]] = []
    found = run_here(tiny_dataset, tiny_case(tiny_dataset), events=events)
    assert [(event["stage"], event["epoch"], event["epochs"]) for event in events] == [(1, 1, 2), (1, 2, 2)]
    assert [event["val_accuracy"] for event in events] == [epoch.val_accuracy for epoch in found.stages[0].epochs]


def test_the_backbone_comes_from_the_checkpoint_and_the_head_from_the_harness(record: Record, checkpoint: str) -> None:
    backbone = sorted(name for name in read_checkpoint(checkpoint).arrays if name.startswith("features."))
    assert record.load is not None
    assert sorted(record.load.loaded) == backbone
    assert record.load.classifier == ("classifier.bias", "classifier.weight")
    assert record.load.complete
    assert record.head_sha256
    assert record.start_sha256 != record.head_sha256


def test_one_seed_gives_the_same_record_bit_by_bit_in_two_processes(
    tiny_dataset: PreparedDataset, record: Record, checkpoint: str
) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply(run_here, (tiny_dataset, case), {"checkpoint_path": checkpoint})
    assert learned(other) == learned(record)


def learned(record: Record) -> tuple[object, ...]:
    curves = [(e.train_loss, e.val_loss, e.val_accuracy) for stage in record.stages for e in stage.epochs]
    digests = [(s.losses, s.audit, s.order_sha256, s.pixels_sha256) for s in record.stages]
    return (record.test, record.val, record.head_sha256, record.start_sha256, curves, digests)


def test_a_run_that_evaluates_no_training_images_learns_the_same(
    tiny_dataset: PreparedDataset, record: Record, checkpoint: str
) -> None:
    found = run_here(
        tiny_dataset, tiny_case(tiny_dataset, scenario=scenario()), checkpoint_path=checkpoint, train_sample=0
    )
    assert {(e.train_loss, e.train_accuracy) for stage in found.stages for e in stage.epochs} == {(None, None)}
    assert {stage.train_sample for stage in found.stages} == {0}
    assert (found.val, found.test) == (record.val, record.test)
    assert [stage.losses for stage in found.stages] == [stage.losses for stage in record.stages]


def test_another_seed_is_another_head_another_order_and_the_same_version(
    tiny_dataset: PreparedDataset, record: Record, checkpoint: str
) -> None:
    other = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(), seed=1), checkpoint_path=checkpoint)
    assert other.head_sha256 != record.head_sha256
    assert other.stages[0].order_sha256 != record.stages[0].order_sha256
    assert other.version == record.version
    assert other.key != record.key


def test_seeds_start_from_the_same_backbone_with_a_checkpoint_and_from_others_without(
    tiny_dataset: PreparedDataset, checkpoint: str
) -> None:
    frozen = scenario(replace(STAGE, frozen="backbone"))
    random = scenario(replace(STAGE, frozen="backbone"), start="random")
    for plan, same in ((frozen, True), (random, False)):
        path = checkpoint if same else None
        digests = {
            run_here(
                tiny_dataset, tiny_case(tiny_dataset, scenario=plan, seed=seed), checkpoint_path=path
            ).stages[0].audit.frozen_sha256
            for seed in (0, 1)
        }  # fmt: skip
        assert len(digests) == (1 if same else 2)


@pytest.mark.parametrize("name", [*SCENARIOS, "freeze-blocks-1"])
def test_V09_V14_every_scenario_moves_what_it_says_and_nothing_else(
    tiny_dataset: PreparedDataset, checkpoint: str, name: str
) -> None:
    plan = find_scenario(name, RECIPES["embedded"], {})
    plan = replace(plan, stages=tuple(replace(stage, epochs=1, batch_size=8) for stage in plan.stages))
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=plan), checkpoint_path=checkpoint)
    assert [stage.audit.breaches for stage in found.stages] == [()] * len(plan.stages)
    tensors = 15 + 2
    moved = {"freeze-conv": 2, "freeze-conv-lr0": 2, "freeze-conv-live-norm": 2 + 6, "freeze-blocks": 5 + 2,
             "freeze-blocks-1": 10 + 2, "two-stage": 2}.get(name, tensors)  # fmt: skip
    assert found.stages[0].audit.moved == moved
    assert found.stages[0].audit.fixed == tensors - moved
    assert found.stages[-1].norm_steps == (0 if name in ("freeze-conv", "freeze-conv-lr0") else 6)


def test_scratch_is_the_recipe_of_full_from_a_random_start() -> None:
    full, scratch = (find_scenario(name, RECIPES["embedded"], {}) for name in ("full", "scratch"))
    assert full.stages == scratch.stages
    assert (full.start, scratch.start) == ("checkpoint", "random")


def test_scratch_takes_nothing_but_the_normalisation_from_a_checkpoint(
    tiny_dataset: PreparedDataset, checkpoint: str
) -> None:
    case = tiny_case(tiny_dataset)
    without, given = run_here(tiny_dataset, case), run_here(tiny_dataset, case, checkpoint_path=checkpoint)
    assert given.load is None
    assert given.start_sha256 == without.start_sha256
    assert given.stages[0].pixels_sha256 != without.stages[0].pixels_sha256


BEST = replace(STAGE, epochs=4, head_lr=1.0, backbone_lr=1.0, keep="best")
"""A rate at which the last epoch of four is not the best one; seed and data are fixed, so that it stays so."""


def test_keeping_the_best_epoch_ends_with_its_weights(tiny_dataset: PreparedDataset) -> None:
    best = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(BEST, start="random")))
    last = run_here(
        tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(replace(BEST, keep="last"), start="random"))
    )
    accuracies = [epoch.val_accuracy for epoch in best.stages[0].epochs]
    kept = best.stages[0].kept_epoch
    assert kept == accuracies.index(max(accuracies)) < 3
    assert last.stages[0].kept_epoch == 3
    assert best.val is not None
    assert last.val is not None
    assert best.val.accuracy == accuracies[kept]
    assert best.val.loss == best.stages[0].epochs[kept].val_loss
    assert last.val.loss == last.stages[0].epochs[3].val_loss != best.val.loss


def test_the_second_stage_starts_from_the_best_epoch_of_the_first(tiny_dataset: PreparedDataset) -> None:
    still = replace(STAGE, epochs=1, head_lr=0.0, backbone_lr=0.0, norm="frozen")
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(BEST, still, start="random")))
    kept = found.stages[0].kept_epoch
    assert kept < 3
    assert found.stages[1].epochs[0].val_loss == found.stages[0].epochs[kept].val_loss


def test_stages_do_not_see_each_others_order_or_optimizer(tiny_dataset: PreparedDataset) -> None:
    twice = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(STAGE, STAGE, start="random")))
    assert twice.stages[0].order_sha256 != twice.stages[1].order_sha256


def test_the_learning_rate_that_diverges_names_the_step(tiny_dataset: PreparedDataset) -> None:
    wild = scenario(replace(STAGE, head_lr=1e30, backbone_lr=1e30), start="random")
    with np.errstate(all="ignore"), pytest.raises(NotFinite, match=r"loss is not finite at step \d+"):
        run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=wild))


def test_a_training_that_diverges_in_its_very_last_step_is_found_out_too(tiny_dataset: PreparedDataset) -> None:
    late = Schedule(name="step", every_epochs=5, factor=1e35)
    wild = scenario(replace(STAGE, epochs=6, batch_size=48, schedule=late), start="random")
    with np.errstate(all="ignore"), pytest.raises(NotFinite, match="loss is not finite after epoch 6"):
        run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=wild))


def test_a_checkpoint_that_lacks_tensors_says_so_and_strict_makes_it_an_error(
    tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    arrays = tiny_arrays()
    del arrays["features.1.0.weight"]
    arrays["features.2.0.weight"] = arrays["features.2.0.weight"][:, :, :2]
    arrays["features.9.0.weight"] = np.zeros((2, 2), np.float32)
    path = str(write_tiny(tmp_path / "partial.safetensors", arrays))
    case = tiny_case(tiny_dataset, scenario=scenario())
    load = run_here(tiny_dataset, case, checkpoint_path=path).load
    assert load is not None
    assert load.missing == ("features.1.0.weight",)
    assert load.unexpected == ("features.9.0.weight",)
    assert [name for name, _, _ in load.mismatched] == ["features.2.0.weight"]
    with pytest.raises(Refused, match=r"--strict: .*1 missing \(features\.1\.0\.weight\), 1 unexpected"):
        run_here(tiny_dataset, case, checkpoint_path=path, strict=True)


def test_strict_is_content_with_a_whole_checkpoint(tiny_dataset: PreparedDataset, checkpoint: str) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario())
    assert run_here(tiny_dataset, case, checkpoint_path=checkpoint, strict=True).status == "ok"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_with_values_that_are_not_finite_is_refused_by_name(
    tiny_dataset: PreparedDataset, tmp_path: Path, value: float
) -> None:
    arrays = tiny_arrays()
    arrays["features.1.0.weight"][0, 0, 0, 0] = value
    path = str(write_tiny(tmp_path / "nan.safetensors", arrays))
    with pytest.raises(Refused, match=r"features\.1\.0\.weight.*not finite"):
        run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario()), checkpoint_path=path)


def test_rows_of_known_classes_are_reused_only_when_asked_for(tiny_dataset: PreparedDataset, tmp_path: Path) -> None:
    path = str(write_tiny(tmp_path / "named.safetensors", classes=("cat", "blue", "dog", "red")))
    case = tiny_case(tiny_dataset, scenario=scenario())
    plain = run_here(tiny_dataset, case, checkpoint_path=path)
    reusing = run_here(tiny_dataset, replace(case, reuse_head=True), checkpoint_path=path)
    assert plain.load is not None
    assert reusing.load is not None
    assert plain.load.reused_classes == ()
    assert set(reusing.load.reused_classes) == {"red", "blue"}
    assert plain.head_sha256 != reusing.head_sha256


def test_V08_the_head_starts_with_the_harness_s_arrays(tiny_dataset: PreparedDataset, tmp_path: Path) -> None:
    still = scenario(replace(STAGE, epochs=1, head_lr=0.0, frozen="backbone"), start="random")
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=still, seed=3), save_model=str(tmp_path))
    kept = read_checkpoint(Path(found.artefacts["model"]) / "model.safetensors")
    for name, array in head_arrays("linear", 32, 3, "default", 3).items():
        np.testing.assert_array_equal(kept.arrays[name], array)


def test_a_kept_network_says_how_to_use_it(tiny_dataset: PreparedDataset, tmp_path: Path) -> None:
    case = tiny_case(tiny_dataset)
    found = run_here(tiny_dataset, case, save_model=str(tmp_path))
    card = read_card(found.artefacts["model"])
    assert (card.case, card.classes, card.side) == (case, tiny_dataset.meta.classes, 32)
    assert (Path(found.artefacts["model"]) / card.native).is_file()
    meta = read_checkpoint(Path(found.artefacts["model"]) / "model.safetensors").meta
    assert (meta.model, meta.classes, meta.normalisation) == ("tiny-cnn", card.classes, card.normalisation)


def test_what_a_backend_declines_is_declined_with_its_reason(tiny_dataset: PreparedDataset) -> None:
    with pytest.raises(Declined, match="CPU only"):
        run_here(tiny_dataset, tiny_case(tiny_dataset, device="cuda"))


def test_a_scenario_that_needs_a_checkpoint_is_declined_without_one(tiny_dataset: PreparedDataset) -> None:
    with pytest.raises(Declined, match="needs a checkpoint, but tiny-cnn has none"):
        run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario()))


SLOPPY = """
from types import ModuleType
import backends.reference as reference
from backends.reference.session import ReferenceSession

class Sloppy(ReferenceSession):
    def load(self, arrays):
        super().load({name: array for name, array in arrays.items() if name != "head.bias"})

sloppy = ModuleType("sloppy")
vars(sloppy).update({name: getattr(reference, name) for name in reference.__all__})
sloppy.open_session = Sloppy
BACKENDS = {"sloppy": sloppy}
"""


def test_a_session_that_keeps_something_else_than_it_was_given_is_caught(
    tiny_dataset: PreparedDataset, tmp_path: Path
) -> None:
    (tmp_path / "sloppy.py").write_text(SLOPPY)
    case = replace(tiny_case(tiny_dataset), backend="sloppy")
    with pytest.raises(Refused, match=r"head\.bias differs from the array that was loaded into it"):
        run_here(tiny_dataset, case, plugins=(str(tmp_path / "sloppy.py"),))


def test_streamed_pixels_learn_the_same_as_ready_ones(tiny_dataset: PreparedDataset) -> None:
    case = tiny_case(tiny_dataset)
    ready, streamed = run_here(tiny_dataset, case), run_here(tiny_dataset, replace(case, input="stream", workers=2))
    assert streamed.stages[0].losses == ready.stages[0].losses
    assert streamed.test == ready.test
    assert streamed.wall_s["wait"] > 0 == ready.wall_s["wait"]


def test_a_limit_trains_on_that_many_images(tiny_dataset: PreparedDataset) -> None:
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, limit=40))
    assert len(found.stages[0].step_us) == 2 * 5
    assert found.test is not None
    assert found.test.images == 24


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_every_optimizer_and_schedule_learns(tiny_dataset: PreparedDataset, rule: Any) -> None:
    rate = 0.05 if rule == "sgd" else 0.003
    stage = replace(STAGE, head_lr=rate, backbone_lr=rate, optimizer=Optimizer(name=rule), weight_decay=1e-4,
                    schedule=Schedule(name="cosine", warmup_steps=2), label_smoothing=0.1)  # fmt: skip
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(stage, start="random"), head="mlp"))
    assert found.stages[0].losses[-1] < found.stages[0].losses[0]
    assert found.stages[0].audit.breaches == ()


HEAD_ONLY = replace(STAGE, epochs=3, frozen="backbone")


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("augment", ["none", "flip", "random-resized-crop"])
@pytest.mark.parametrize("frozen", ["backbone", 1, 2])
def test_training_from_kept_features_is_the_same_training(
    tiny_dataset: PreparedDataset, checkpoint: str, tmp_path: Path, head: str, augment: str, frozen: Any
) -> None:
    plain = tiny_case(
        tiny_dataset,
        scenario=scenario(replace(HEAD_ONLY, frozen=frozen)),
        augment=parse_augment(augment),
        head=head,
        precision="fp64",
    )
    live, kept = (
        run_here(tiny_dataset, replace(plain, features=features), checkpoint_path=checkpoint)
        for features in ("live", "kept")
    )
    assert breaches(kept) == []
    assert kept.stages[0].losses == pytest.approx(live.stages[0].losses, rel=1e-10)
    assert kept.stages[0].order_sha256 == live.stages[0].order_sha256
    assert kept.stages[0].epochs[-1].val_accuracy == live.stages[0].epochs[-1].val_accuracy
    assert kept.test.accuracy == live.test.accuracy
    assert kept.test.loss == pytest.approx(live.test.loss, rel=1e-10)
    features = kept.stages[0].features
    assert live.stages[0].features is None
    assert features.part == frozen
    assert features.views == sum(features.views_of_epoch)
    images, most = kept.images["train"], {"none": 1, "flip": 2, "random-resized-crop": 3}[augment]
    assert images <= features.views <= images * most
    assert (features.views > images) == (augment != "none")


def test_the_training_images_pass_through_the_network_once_for_training_and_evaluation(
    tiny_dataset: PreparedDataset, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    features = ReferenceSession.features

    def counted(self: ReferenceSession, images: Any, part: Any) -> Any:
        batches.append(len(images))
        return features(self, images, part)

    monkeypatch.setattr(ReferenceSession, "features", counted)
    case = tiny_case(tiny_dataset, scenario=scenario(HEAD_ONLY), features="kept")
    run_here(tiny_dataset, case, checkpoint_path=checkpoint)
    # 48 training images in batches of the training, the first one twice; 12 and 24 others in a batch of 32 each.
    assert sorted(batches) == [8] * 7 + [32] * 2


def test_computing_features_is_a_part_of_the_wall_and_of_the_training_time(
    tiny_dataset: PreparedDataset, checkpoint: str
) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario(HEAD_ONLY), features="kept")
    found = run_here(tiny_dataset, case, checkpoint_path=checkpoint)
    features = found.stages[0].features
    assert found.wall_s["features"] == pytest.approx(features.seconds, rel=1e-6)
    assert sum(found.wall_s.values()) == pytest.approx(found.total_s, rel=1e-9)
    alone = sum(epoch.seconds for epoch in found.stages[0].epochs)
    assert measure(found)["train_s"] == pytest.approx(alone + features.seconds - compile_s(found.stages[0]), rel=1e-6)


def test_a_second_case_reads_the_features_of_the_first_and_reports_the_same_cost(
    tiny_dataset: PreparedDataset, checkpoint: str, tmp_path: Path
) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario(HEAD_ONLY), features="kept")
    more = {"checkpoint_path": checkpoint, "features_path": str(tmp_path / "features")}
    first = run_here(tiny_dataset, case, **more)
    again = run_here(tiny_dataset, replace(case, head="mlp"), **more)
    one, other = (record.stages[0].features for record in (first, again))
    assert (one.reused, other.reused) == (0, other.views)
    assert other.seconds == pytest.approx(one.seconds)
    assert again.wall_s["features"] == 0


@pytest.mark.parametrize("change", [{"image_size": 12}, {"precision": "fp64"}])
def test_features_of_another_case_are_not_read(
    tiny_dataset: PreparedDataset, checkpoint: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    case = tiny_case(tiny_dataset, scenario=scenario(HEAD_ONLY), features="kept")
    more = {"checkpoint_path": checkpoint, "features_path": str(tmp_path / "features")}
    run_here(tiny_dataset, case, **more)
    other = run_here(tiny_dataset, replace(case, **change), **more)
    assert other.stages[0].features.reused == 0


@pytest.mark.parametrize(("changes", "passes"), [({}, 1), ({"frozen": "none"}, 3), ({"norm": "batch"}, 3)])
def test_an_image_is_evaluated_from_its_features_while_the_backbone_is_fixed(
    tiny_dataset: PreparedDataset, checkpoint: str, changes: dict[str, Any], passes: int
) -> None:
    seen: list[int] = []
    whole, apart = ReferenceSession.predict, ReferenceSession.features

    def predict(self: ReferenceSession, images: Any) -> Any:
        seen.append(len(images))
        return whole(self, images)

    def features(self: ReferenceSession, images: Any, part: Any) -> Any:
        seen.append(len(images))
        return apart(self, images, part)

    with patch.object(ReferenceSession, "predict", predict), patch.object(ReferenceSession, "features", features):
        stage = replace(HEAD_ONLY, **changes)
        found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(stage)), checkpoint_path=checkpoint)
    evaluated = [found.images["val"], found.stages[0].train_sample]
    batches = sum(-(-count // 32) for count in evaluated) * passes + -(-found.images["test"] // 32)
    checks = 1 + (passes == 1)  # of the head, and of the features
    assert len(seen) == batches + checks


class Constant:
    """A counter of a machine that uses ten watts, and twenty once it was watched while idle."""

    name = "made up"

    def __init__(self) -> None:
        self.watched = False

    def joules(self) -> float:
        return (20 if self.watched else 10) * time.perf_counter()


def test_a_machine_with_a_counter_has_energy_and_its_idle_watch_is_in_no_part_of_the_time(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Constant()

    def watch(counters: list[Any]) -> list[Idle]:
        time.sleep(0.5)
        counter.watched = True
        return [Idle(10.0, 0.1, 0.001) for _ in counters]

    monkeypatch.setattr(sensors, "open_counters", lambda device: ([counter], []))
    monkeypatch.setattr(sensors, "watch_idle", watch)
    before = time.time()
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(STAGE, STAGE, start="random")))
    assert found.total_s < time.time() - before - 0.49
    assert found.energy is not None
    assert [one.name for one in found.energy.counters] == ["made up"]
    for stage in found.stages:
        assert stage.energy is not None
        assert len(stage.energy.epochs) == len(stage.epochs)
        for window in stage.windows:
            kind = stage.energy.kinds[window.kind]
            assert kind.seconds == pytest.approx(window.seconds, abs=0.02)
            assert kind.joules[0] == pytest.approx(20 * kind.seconds, abs=0.02)


def test_a_machine_without_a_counter_says_so_and_waits_for_nothing(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "open_counters", lambda device: ([], ["this machine has no RAPL counter"]))
    monkeypatch.setattr(sensors, "watch_idle", lambda counters: pytest.fail("it waited"))
    found = run_here(tiny_dataset, tiny_case(tiny_dataset, scenario=scenario(start="random")))
    assert found.energy == Energy(absent=("this machine has no RAPL counter",))
    assert all(stage.energy is None for stage in found.stages)
