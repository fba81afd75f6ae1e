"""The contract suite's workers check the cases that were chosen, a few in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.contract_workers import Workers

SUITE = Path(__file__).with_name("test_contract.py")
_NAMES = ("backend", "engine", "model", "scenario")


@pytest.fixture(scope="session")
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workers:
    """Whoever checks the contract suite's cases."""
    chosen = [item for item in request.session.items if item.path == SUITE]
    cases = [tuple(item.callspec.params[name] for name in _NAMES) for item in chosen]  # type: ignore[attr-defined]
    return Workers(cases, tmp_path_factory.mktemp("contract"))
