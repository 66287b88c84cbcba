"""Headless Chromium with a page of ours open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def open_page(page: Path, profile: Path, *arguments: str) -> Iterator[webdriver.Chrome]:
    """The browser, which logs all that it says; the test is skipped where there is none.

    ``profile`` is an empty folder of its own; ``arguments`` are added to its command line.
    """
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium and chromedriver on PATH: the page is not opened in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        *["--headless=new", "--no-sandbox", "--no-first-run", "--disable-sync"],
        *["--disable-background-networking", "--disable-component-update"],
        *["--disable-dev-shm-usage", f"--user-data-dir={profile}", *arguments],
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()
