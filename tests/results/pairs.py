"""Pairs of processes made by hand: B takes `ratio` times as long as A."""

from __future__ import annotations

from harness.pairing.side_record import SideRecord, Turn
from harness.running.record import Memory
from results.storage.rows import SCHEMA, Order, PairRow
from tests.results.records import build


def pair(
    ratio: float,
    *,
    order: Order = "ABBA",
    turns: int = 12,
    drift: float = 0.0,
    burst: tuple[int, float] | None = None,
    memory: float = 1.0,
    dispatched: bool = False,
    comparison: str = "c1",
    number: int = 1,
    confirms: bool = False,
) -> PairRow:
    """`drift` is the change of the log cost over all turns; `burst` makes the turn of that number so much longer;
    `dispatched` steps take no time until the device is waited for at the end of a turn."""
    costs: dict[str, list[Turn]] = {"A": [], "B": []}
    for place in range(turns):
        side = order[place % len(order)]
        seconds = 0.5 * (ratio if side == "B" else 1.0) * 2.718281828459045 ** (drift * place / turns)
        if burst and burst[0] == place:
            seconds *= burst[1]
        steps = () if dispatched else (round(seconds * 1e5),) * 10
        costs[side].append(Turn(steps=10, images=160, seconds=seconds, lead_us=50_000, step_us=steps))
    return PairRow(
        schema=SCHEMA,
        run="r",
        protocol=1,
        environment="",
        comparison=comparison,
        number=number,
        order=order,
        a=_side(costs["A"], 1.0),
        b=_side(costs["B"], memory),
        confirms=confirms,
    )


def _side(turns: list[Turn], memory: float) -> SideRecord:
    record = build()
    return SideRecord(
        case=record.case,
        key=record.key,
        version=record.version,
        status="ok",
        turns=tuple(turns),
        memory=Memory(process_peak=round(8e8 * memory), private_peak=1, framework=1),
        effective=record.effective,
        versions=record.versions,
    )
