"""This program once more, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.process.environment import HERE


def afresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` with these arguments, whatever packages of that name lie in the current folder."""
    with begin_afresh(*arguments) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def begin_afresh(*arguments: str) -> subprocess.Popen[str]:
    """Start what `afresh` runs, and return at once."""
    path = os.pathsep.join([str(HERE.root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "benchmarks", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", env=environment)
