"""One browser for all tests of the page, and one page about a whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from harness.data.dataset import Dataset, open_dataset
from results.report.write import write_report
from tests.results.report.records import gone_wrong, many, prepare_images, store_run

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
Open = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with every kind of case, and the images it was about."""
    folder = tmp_path_factory.mktemp("results")
    sha256 = prepare_images(folder / "images")
    store_run(folder, *many(dataset_sha256=sha256), *gone_wrong())
    return folder


@pytest.fixture(scope="package")
def written(stored: Path) -> Path:
    """The page about it."""

    def find(sha256: str) -> Dataset | None:
        dataset = open_dataset(next((stored / "images" / "datasets").glob("*/meta.json")).parent, files="")
        return dataset if dataset.meta.sha256 == sha256 else None

    write_report(stored, stored / "report.html", find)
    return stored / "report.html"


def visit(context: BrowserContext, address: str) -> tuple[Page, list[str]]:
    """The page when its charts are drawn, and what the console and the network said about it."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url[:5] not in ("file:", "data:") else None)
    page.goto(address)
    page.wait_for_selector("html[data-drawn]", state="attached")
    return page, complaints


def context_of(browser: Browser, width: int = 1200, *, dark: bool = False) -> BrowserContext:
    """A window of its own, without a network."""
    scheme = "dark" if dark else "light"
    return browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)


@pytest.fixture(scope="package")
def seen(browser: Browser, written: Path) -> Iterator[Page]:
    """The page, opened once, for tests that change nothing on it."""
    context = context_of(browser)
    page, complaints = visit(context, written.as_uri())
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a file; the test fails if the console complained."""
    contexts, complaints = [], []

    def opened(file: Path, fragment: str = "", *, width: int = 1200, dark: bool = False) -> Page:
        contexts.append(context_of(browser, width, dark=dark))
        page, said = visit(contexts[-1], file.as_uri() + fragment)
        complaints.append(said)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for said in complaints for line in said] == []


@pytest.fixture(scope="package")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go; FINETUNE_BENCH_SCREENS names a folder to keep them in."""
    folder = os.environ.get("FINETUNE_BENCH_SCREENS")
    return Path(folder) if folder else tmp_path_factory.mktemp("screens")
