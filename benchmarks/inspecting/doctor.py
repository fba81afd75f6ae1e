"""Check the installed packages and the settings of this machine that affect measurements."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.choosing.catalogue import read_catalogue
from harness.process.machine import describe_machine, environment, measuring_threads, versions

Finding = tuple[str, str, str]
"""(ok | note | warning, subject, text)."""


def examine() -> Iterator[Finding]:
    """Yield the findings, without importing a framework."""
    machine = describe_machine()
    yield "ok", "machine", f"{machine.key}: {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB"
    yield ("ok", "GPU", ", ".join(machine.gpus)) if machine.gpus else ("note", "GPU", "none; cases on cuda are skipped")
    yield "ok", "threads", f"a worker gets {measuring_threads()} of {machine.cores} cores"
    for name, facts in read_catalogue().backends.items():
        found = versions(facts.packages)
        missing = ", ".join(package for package in facts.packages if package not in found)
        installed = ", ".join(f"{package} {found[package]}" for package in facts.packages if package in found)
        yield ("note" if missing else "ok"), name, installed + (f"; not installed: {missing}" if missing else "")
    yield from _load()
    yield from _speed()
    disk = psutil.disk_usage(str(Path.cwd()))
    yield ("warning" if disk.free < 2**31 else "ok"), "disk", f"{disk.free / 2**30:.1f} GiB free here"
    yield from (("ok", name, text) for name, text in environment().items() if text)


def _load() -> Iterator[Finding]:
    load = os.getloadavg()[0]
    busy = load > 0.5
    hint = "; other programs use this machine, so times will vary" if busy else ""
    yield ("warning" if busy else "ok"), "load", f"{load:.2f} in the last minute{hint}"
    pressure = Path("/proc/pressure/cpu")
    if pressure.exists():
        yield "ok", "CPU pressure", pressure.read_text().splitlines()[0]
    else:
        yield "note", "CPU pressure", "this kernel does not report it"


def _speed() -> Iterator[Finding]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor.exists():
        yield "note", "clock", "this machine does not report its clock governor (usual on virtual machines)"
    elif (value := governor.read_text().strip()) != "performance":
        yield "warning", "clock", f"governor {value}; set it to performance for stable times"
    else:
        yield "ok", "clock", "governor performance"
