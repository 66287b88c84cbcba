"""A study's page: what it says, and what a browser shows of it without anything else."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

from applied_studies import SETTINGS, Applied, make_applied, make_excluded
from browser import open_page
from describe_lesions import describe_lesions
from petct.manifests import write_json
from write_study_page import write_study_page

TEMPLATE = Path(__file__).parents[2] / "src/templates/study_page.html"


def write_page(applied: Applied, folder: Path) -> Path:
    described = folder / "described/study.json"
    describe_lesions(
        applied.converted, applied.resampled, applied.predictions, applied.package,
        SETTINGS, described,
    )  # fmt: skip
    exported = folder / "exported/study.json"
    write_json(exported, {"files": ["lesions.dcm", "scene.mrml"]})
    page = folder / "page.html"
    shown: dict[str, Any] = {"suv_window": 10.0}
    write_study_page(applied.converted, described, exported, applied.package, shown, TEMPLATE, page)
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write_page(make_applied(folder, suv_max=26.0, warnings=["<b> & more"]), folder)


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium with the page open and the viewer drawn, by software."""
    flags = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1300,1400")
    with open_page(page, tmp_path_factory.mktemp("profile"), *flags) as driver:
        until = time.monotonic() + 60
        while not driver.find_element(By.ID, "viewer").get_attribute("data-ready"):
            assert time.monotonic() < until, driver.get_log("browser")
            time.sleep(0.1)
        yield driver


def canvas(browser: webdriver.Chrome) -> bytes:
    time.sleep(0.5)  # it draws when the browser asks it to
    return browser.find_element(By.ID, "viewer").screenshot_as_png


def test_the_page_says_what_was_found(page: Path) -> None:
    text = page.read_text()
    assert "one_step / unet / all of made_up" in text
    assert "A person should look at this study." in text
    assert "its maximum SUV is 26; in the dataset 5 to 20" in text
    assert "&lt;b&gt; &amp; more" in text
    assert '<a href="../export_study/study-1/lesions.dcm">lesions.dcm</a>' in text
    assert text.count('<img src="data:image/png;base64,') == 1 + 2


def test_the_page_asks_for_nothing_else(page: Path) -> None:
    head = page.read_text().partition('<script type="text/plain" id="niivue">')[0]
    for part in ('src="http', 'href="http', "@import", "url("):
        assert part not in head


def test_the_viewer_draws_and_scrolls(browser: webdriver.Chrome) -> None:
    assert browser.find_element(By.ID, "viewer").get_attribute("data-ready") == "true"
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert complaints == []
    body = browser.find_element(By.TAG_NAME, "body")
    assert body.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    first = canvas(browser)
    shown = np.asarray(Image.open(io.BytesIO(first)).convert("RGB"))
    # Body, lesions and crosshair on black.
    assert (shown.max(axis=2) > 30).mean() > 0.05
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20
    move = "const s = document.getElementById('viewer-slice'); s.value = arguments[0];"
    browser.execute_script(move + "s.dispatchEvent(new Event('input'))", 2)
    assert canvas(browser) != first


def test_a_lesion_of_the_table_is_shown(browser: webdriver.Chrome) -> None:
    """The larger lesion has SUV 6, the other SUV 9 in a single voxel of 5 mm."""
    for button, expected in zip(
        browser.find_elements(By.CSS_SELECTOR, "[data-place-mm]"),
        ("CT 0, SUV 6.00, lesion 1", "CT 0, SUV 9.00, lesion 2"),
        strict=True,
    ):
        browser.execute_script("arguments[0].click()", button)
        assert browser.find_element(By.ID, "viewer-told").text == expected


def test_a_study_that_was_left_out_has_a_page_that_says_why(tmp_path: Path) -> None:
    text = write_page(make_excluded(tmp_path), tmp_path).read_text()
    assert "This study was left out." in text and "the PET is empty" in text
    assert "<canvas" not in text
