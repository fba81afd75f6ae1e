"""What is installed and how this machine is set, as far as it bears on measurements."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.choosing.catalogue import read_catalogue
from harness.process.machine import describe_machine, environment, measuring_threads, versions

Finding = tuple[str, str, str]
"""(ok | note | warning, what, finding)."""


def examine() -> Iterator[Finding]:
    """Findings one by one; imports no framework."""
    machine = describe_machine()
    yield "ok", "machine", f"{machine.key}: {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB"
    yield ("ok", "GPU", ", ".join(machine.gpus)) if machine.gpus else ("note", "GPU", "none; cases on cuda are skipped")
    yield "ok", "threads", f"a measured worker gets {measuring_threads()} of {machine.cores} cores"
    for name, facts in read_catalogue().backends.items():
        packages = facts.packages
        found = versions(packages)
        missing = [package for package in packages if package not in found]
        said = ", ".join(f"{package} {found[package]}" for package in packages if package in found)
        yield ("note" if missing else "ok"), name, said + (f"; not installed: {', '.join(missing)}" if missing else "")
    yield from _load()
    yield from _speed()
    disk = psutil.disk_usage(str(Path.cwd()))
    yield ("warning" if disk.free < 2**31 else "ok"), "disk", f"{disk.free / 2**30:.1f} GiB free here"
    for what, said in environment().items():
        if said:
            yield "ok", what, said


def _load() -> Iterator[Finding]:
    load = os.getloadavg()[0]
    busy = load > 0.5
    hint = "; others are using this machine, times will scatter" if busy else ""
    yield ("warning" if busy else "ok"), "load", f"{load:.2f} in the last minute{hint}"
    pressure = Path("/proc/pressure/cpu")
    if pressure.exists():
        yield "ok", "CPU pressure", pressure.read_text().splitlines()[0]
    else:
        yield "note", "CPU pressure", "this kernel does not tell"


def _speed() -> Iterator[Finding]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor.exists():
        yield "note", "clock", "this machine does not say how its clock is governed (usual on virtual machines)"
    elif (value := governor.read_text().strip()) != "performance":
        yield "warning", "clock", f"governor {value}; performance gives steadier times"
    else:
        yield "ok", "clock", "governor performance"
