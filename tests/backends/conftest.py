"""The contract suite's workers start before the first test and are asked after the last one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.contract_workers import Workers

SUITE = Path(__file__).with_name("test_contract.py")
_NAMES = ("backend", "engine", "model", "scenario")
_STARTED = pytest.StashKey[Workers]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the contract suite last."""
    items.sort(key=lambda item: item.path == SUITE)


@pytest.fixture(scope="session", autouse=True)
def _contract_workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    chosen = [item for item in request.session.items if item.path == SUITE]
    cases = [tuple(item.callspec.params[name] for name in _NAMES) for item in chosen]  # type: ignore[attr-defined]
    started = Workers(cases, tmp_path_factory.mktemp("contract"))
    request.config.stash[_STARTED] = started
    yield
    started.close()


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Workers:
    """Whoever checks the contract suite's cases."""
    return request.config.stash[_STARTED]
