"""The loops of the study, and the process that runs one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from benchmarks.studies.peers.task import STEPS_FILE, Steps, train
from harness.errors import Refused, one_line
from harness.process.ask import ask
from harness.process.environment import bound_to, worker_environment
from harness.spec import Case, Layout, Optimizer, Precision, Scenario, Stage

SCRIPTS = Path(__file__).parents[3] / "docs" / "peers"
MOMENTUM = float(np.float32(0.9))
"""0.9 as float32 holds it: Keras rounds the number so on TensorFlow, also for float64 weights."""
RecipeName = Literal["full", "frozen"]


class PeerNetwork(msgspec.Struct, frozen=True):
    """A network, in the backend of this project whose framework the loops use."""

    model: str
    backend: str
    engine: str | None = None


RESNET18 = PeerNetwork("resnet18", "pytorch")
MOBILENET = PeerNetwork("mobilenet-v2-0.35", "keras3", "tensorflow")


class Ours(msgspec.Struct, frozen=True):
    """The loop of this project for a network. `live_norm`: the statistics of frozen batch norms move."""

    network: PeerNetwork
    live_norm: bool

    @property
    def name(self) -> str:
        """The name in the table."""
        return f"ours ({self.network.backend}{', statistics move' if self.live_norm else ''})"


class Peer(msgspec.Struct, frozen=True):
    """Another library's loop: a script in `docs/peers`, and what the library does with a frozen batch norm."""

    name: str
    script: str
    libraries: tuple[str, ...]
    network: PeerNetwork
    live_norm: bool
    tolerance: float = 1e-9
    """Largest relative difference of a loss in float64; another order of sums gives 1e-13 in ten steps (V04)."""

    def missing(self) -> str | None:
        """Return a sentence if a library of this peer is not installed."""
        absent = [library for library in self.libraries if find_spec(library) is None]
        return f"{self.name}: {', '.join(absent)} not installed; install the extra [peers]" if absent else None

    def ours(self, recipe: RecipeName) -> Ours:
        """Return the loop of this project that does the same work."""
        return Ours(self.network, recipe == "frozen" and self.live_norm)


# The tutorial normalises its images itself, with another rounding of float32, and fastai computes its loss in float32;
# that alone moves losses by 1e-7.
PEERS = (
    Peer("tutorial", "tutorial_loop.py", ("torchvision",), RESNET18, live_norm=True, tolerance=1e-6),
    Peer("timm", "timm_step.py", ("timm",), RESNET18, live_norm=False),
    Peer("lightning", "lightning_trainer.py", ("lightning",), RESNET18, live_norm=True),
    Peer("transformers", "transformers_trainer.py", ("transformers", "accelerate"), RESNET18, live_norm=True),
    Peer("fastai", "fastai_learner.py", ("fastai",), RESNET18, live_norm=True, tolerance=1e-6),
    Peer("keras", "keras_fit.py", ("keras", "tensorflow"), MOBILENET, live_norm=False),
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the task and its precision, which all loops of a run share, and the memory layout of ours.

    The peers keep the layout of their library: channels-first in PyTorch, channels-last in Keras, as ours always is
    on TensorFlow.
    """

    image_size: int
    batch_size: int
    epochs: int
    threads: int
    precision: Precision = "fp32"
    layout: Layout = "channels-last"

    @property
    def proof(self) -> Plan:
        """The same task in float64 with one epoch, in which losses differ only if the work does."""
        return replace(self, epochs=1, precision="fp64")

    def case(self, network: PeerNetwork, recipe: RecipeName, *, live_norm: bool = False) -> Case:
        """Return the case of our loop: SGD at a constant rate of 0.001, momentum 0.9 in float32, random weights."""
        stage = Stage(
            epochs=self.epochs,
            head_lr=0.001,
            backbone_lr=0.001,
            frozen="none" if recipe == "full" else "backbone",
            norm="batch" if live_norm else "auto",
            batch_size=self.batch_size,
            optimizer=Optimizer(momentum=MOMENTUM),
        )
        return Case(
            backend=network.backend,
            engine=network.engine,
            model=network.model,
            scenario=Scenario(name=recipe, explanation="", stages=(stage,), start="random"),
            dataset="peers",
            dataset_sha256="",
            image_size=self.image_size,
            threads=self.threads,
            precision=self.precision,
            layout=self.layout if network.backend == "pytorch" else "channels-last",
        )


def run_ours(ours: Ours, recipe: RecipeName, plan: Plan, folder: Path) -> Steps:
    """Run this project's loop in a fresh process. Raises `Refused` if it fails."""
    case = plan.case(ours.network, recipe, live_norm=ours.live_norm)
    started = time.monotonic()
    arguments = {"case": case, "task": str(folder)}
    steps = ask(train, arguments, Steps, about=ours.name, cores=plan.threads, engine=case.engine)
    return replace(steps, wall_s=time.monotonic() - started)


def run_peer(peer: Peer, threads: int, folder: Path) -> Steps:
    """Run a script of `docs/peers` in a fresh process. Raises `Refused` if it fails or is not there."""
    script = SCRIPTS / peer.script
    if not script.exists():
        raise Refused(f"{script} does not exist; run this study in a checkout of the project")
    written = folder / STEPS_FILE
    written.unlink(missing_ok=True)
    started = time.monotonic()
    with bound_to(threads):
        done = subprocess.run(
            [sys.executable, str(script), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            env=worker_environment(threads, peer.network.engine, path=SCRIPTS),
        )
    wall = time.monotonic() - started
    if done.returncode or not written.exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Refused(f"{peer.name}: {script.name} ended with {done.returncode}: {one_line(lines[-1])}")
    return replace(msgspec.json.decode(written.read_bytes(), type=Steps), wall_s=wall)
