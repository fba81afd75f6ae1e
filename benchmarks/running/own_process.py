"""Start this program in another process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from harness import PREFIX
from harness.process.environment import HERE
from harness.process.launch import STARTED


def start_program(*arguments: str) -> subprocess.Popen[str]:
    """Start this program with these arguments; packages and defaults of the current folder are not used."""
    folders = [] if PREFIX else [str(HERE.root)]  # the interpreter finds an installed package
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", f"{PREFIX}benchmarks", "--no-config", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    pipe = subprocess.PIPE
    STARTED.info("%s", shlex.join(command))
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", env=environment)
