"""Which rows are replicates, and which are comparable: for tables, races, answers and history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import pandas as pd

from harness.spec import SETTINGS, Case
from results.tables.columns import key_of
from results.tables.tabulate import GROUP

Compared = Literal["scenario", "model", "backend_name", "environment"]

_SETTINGS = (setting.name for setting in SETTINGS.values() if setting.role == "setting")
WHOLE = tuple(dict.fromkeys((
    *GROUP, "backend", "engine", "backend_name", "model", "scenario", "dataset", "epochs", "batch_size", "checkpoint",
    *_SETTINGS, "dataset_sha256", "setting", "stages",
)))  # fmt: skip
"""Columns of `results.load` and `results.table` that are equal in all replicates of a row."""

FOLLOWING: Mapping[Compared, tuple[str, ...]] = MappingProxyType(
    {
        "scenario": ("scenario", "stages", "epochs", "batch_size", "version"),
        "model": ("model", "checkpoint", "version"),
        "backend_name": ("backend_name", "backend", "engine", "environment", "version"),
        "environment": ("environment",),
    }
)
"""What a comparison varies, and the columns that vary with it."""


_IN_SETTING = [one for one in SETTINGS.values() if one.role == "setting" or one.name == "dataset"]


def alike(*compared: Compared) -> list[str]:
    """Return the columns that must be equal in rows that are compared by these alone.

    >>> "threads" in alike("scenario"), "epochs" in alike("scenario"), "environment" in alike("scenario")
    (True, False, True)
    """
    free = {name for one in compared for name in FOLLOWING[one]}
    return [name for name in WHOLE if name not in free]


def setting_of(case: Case) -> str:
    """Return 16 hex digits of everything in a case except scenario, model, backend, checkpoint, data and seed."""
    values = [getattr(case, setting.name) for setting in _IN_SETTING if not setting.added]
    later = [(setting.name, getattr(case, setting.name), setting.default) for setting in _IN_SETTING if setting.added]
    return _digest([*values, *([name, value] for name, value, default in later if value != default)])


def stages_of(case: Case) -> str:
    """Return 16 hex digits of the whole scenario."""
    return _digest(case.scenario)


def races(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Group the rows of `results.load` by everything except the scenario.

    A scenario that starts from random values has no checkpoint, so it is in the group of every checkpoint.
    """
    keys = alike("scenario")
    loose = [name for name in keys if name != "checkpoint"]
    random = dict(_groups(frame[frame["start"] == "random"], loose))
    met = set()
    for _, rows in _groups(frame[frame["start"] != "random"], keys):
        key = key_of(rows.iloc[0].to_dict(), loose)
        met.add(key)
        yield pd.concat([rows, random[key]]).sort_index() if key in random else rows
    yield from (rows for key, rows in random.items() if key not in met)


def arms(race: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each scenario of a race; epochs distinguish two scenarios with the same name."""
    groups = [rows for _, rows in _groups(race, list(WHOLE))]
    names = [str(rows["scenario"].iloc[0]) for rows in groups]
    found = {}
    for name, rows in zip(names, groups, strict=True):
        first = rows.iloc[0]
        twin = f" ({first['epochs']} epochs, {first['version'][:6]})" if names.count(name) > 1 else ""
        found[f"{name}{twin}"] = rows
    return found


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    for _, rows in frame.groupby(keys, sort=False, dropna=False):
        yield key_of(rows.iloc[0].to_dict(), keys), rows


def _digest(fields: object) -> str:
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()[:16]
