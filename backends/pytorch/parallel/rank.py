"""The program of the process of another device: read a job, train its share of a stage with the first process, end.

It writes `ready` when its network is built, and ends when its input is closed.
"""

from __future__ import annotations

import os
import sys

import msgspec

from backends.pytorch.parallel.processes import RankJob, connect
from backends.pytorch.parallel.share import DeviceShare, receive
from harness import PREFIX
from harness.lazy import import_quickly
from harness.plugins import find_model
from harness.process.environment import bind_threads
from harness.process.worker import die_with


def main() -> None:
    """Run the job of standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=RankJob)
    die_with(job.parent)
    bind_threads(job.cores)
    import_quickly(f"{PREFIX}backends.pytorch.session")
    import torch

    from backends.pytorch.session import TorchSession

    if torch.cuda.is_available() and job.case.device != "cpu":
        torch.cuda.set_device(job.rank)
    _, model = find_model(job.case.backend, job.model, job.plugins)
    session = TorchSession(job.case, model, job.classes)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    connect(job.rendezvous, job.case, job.rank)
    epochs = (receive(job.steps_per_epoch, job.shape) for _ in range(job.stage.epochs))
    session.train_share(job.stage, job.steps_per_epoch, epochs, DeviceShare(job.rank, job.case.devices), None)
    sys.stdin.read()
    os._exit(0)  # the threads of a process group may crash a normal exit


if __name__ == "__main__":
    main()
