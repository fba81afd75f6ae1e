"""Other libraries' loops: the same losses as ours, and ratios only between loops of the same work."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.studies.peers.__main__ import main, rotated, text
from benchmarks.studies.peers.loops import PEERS, Ours, Peer, Plan, RecipeName, run_ours, run_peer
from benchmarks.studies.peers.ratios import FIRST, Loop, difference, judge
from benchmarks.studies.peers.task import STEPS_FILE, Steps, prepare, train
from harness.data.dataset import DatasetMeta
from harness.process.ask import ask
from harness.spec import Case

PLAN = Plan(image_size=32, batch_size=8, epochs=1, threads=1).proof
IN_EVERY_RUN = ("tutorial", "keras")
"""Peers that need no further library."""
RECIPES: tuple[RecipeName, ...] = ("full", "frozen")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 images of 34 px in three classes, unsorted."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    labels = draw.permutation(np.arange(40) % 3)
    images = draw.integers(0, 256, (40, 34, 34, 3), dtype=np.uint8)
    for split in ("train", "val", "test"):
        np.save(folder / f"{split}.images.npy", images)
        np.save(folder / f"{split}.labels.npy", labels)
    counts = dict.fromkeys(("train", "val", "test"), 40)
    meta = DatasetMeta(name="tiny", sha256="", image_size=32, side=34, classes=("a", "b", "c"), counts=counts)
    (folder / "meta.json").write_bytes(msgspec.json.encode(meta))
    return str(folder)


class Task(NamedTuple):
    """The folder of a task, and the steps of our loop on it."""

    folder: Path
    ours: Steps


@pytest.fixture(scope="module")
def tasks(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Ours, RecipeName], Task]:
    """Each task with our loop; one worker prepares and trains all of a network, because starting one takes long."""
    found = {}
    peers = [peer for peer in PEERS if peer.missing() is None]
    for network in dict.fromkeys(peer.network for peer in peers):
        own = list(dict.fromkeys((peer.ours(r), r) for peer in peers if peer.network == network for r in RECIPES))
        cases = [PLAN.case(network, recipe, live_norm=ours.live_norm) for ours, recipe in own]
        folders = [tmp_path_factory.mktemp("task") for _ in own]
        facts = {"cases": cases, "dataset": dataset, "tasks": list(map(str, folders))}
        steps = ask(prepare_and_train, facts, list[Steps], cores=1, engine=network.engine)
        found |= dict(zip(own, map(Task, folders, steps), strict=True))
    return found


def prepare_and_train(cases: list[Case], dataset: str, tasks: list[str]) -> list[Steps]:
    """Prepare the task of each case and run our loop on it, in this worker."""
    assert [prepare(case, dataset, None, task) for case, task in zip(cases, tasks, strict=True)] == [40] * len(cases)
    return [train(case, task) for case, task in zip(cases, tasks, strict=True)]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "peer",
    [pytest.param(peer, id=peer.name, marks=() if peer.name in IN_EVERY_RUN else pytest.mark.peers) for peer in PEERS],
)
def test_a_peer_has_the_losses_of_our_loop(
    peer: Peer, recipe: RecipeName, tasks: dict[tuple[Ours, RecipeName], Task]
) -> None:
    if reason := peer.missing():
        pytest.skip(reason)
    folder, ours = tasks[peer.ours(recipe), recipe]
    theirs = run_peer(peer, 1, folder)
    assert len(theirs.step_ends_s) == len(theirs.losses) == 5
    assert list(theirs.step_ends_s) == sorted(theirs.step_ends_s)
    assert theirs.end_s >= theirs.step_ends_s[-1]
    assert difference(theirs.losses, ours.losses, [peer.tolerance] * 5) is None


def test_our_loop_in_a_process_of_its_own_has_the_same_losses(tasks: dict[tuple[Ours, RecipeName], Task]) -> None:
    ours = PEERS[0].ours("full")
    folder, before = tasks[ours, "full"]
    steps = run_ours(ours, "full", PLAN, folder)
    assert difference(steps.losses, before.losses, [1e-12] * 5) is None
    assert steps.wall_s > steps.end_s - steps.step_ends_s[0]


def test_a_script_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"^tutorial: tutorial_loop.py ended with 1: FileNotFoundError.*task.json"):
        run_peer(PEERS[0], 1, tmp_path)
    assert not (tmp_path / STEPS_FILE).exists()


def test_a_library_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer("none", "none.py", ("no_such_library",), PEERS[0].network, live_norm=False)
    assert peer.missing() == "none: no_such_library not installed; install the extra [peers]"
    monkeypatch.setattr("benchmarks.studies.peers.__main__.PEERS", (msgspec.structs.replace(peer, name="timm"),))
    done = CliRunner().invoke(main, ["--peer", "timm"])
    assert (done.exit_code, done.output) == (
        1,
        "Error: timm: no_such_library not installed; install the extra [peers]\n",
    )


def _steps(total_s: float, *losses: float, wall_s: float = 10.0) -> Steps:
    ends = tuple(np.linspace(0.0, total_s, 8).tolist())
    return Steps(step_ends_s=ends, end_s=total_s, losses=losses or (2.0, 1.9, 1.8), wall_s=wall_s)


def _judge(measured: dict[str, list[Steps]], *proof: float) -> list[Loop]:
    proofs = {"ours": _steps(1.0, 2.0, 1.9, 1.8), "peer": _steps(1.0, *(proof or (2.0, 1.9, 1.8)))}
    return judge(measured, proofs, {"peer": "ours"}, {"peer": 1e-9}, batch_size=4)


def test_a_ratio_is_the_median_over_the_pairs_of_a_round() -> None:
    measured = {
        "ours": [_steps(7.0), _steps(14.0), _steps(7.0)],
        "peer": [_steps(7.7, wall_s=20.0), _steps(21.0, wall_s=30.0), _steps(8.4, wall_s=40.0)],
    }
    ours, peer = _judge(measured, 2.0, 1.9, 1.8 * (1 + 1e-12))
    assert (peer.ratio, peer.low, peer.high) == pytest.approx((1.2, 1.1, 1.5))
    assert (peer.wall_ratio, peer.seconds, peer.rounds) == (3.0, 8.4, 3)
    assert peer.gap == pytest.approx(1e-12, rel=1e-3)
    assert ours.images_per_s == pytest.approx(4.0)
    assert (ours.ratio, ours.beside, ours.gap) == (None, None, None)


def test_one_round_has_a_ratio_without_an_interval() -> None:
    _, peer = _judge({"ours": [_steps(7.0)], "peer": [_steps(14.0)]})
    assert (peer.ratio, peer.low, peer.high) == (2.0, None, None)


@pytest.mark.parametrize("step", range(len(FIRST)))
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_peer_whose_first_losses_differ_is_named_and_has_no_ratio(step: int, sign: int) -> None:
    losses = [2.0, 1.9, 1.8]
    losses[step] *= 1 + sign * 1.5 * FIRST[step]
    loops = _judge({"ours": [_steps(7.0)] * 2, "peer": [_steps(7.0), _steps(7.0, *losses)]})
    assert loops[1].ratio is None
    assert loops[1].different == f"loss of step {step + 1} is {losses[step]:.9g} instead of {[2.0, 1.9][step]:.9g}"
    assert f"peer: {loops[1].different}, so its work differs and it has no ratio" in text(loops)


@pytest.mark.parametrize("step", range(3))
def test_a_peer_whose_losses_differ_in_float64_has_no_ratio(step: int) -> None:
    losses = [2.0, 1.9, 1.8]
    losses[step] *= 1 + 2e-9
    _, peer = _judge({"ours": [_steps(7.0)], "peer": [_steps(7.0)]}, *losses)
    assert (peer.ratio, peer.gap) == (None, None)
    assert peer.different and peer.different.startswith(f"in float64, loss of step {step + 1} is ")


def test_a_loss_that_is_not_a_number_differs() -> None:
    assert difference((2.0, float("nan")), (2.0, 1.9), FIRST) == "loss of step 2 is nan instead of 1.9"


def test_a_peer_with_fewer_steps_differs() -> None:
    assert difference((2.0, 1.9), (2.0, 1.9, 1.8), FIRST) == "2 steps instead of 3"


def test_each_loop_is_first_in_one_round() -> None:
    orders = [rotated(["a", "b", "c"], number) for number in range(3)]
    assert {order[0] for order in orders} == {"a", "b", "c"}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
