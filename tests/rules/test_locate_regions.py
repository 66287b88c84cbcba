"""Boxes for the fine network: where they come from, and what they miss, counted by hand."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from array_studies import CONFIG, Box, fill, make_arrays, write_cohort, write_predictions
from locate_regions import locate_regions
from petct.arrays import save_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import read_json

SCRIPT = Path(__file__).parents[2] / "src" / "locate_regions.py"
FINE = Grid((24, 24, 24), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))  # a voxel is 0.064 mL
COARSE = FINE.respace((8.0, 8.0, 8.0))
SETTINGS: dict[str, Any] = CONFIG["regions"] | {
    "grid": "fine",
    "window_zyx": [16, 16, 16],
    "probability": 0.5,
    "cluster_distance_mm": 12.0,
    "cluster_voxels": 4,
    "margin_mm": 4.0,
    "peaks": 2,
    "peak_probability": 0.1,
}
# Two lesions; the second is what a coarse network overlooks.
LESIONS: list[Box] = [(4, 4, 4, 8, 8, 8), (18, 18, 18, 20, 20, 20)]


def locate(
    folder: Path,
    probability: np.ndarray | None,
    lesions: list[Box] = LESIONS,
    **settings: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The study's entry and its row in the table."""
    arrays = make_arrays(FINE, lesions)
    save_arrays(folder / "a" / "fine", arrays.image, arrays.label, arrays.label, FINE)
    cohort = write_cohort(folder / "test.tsv", {"a": 0})
    coarse = None
    if probability is not None:
        coarse = write_predictions(folder / "predictions.json", COARSE, {"a": probability})
    output, table = folder / "out" / "regions.json", folder / "out" / "regions.tsv"
    locate_regions(cohort, coarse, folder, SETTINGS | settings, output, table)
    (row,) = read_table(table)
    entries = read_json(output)["studies"]
    assert list(entries) == ["a"]
    return entries["a"], row


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_cluster_and_what_it_misses(tmp_path: Path) -> None:
    probability = 0.8 * fill(COARSE.shape_zyx, (2, 2, 2, 4, 4, 4))
    entry, row = locate(tmp_path, probability)
    # Coarse voxels 2 to 4 are fine voxels 4 to 8; the margin is one fine voxel.
    assert entry == {
        "boxes_zyx": [[3, 3, 3, 9, 9, 9]],
        "reference_boxes_zyx": [[3, 3, 3, 9, 9, 9], [17, 17, 17, 21, 21, 21]],
        "origin": "clusters",
    }
    assert row == {
        "study": "a",
        "origin": "clusters",
        "boxes": "1",
        "boxes_ml": str(round(6**3 * 0.064, 3)),
        "body_ml": str(round(24**3 * 0.064, 3)),
        "lesions_reference": "2",
        "lesions_missed": "1",
        "reference_outside_ml": str(round(2**3 * 0.064, 3)),
    }


def test_a_lesion_that_is_touched_is_not_missed(tmp_path: Path) -> None:
    probability = 0.8 * fill(COARSE.shape_zyx, (2, 2, 2, 4, 4, 3), (9, 9, 9, 10, 10, 10))
    entry, row = locate(tmp_path, probability, margin_mm=0.0)
    # The lone voxel is noise to DBSCAN and has a box all the same.
    assert sorted(entry["boxes_zyx"]) == [[4, 4, 4, 8, 8, 6], [18, 18, 18, 20, 20, 20]]
    assert (row["lesions_reference"], row["lesions_missed"]) == ("2", "0")
    assert float(row["reference_outside_ml"]) == pytest.approx(4 * 4 * 2 * 0.064)


def test_overlapping_boxes_are_one(tmp_path: Path) -> None:
    # 16 mm apart, two clusters; with 8 mm of margin their boxes meet.
    probability = 0.8 * fill(COARSE.shape_zyx, (2, 2, 2, 4, 4, 4), (5, 2, 2, 7, 4, 4))
    apart, _ = locate(tmp_path / "apart", probability, margin_mm=0.0)
    together, row = locate(tmp_path / "together", probability, margin_mm=8.0)
    assert apart["boxes_zyx"] == [[4, 4, 4, 8, 8, 8], [10, 4, 4, 14, 8, 8]]
    assert together["boxes_zyx"] == [[2, 2, 2, 16, 10, 10]]
    assert row["boxes"] == "1"


def test_without_clusters_boxes_go_around_the_peaks(tmp_path: Path) -> None:
    probability = 0.2 * fill(COARSE.shape_zyx, (9, 9, 9, 10, 10, 10)).astype(float)
    probability[2, 2, 2], probability[5, 5, 5], probability[7, 2, 2] = 0.4, 0.15, 0.05
    entry, row = locate(tmp_path, probability, margin_mm=0.0)
    # Two peaks are asked for, of the three above 0.1.
    assert entry["origin"] == row["origin"] == "peaks"
    assert entry["boxes_zyx"] == [[4, 4, 4, 6, 6, 6], [18, 18, 18, 20, 20, 20]]
    assert row["lesions_missed"] == "0"


def test_where_nothing_is_found_everything_is_missed(tmp_path: Path) -> None:
    entry, row = locate(tmp_path, np.full(COARSE.shape_zyx, 0.01))
    assert (entry["boxes_zyx"], entry["origin"]) == ([], "nothing")
    assert len(entry["reference_boxes_zyx"]) == 2
    assert (row["boxes"], float(row["boxes_ml"]), row["lesions_missed"]) == ("0", 0.0, "2")
    assert float(row["reference_outside_ml"]) == pytest.approx((64 + 8) * 0.064)


def test_a_study_without_lesions_misses_none(tmp_path: Path) -> None:
    entry, row = locate(tmp_path, np.full(COARSE.shape_zyx, 0.01), lesions=[])
    assert (entry["boxes_zyx"], entry["reference_boxes_zyx"]) == ([], [])
    assert (row["lesions_reference"], row["lesions_missed"]) == ("0", "0")


def test_the_upper_bound_takes_the_reference(tmp_path: Path) -> None:
    entry, row = locate(tmp_path, None)
    assert entry["origin"] == "reference"
    assert entry["boxes_zyx"] == entry["reference_boxes_zyx"]
    assert entry["boxes_zyx"] == [[3, 3, 3, 9, 9, 9], [17, 17, 17, 21, 21, 21]]
    assert (row["lesions_missed"], float(row["reference_outside_ml"])) == ("0", 0.0)


def test_lesions_that_touch_at_an_edge_are_one_as_in_the_scores(tmp_path: Path) -> None:
    edge: list[Box] = [(4, 4, 4, 6, 6, 6), (6, 6, 4, 8, 8, 6)]
    corner: list[Box] = [(4, 4, 4, 6, 6, 6), (6, 6, 6, 8, 8, 8)]
    assert locate(tmp_path / "edge", None, edge)[1]["lesions_reference"] == "1"
    assert locate(tmp_path / "corner", None, corner)[1]["lesions_reference"] == "2"


def test_a_study_without_a_coarse_prediction_is_named(tmp_path: Path) -> None:
    arrays = make_arrays(FINE, LESIONS)
    save_arrays(tmp_path / "a" / "fine", arrays.image, arrays.label, arrays.label, FINE)
    zeros = np.zeros(COARSE.shape_zyx)
    coarse = write_predictions(tmp_path / "predictions.json", COARSE, {"b": zeros})
    cohort = write_cohort(tmp_path / "test.tsv", {"a": 0})
    output = tmp_path / "regions.json"
    with pytest.raises(PetctError, match="study a has no predictions; these are there: b"):
        locate_regions(cohort, coarse, tmp_path, SETTINGS, output, tmp_path / "regions.tsv")
    assert not output.exists()


def test_a_fold_without_studies_has_a_table_with_a_header(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "test.tsv", {})
    output, table = tmp_path / "regions.json", tmp_path / "regions.tsv"
    locate_regions(cohort, None, tmp_path, SETTINGS, output, table)
    assert read_json(output) == {"studies": {}}
    assert table.read_text().startswith("study\torigin\tboxes\t")


@pytest.mark.parametrize("with_coarse", [True, False])
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_coarse: bool) -> None:
    probability = 0.8 * fill(COARSE.shape_zyx, (2, 2, 2, 4, 4, 4))
    expected, _ = locate(tmp_path, probability if with_coarse else None)
    # Without a coarse prediction the rule leaves the option without a value.
    coarse = [tmp_path / "predictions.json"] if with_coarse else []
    arguments = [
        *["--cohort", tmp_path / "test.tsv", "--coarse", *coarse, "--resampled", tmp_path],
        *["--settings", json.dumps(SETTINGS), "--output", tmp_path / "again.json"],
        *["--table", tmp_path / "again.tsv", "--code", "c"],
    ]
    monkeypatch.setattr(sys, "argv", ["locate_regions", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert read_json(tmp_path / "again.json")["studies"]["a"] == expected
    assert len(read_table(tmp_path / "again.tsv")) == 1
