"""The record of one worker of a pair: two live workers take turns, and a pair gives one ratio."""

from __future__ import annotations

import msgspec

from harness.contract import Effective
from harness.running.record import Memory, Sensors, Status
from harness.spec import Case


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a training loop. Its first step counts only in `lead_us`.

    `images / seconds` is its throughput; the device is synchronised at both edges. `step_us` are the times between
    dispatches. The time between two epochs is not included in any field.
    """

    steps: int
    images: int
    seconds: float
    lead_us: int
    step_us: tuple[int, ...]
    compile_events: int = 0


class SideRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a pair. Fields after `reason` are filled as far as the process ran.

    `sensors` cover only its own turns; `start_sha256` is the digest of the initial weights.
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
