"""The report: what is on the page, what it refuses, and how it behaves in a browser."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import open_page
from petct.contest import COLUMNS, Contestant, Run, summarise
from petct.errors import PetctError
from petct.manifests import read_json, write_json
from petct.report_sentences import Design
from report_runs import (
    PNG,
    Experiments,
    make_pictures,
    make_scores,
    make_studies,
    make_tables,
)
from write_report import (
    FIGURES,
    TABLES,
    choose_shown,
    embed_picture,
    list_packages,
    mark_names,
    study_cards,
    write_report,
)

ROOT = Path(__file__).parents[2]
EXPERIMENTS: Experiments = {
    ("one_step", "unet", "all"): (0.6, 0.0),
    ("two_step", "unet", "all"): (0.3, 12.5),
    ("one_step", "other", "positive"): (0.45, 250.0),
    ("threshold", "suv", "none"): (0.1, 900.0),
}
SETTINGS: dict[str, Any] = {
    "config": {
        "dataset": "made_up & <small>",
        "source": "folder",
        "seed": 3,
        "folds": 2,
        "models": {"unet": {"network": "UNet"}, "other": {"network": "UNETR"}},
        "evaluation": {"confidence": 0.95, "power": 0.8},
        "report": {"pictured_studies": 30},
        "folder": "/data/a/b",
        "reading": {"label_pattern": "lesion", "salt_file": "salt.txt"},
        "download": {"list": "list.txt", "patients": ["Ann", "Bob"], "index": None},
        "nested": {"deeper": {"list": [1, 2, 3], "text": "a: b"}},
    },
    "code": {"write_report": "0123456789ab"},
    "upper_bounds": [],
}


def write_page(folder: Path, **changes: Any) -> Path:
    """A page of the made-up run, whose inputs ``changes`` may replace."""
    scores = make_scores(EXPERIMENTS, 6, 3)
    make_tables(folder / "tables", scores)
    for name in FIGURES:
        (folder / f"{name}.png").write_bytes(PNG)
    arguments: dict[str, Any] = {
        "tables": sorted((folder / "tables").glob("*.tsv")),
        "figures": [folder / f"{name}.png" for name in FIGURES],
        "pictures": make_pictures(folder / "plot_studies", scores),
        "source": None,
        "benchmark": None,
        "template": ROOT / "src/templates/report.html",
        "requirements": ROOT / "envs/requirements.txt",
        "settings": SETTINGS,
        "written": datetime.date(2024, 2, 29),
        "output": folder / "report" / "index.html",
    }
    write_report(**(arguments | changes))
    return folder / "report" / "index.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("report"))


def test_a_benchmark_that_was_made_is_quoted(tmp_path: Path, page: Path) -> None:
    ours = [Run(2.0, 1.0, 2.0, 1.0, 1.0, {"dice": 0.5})]
    theirs = [Run(12.0, 1.0, 2.0, 1.0, 1.0, {"dice": 0.5})]
    rows = [
        {"task": "metrics", "size": "clinical", "unit": "study"} | summarise(contestant, runs, ours)
        for contestant, runs in (
            (Contestant("petct", "", []), ours),
            (Contestant("peer", "a", [], goal=6.0), theirs),
            (Contestant("peer", "b", [], goal=7.0), theirs),
        )
    ]
    path = tmp_path / "benchmark.tsv"
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False)
    path.with_suffix(".png").write_bytes(PNG)
    text = write_page(tmp_path, benchmark=path).read_text()
    assert "1 of 2 comparisons reached all that they aimed at; the others:" in text
    assert "metrics of a study, clinical against peer (b): 6.00 times as fast, goal 7." in text
    assert 'id="table-speed"' in text
    assert 'id="speed"' not in page.read_text()


def test_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    # Addresses are data or places on the page; nothing is fetched.
    for address in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text):
        assert address.startswith(("data:", "#")), address
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    assert "2024-02-29" in text
    assert "0123456789ab" in text
    assert "list: [1, 2, 3]" in text
    assert "None: every study that was found was used." in text
    assert "All 9 studies came as DICOM (units of the PET: BQML 9)." in text
    assert "4 of 9 studies carry warnings." in text
    assert "1 model and 1 table come from one code of each script" in text
    # What the settings hold is text, never markup.
    assert "made_up &amp; &lt;small&gt;" in text and "<small>" not in text


def test_what_is_private_is_withheld(page: Path) -> None:
    text = page.read_text()
    for private in ("/data/a", "salt.txt", "list.txt", "Ann", "Bob"):
        assert private not in text
    assert text.count("(withheld)") == 4
    assert "label_pattern: lesion" in text


def test_page_repeats_itself(page: Path, tmp_path: Path) -> None:
    assert write_page(tmp_path).read_bytes() == page.read_bytes()


def test_only_what_exists_is_shown(tmp_path: Path) -> None:
    scores = make_scores({("one_step", "unet", "all"): (0.6, 0.0)}, 2, 0)
    make_tables(tmp_path / "one", scores)
    regions = tmp_path / "one/regions.tsv"
    regions.write_text(regions.read_text().splitlines()[0] + "\n")
    (tmp_path / "one/excluded.tsv").write_text(
        "study\tpatient\tstep\treason\tfile\nnull\tNA\tconvert\tno weight\t/data/<x>\n"
    )
    (tmp_path / "one/studies.tsv").write_text(
        make_studies(scores.iloc[:2])
        .assign(format="nifti", autopet_ratio_low=None, autopet_ratio_high=None, warnings="")
        .to_csv(sep="\t", index=False, na_rep="nan")
    )
    text = write_page(
        tmp_path,
        tables=sorted((tmp_path / "one").glob("*.tsv")),
        figures=[],
        pictures=make_pictures(tmp_path / "pictures", scores),
    ).read_text()
    assert "None: there are no two experiments to compare." in text
    assert "None: no experiment looks into boxes." in text
    assert "1 of 3 studies found was left out." in text
    assert "&lt;x&gt;" in text and "/data/" not in text
    assert 'id="table-reasons"' not in text
    assert "No study carries a warning." in text and 'id="table-warnings"' not in text
    assert "AutoPET's own conversion" not in text
    assert "<figure" not in text


def test_nearly_all_may_be_left_out(tmp_path: Path) -> None:
    scores = make_scores({("one_step", "unet", "all"): (0.6, 0.0)}, 1, 0)
    make_tables(tmp_path / "one", scores)
    rows = [f"{n:03d}\tP\tconvert\tgap of {n}.5 mm\t{n}\n" for n in range(1, 100)]
    rows.append("\t\tindex_studies\tdamaged\t7\n")
    (tmp_path / "one/excluded.tsv").write_text(
        "study\tpatient\tstep\treason\tfile\n" + "".join(rows)
    )
    text = write_page(
        tmp_path,
        tables=sorted((tmp_path / "one").glob("*.tsv")),
        pictures=make_pictures(tmp_path / "pictures", scores),
    ).read_text()
    assert "99 of 100 studies found were left out. 1 more entry tells of files" in text
    assert "99 of 100</th>" in text and "gap of 1.5 to 99.5 mm" in text


def test_worst_studies_come_first(tmp_path: Path) -> None:
    scores = make_scores({("one_step", "unet", "all"): (0.6, 5.0)}, 5, 2)
    scores.loc[scores["study"] == "negative-06", "fp_volume_ml"] = 80.0
    (folder,) = {path.parent for path in make_pictures(tmp_path, scores)}
    positive, negative = study_cards(scores, scores, folder, 30)
    assert positive["title"] == "With lesions, the lowest Dice first (5 of 5)"
    assert positive["studies"][0]["alt"].startswith("positive-00: projections with reference")
    assert positive["studies"][0]["alt"].endswith("Dice 0.58")
    assert "1 of 2 lesions found, 1 false" in positive["studies"][0]["text"]
    assert [card["alt"][:11] for card in negative["studies"]] == ["negative-06", "negative-05"]
    # Half of the studies: of five three, of two one.
    positive, negative = study_cards(scores, scores, folder, 3)
    assert (len(positive["studies"]), len(negative["studies"])) == (3, 1)


def test_the_shown_network_is_the_best_that_may_be() -> None:
    comparison = pd.DataFrame(
        [
            ("threshold", "suv", "none", 0.9, 2, 0.0),
            ("oracle", "unet", "all", 0.8, 2, 0.0),
            ("one_step", "unet", "all", 0.5, 2, 9.0),
            ("one_step", "other", "all", 0.4, 2, 1.0),
        ],
        columns=[
            "strategy",
            "model",
            "cohort",
            "dice_mean",
            "dice_n",
            "negative_fp_volume_ml_mean",
        ],
    )
    design = Design(0.95, 0.8, ["oracle"], {}, synthetic=False)
    differences = pd.DataFrame({"question": []})
    assert choose_shown(comparison, differences, design)["model"] == "unet"
    # Without Dice, whoever marks the least.
    none = comparison.assign(dice_n=0)
    assert choose_shown(none, differences, design)["model"] == "other"
    only = none[none["strategy"] != "one_step"]
    assert choose_shown(only, differences, design)["strategy"] == "oracle"


def test_names_are_marked_and_everything_else_is_escaped() -> None:
    assert mark_names("`a<b` & c") == '<span class="name">a&lt;b</span> &amp; c'


def test_packages_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("# numpy==1\n-r other.txt\npytest==0.1\nnot-there-at-all==1.0\n")
    versions = list_packages(path)
    assert versions == {"pytest": pytest.__version__, "not-there-at-all": "not installed"}


def test_a_picture_must_be_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert (embed_picture(path).width, embed_picture(path).height) == (1, 1)
    path.write_bytes(b"GIF89a")
    for faulty in (path, tmp_path / "absent.png"):
        with pytest.raises(PetctError, match=f"got {faulty}, expected a PNG"):
            embed_picture(faulty)


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        PetctError,
        match=r"tables: calibration_summary, .*, ranks, regions, studies missing, got metrics",
    ):
        write_page(tmp_path / "a", tables=[tmp_path / "a/tables/metrics.tsv"])
    empty = tmp_path / "b/metrics.tsv"
    empty.parent.mkdir()
    empty.write_text("strategy\tmodel\tcohort\n")
    others = [tmp_path / f"b/tables/{name}.tsv" for name in TABLES if name != "metrics"]
    with pytest.raises(PetctError, match=r"metrics.tsv: no rows, expected at least one experiment"):
        write_page(tmp_path / "b", tables=[empty, *others])
    manifests = make_pictures(tmp_path / "c", make_scores(EXPERIMENTS, 1, 0))
    for path in manifests:
        write_json(path, read_json(path) | {"cohort": "others"})
    with pytest.raises(PetctError, match="no pictures of one_step / unet / all among"):
        write_page(tmp_path / "c", pictures=manifests)


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium with the page open."""
    flags = ("--disable-gpu", "--window-size=1366,900")
    with open_page(page, tmp_path_factory.mktemp("profile"), *flags) as driver:
        yield driver


def first_column(browser: webdriver.Chrome, table: str) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr > :first-child")
    return [cell.text for cell in cells]


def test_browser_has_nothing_to_complain_about(browser: webdriver.Chrome) -> None:
    assert browser.get_log("browser") == []
    assert browser.find_element(By.TAG_NAME, "h1").text == "made_up & <small>"
    headings = [h.text for h in browser.find_elements(By.TAG_NAME, "h2")]
    assert headings[:4] == ["The answer", "Comparison", "Figures", "Paired comparisons"]
    first = browser.find_element(By.CSS_SELECTOR, ".answer dd").text
    assert first.startswith("unet · one_step · all ranks first: mean Dice 0.60")


def test_links_lead_somewhere(browser: webdriver.Chrome) -> None:
    links = browser.find_elements(By.CSS_SELECTOR, "nav a")
    assert len(links) == 9
    for link in links:
        target = (link.get_attribute("href") or "").partition("#")[2]
        assert browser.find_element(By.ID, target).is_displayed()


def test_all_pictures_are_shown_and_described(browser: webdriver.Chrome) -> None:
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == len(FIGURES) + 9
    for picture in pictures:
        assert picture.get_property("naturalWidth") not in (0, None)
        assert picture.get_attribute("alt")


def test_tables_are_filled(browser: webdriver.Chrome) -> None:
    assert first_column(browser, "table-comparison") == ["unet", "other", "unet", "suv"]
    for table in browser.find_elements(By.TAG_NAME, "table"):
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        columns = table.find_elements(By.CSS_SELECTOR, "thead tr:last-child th")
        assert rows
        for row in rows:
            assert len(row.find_elements(By.XPATH, "./*")) == len(columns)
        assert table.find_element(By.TAG_NAME, "caption").text or not table.is_displayed()


def test_a_click_sorts_and_another_turns_it_around(browser: webdriver.Chrome) -> None:
    title = browser.find_element(
        By.XPATH, "//table[@id='table-comparison']//th[contains(., 'mL, negatives')]"
    )
    title.find_element(By.TAG_NAME, "button").click()
    # 0, 12.5, 250 and 900 mL: as numbers, the least first.
    assert title.get_attribute("aria-sort") == "ascending"
    assert first_column(browser, "table-comparison") == ["unet", "unet", "other", "suv"]
    title.find_element(By.TAG_NAME, "button").click()
    assert title.get_attribute("aria-sort") == "descending"
    assert first_column(browser, "table-comparison") == ["suv", "other", "unet", "unet"]
    sorted_by = browser.find_elements(
        By.CSS_SELECTOR, "#table-comparison th:not([aria-sort=none])[aria-sort]"
    )
    assert len(sorted_by) == 1


def test_the_keyboard_sorts_and_what_is_undefined_stays_last(browser: webdriver.Chrome) -> None:
    button = browser.find_element(
        By.XPATH, "//table[@id='table-comparison']//th[contains(., 'ECE')]/button"
    )
    for key in (Keys.ENTER, Keys.SPACE):
        button.send_keys(key)
        assert first_column(browser, "table-comparison")[-1] == "suv"
    assert browser.switch_to.active_element == button


def test_names_sort_as_text(browser: webdriver.Chrome) -> None:
    browser.find_element(
        By.XPATH, "//table[@id='table-comparison']//th[contains(., 'Model')]/button"
    ).click()
    assert first_column(browser, "table-comparison") == ["other", "suv", "unet", "unet"]


def test_paper_shows_what_is_folded(browser: webdriver.Chrome) -> None:
    details = browser.find_elements(By.TAG_NAME, "details")
    assert details
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert all(part.get_attribute("open") for part in details)
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert not any(part.get_attribute("open") for part in details)


def test_a_narrow_window_scrolls_tables_not_the_page(browser: webdriver.Chrome) -> None:
    browser.set_window_size(600, 900)
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(script) == 0
    browser.set_window_size(1366, 900)
