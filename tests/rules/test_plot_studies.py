"""One picture per study: what it says, and the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid
from petct.plots import style
from plot_studies import caption, draw_study, plot_studies

GRID = Grid((30, 20, 20), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))
SETTINGS = {"suv_window": 10.0}
POSITIVE: dict[str, Any] = {
    "positive": True,
    "dice": 0.678,
    "reference_ml": 54.32,
    "predicted_ml": 40.04,
    "lesions_reference": 3,
    "lesions_found": 2,
}


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Any]:
    """Two folds of one experiment with one study each, positive and negative."""
    suv, mask, nothing = (
        np.zeros(GRID.shape_zyx, kind) for kind in (np.float32, np.uint8, np.uint8)
    )
    suv[5:25, 5:15, 5:15] = 1.0
    mask[10:13, 8:10, 8:10] = 1
    for study, reference in (("pos", mask), ("neg", nothing)):
        folder = tmp_path / "convert_study" / study
        folder.mkdir(parents=True)
        sitk.WriteImage(GRID.to_image(suv), folder / "suv.nii.gz")
        sitk.WriteImage(GRID.to_image(reference), folder / "lesions.nii.gz")
    predictions = []
    for fold, study in enumerate(("pos", "neg")):
        folder = tmp_path / f"fold-{fold}"
        (folder / study).mkdir(parents=True)
        sitk.WriteImage(GRID.to_image(mask), folder / study / "lesions.nii.gz")
        manifest = {
            **{"strategy": "one_step", "model": "unet", "cohort": "all", "fold": fold},
            "studies": {study: {"mask": f"{study}/lesions.nii.gz", "digest": "x"}},
        }
        predictions.append(folder / "predictions.json")
        predictions[-1].write_text(json.dumps(manifest))
    cohort, metrics = tmp_path / "all.tsv", tmp_path / "metrics.tsv"
    cohort.write_text("study\tpatient\tfold\npos\tp1\t0\nneg\tp2\t1\n")
    metrics.write_text(
        "study\tstrategy\tmodel\tcohort\tpositive\tdice\treference_ml\tpredicted_ml"
        "\tlesions_reference\tlesions_found\n"
        "pos\tone_step\tunet\tall\tTrue\t1.0\t1.0\t1.0\t1\t1\n"
        "neg\tone_step\tunet\tall\tFalse\tnan\t0.0\t1.0\t0\t0\n"
        "neg\tcoarse\tunet\tall\tFalse\tnan\t0.0\t9.0\t0\t0\n"
    )
    return {
        "predictions": predictions,
        "cohort": cohort,
        "converted": tmp_path / "convert_study",
        "metrics": [metrics],
        "settings": SETTINGS,
        "output": tmp_path / "plot" / "pictures.json",
    }


def test_caption() -> None:
    assert caption(POSITIVE) == (
        "Dice 0.68 · reference 54.3 mL in 3 lesions (2 found) · predicted 40.0 mL"
    )
    assert "in 1 lesion (" in caption({**POSITIVE, "lesions_reference": 1})
    assert caption({**POSITIVE, "positive": False}) == "no lesion · predicted 40.0 mL"


@pytest.mark.parametrize("threads", [1, 2])
def test_pictures_and_manifest(paths: dict[str, Any], threads: int) -> None:
    plot_studies(**paths, threads=threads)
    manifest = json.loads(paths["output"].read_text())
    assert {key: manifest[key] for key in ("strategy", "model", "cohort")} == {
        "strategy": "one_step",
        "model": "unet",
        "cohort": "all",
    }
    assert sorted(manifest["studies"]) == ["neg", "pos"]
    for study, entry in manifest["studies"].items():
        picture = paths["output"].parent / entry["picture"]
        assert picture.name == f"{study}.png"
        assert hashlib.sha256(picture.read_bytes()).hexdigest() == entry["digest"]
        assert picture.stat().st_size < 150_000


def draw(reference: np.ndarray, predicted: np.ndarray, grid: Grid = GRID) -> list[str]:
    """The texts of a picture."""
    suv = np.ones(grid.shape_zyx, np.float32)
    masks = {
        name: grid.to_image(mask)
        for name, mask in (("reference", reference), ("prediction", predicted))
    }
    with style():
        figure = draw_study(grid.to_image(suv), masks, ["study", "experiment", "figures"], 10.0)
        figure.draw_without_rendering()
    legend = figure.legends[0]
    texts = [*figure.texts, *legend.get_texts()]
    for i, text in enumerate(texts):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other.get_window_extent()) for other in texts[:i])
    return [text.get_text() for text in texts]


def test_legend_tells_an_empty_mask() -> None:
    mask, nothing = np.ones(GRID.shape_zyx, np.uint8), np.zeros(GRID.shape_zyx, np.uint8)
    assert draw(mask, mask)[-2:] == ["reference", "prediction"]
    assert draw(nothing, mask)[-2:] == ["reference (empty)", "prediction"]
    assert draw(nothing, nothing)[-2:] == ["reference (empty)", "prediction (empty)"]


@pytest.mark.parametrize("shape", [(8, 60, 90), (400, 20, 20), (1, 1, 1)])
def test_any_shape_leaves_room_for_the_texts(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))
    mask = np.ones(shape, np.uint8)
    assert "maximum intensity, SUV 0 to 10 g/mL" in draw(mask, mask, grid)


def test_two_experiments_are_refused(paths: dict[str, Any]) -> None:
    path = paths["predictions"][1]
    path.write_text(path.read_text().replace("one_step", "coarse"))
    with pytest.raises(PetctError, match="coarse / unet / all; one_step / unet / all"):
        plot_studies(**paths, threads=1)


def test_study_without_prediction_is_named(paths: dict[str, Any]) -> None:
    paths["predictions"][0].write_text(
        paths["predictions"][0].read_text().replace('"pos"', '"elsewhere"')
    )
    with pytest.raises(PetctError, match="no prediction for study pos"):
        plot_studies(**paths, threads=1)


def test_study_without_score_is_named(paths: dict[str, Any]) -> None:
    metrics = paths["metrics"][0]
    metrics.write_text(metrics.read_text().replace("pos\t", "elsewhere\t"))
    with pytest.raises(PetctError, match="no row for study pos of one_step / unet / all in"):
        plot_studies(**paths, threads=1)


def test_missing_image_is_named(paths: dict[str, Any]) -> None:
    (paths["converted"] / "pos" / "suv.nii.gz").unlink()
    with pytest.raises(PetctError, match="study pos: no suv image at"):
        plot_studies(**paths, threads=1)
