"""A server of somebody else's, on the loopback device for the length of a test; and frameworks that must not be met."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.error import URLError

from tests.benchmarks.commanding import ROOT

READY_WITHIN_S = 180
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(command: Sequence[str], address: str, log: Path) -> Iterator[str]:
    """Start a server, wait until `address` answers, and end it with everything it started."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while not answers(address):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(address: str) -> bool:
    try:
        with LOCAL.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, RemoteDisconnected, ConnectionError, TimeoutError):
        return False


def ask(address: str, body: object | None = None) -> Any:
    """The JSON that a GET, or a POST of `body`, answers with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with LOCAL.open(request, timeout=30) as answer:
        return json.load(answer)


def export_beside_decoys(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`export` of `home`/results, in a process where importing a framework fails loudly, installed or not."""
    for name in ("tensorflow", "torch", "keras", "jax"):
        decoy = home / "decoys" / name / "__init__.py"
        decoy.parent.mkdir(parents=True)
        decoy.write_text(f"raise RuntimeError('{name} was imported')\n")
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "export", "--results", str(home / "results"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(home / "decoys"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
