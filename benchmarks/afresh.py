"""This program once more, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.surroundings import HERE


def afresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` with these arguments, whatever packages of that name lie in the current folder."""
    path = os.pathsep.join([str(HERE.root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "benchmarks", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
