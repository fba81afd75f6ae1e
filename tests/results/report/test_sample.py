"""The sample and the pictures in the documentation are there and open."""

from __future__ import annotations

import re
from pathlib import Path

from tests.results.report.conftest import Open

ROOT = Path(__file__).resolve().parents[3]


def test_the_sample_opens_and_passes_no_image_on(open_page: Open) -> None:
    page = open_page(ROOT / "docs" / "sample-report.html")
    assert page.locator("#answer p").first.inner_text().startswith("On hymenoptera_data, the fastest way")
    assert page.locator("#predictions table").count() > 0  # what the network says of them is there
    assert "data:image" not in (ROOT / "docs" / "sample-report.html").read_text()
    assert page.locator("#trust pre").first.inner_text().startswith("finetune-bench run --data hymenoptera_data")


def test_every_picture_of_the_readme_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(pictures) >= 2
    assert all((ROOT / picture).read_bytes().startswith(b"<svg") for picture in pictures)
