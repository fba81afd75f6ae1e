"""What one worker of a pair said: two workers that live side by side take turns, and a pair gives one ratio."""

from __future__ import annotations

import msgspec

from harness.contract import Effective
from harness.running.record import Memory, Sensors, Status
from harness.spec import Case


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a training loop. Its first step is left out of everything but `lead_us`.

    `images / seconds` is its throughput, the device synchronised at both edges. `step_us` are the times between
    dispatches; where an epoch ended within the turn, the time spent on that is in none of the figures.
    """

    steps: int
    images: int
    seconds: float
    lead_us: int
    step_us: tuple[int, ...]
    compile_events: int = 0


class SideRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a pair. Everything after `reason` is present only as far as the process came.

    `sensors` are those of its own turns; `start_sha256` is of the values it started from.
    """

    case: Case
    key: str
    version: str
    status: Status
    reason: str = ""
    started: str = ""
    total_s: float = 0.0
    first_step_s: float = 0.0
    turns: tuple[Turn, ...] = ()
    start_sha256: str = ""
    memory: Memory | None = None
    sensors: Sensors | None = None
    effective: Effective | None = None
    versions: dict[str, str] = {}
