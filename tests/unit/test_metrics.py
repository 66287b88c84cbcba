"""Agreement of masks whose answer can be counted by hand, and against a slow transcription."""

from __future__ import annotations

import itertools
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid
from petct.metrics import (
    bounding_slices,
    find_lesions,
    read_table,
    score_masks,
    total_lesion_glycolysis,
)

DATA = Path(os.environ.get("PETCT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
VOXEL_ML = 0.008  # 2 mm cubed


def empty() -> np.ndarray:
    return np.zeros((12, 12, 12), bool)


def test_two_overlapping_cuboids() -> None:
    reference, predicted = empty(), empty()
    reference[2:6, 2:6, 2:6] = True  # 64 voxels
    predicted[4:8, 2:6, 2:6] = True  # 64 voxels, 32 of them shared
    score = score_masks(predicted, reference, VOXEL_ML, 18)
    assert score.dice == 0.5
    assert score.reference_ml == pytest.approx(64 * VOXEL_ML)
    assert score.predicted_ml == pytest.approx(64 * VOXEL_ML)
    assert (score.fp_volume_ml, score.fn_volume_ml) == (0.0, 0.0)
    assert (score.lesions_reference, score.lesions_found) == (1, 1)
    assert (score.lesions_predicted, score.lesions_false) == (1, 0)
    assert score.positive


def test_missed_and_false_lesions_count_whole() -> None:
    reference, predicted = empty(), empty()
    reference[0, 0, 0:2] = True  # missed: 2 voxels
    reference[5, 5, 0:3] = True  # found by one voxel
    predicted[5, 5, 2:6] = True
    predicted[11, 0:5, 0] = True  # false: 5 voxels
    score = score_masks(predicted, reference, VOXEL_ML, 18)
    assert score.fn_volume_ml == pytest.approx(2 * VOXEL_ML)
    assert score.fp_volume_ml == pytest.approx(5 * VOXEL_ML)
    assert (score.lesions_reference, score.lesions_found) == (2, 1)
    assert (score.lesions_predicted, score.lesions_false) == (2, 1)
    assert score.dice == pytest.approx(2 * 1 / (5 + 9))


@pytest.mark.parametrize(
    ("step", "joined"),
    [((0, 0, 1), {6, 18, 26}), ((0, 1, 1), {18, 26}), ((1, 1, 1), {26}), ((0, 0, 2), set())],
)
def test_neighbours(step: tuple[int, int, int], joined: set[int]) -> None:
    """Two voxels that share a face, an edge, a corner, nothing."""
    mask = empty()
    mask[5, 5, 5] = mask[5 + step[0], 5 + step[1], 5 + step[2]] = True
    for connectivity in (6, 18, 26):
        lesions = find_lesions(mask, connectivity)
        expected = [2] if connectivity in joined else [1, 1]
        assert lesions.voxels.tolist() == expected


def test_a_lesion_beside_the_reference_is_false() -> None:
    """Voxels that only neighbour a reference voxel do not touch it: they must be shared."""
    reference, predicted = empty(), empty()
    reference[5, 5, 5] = True
    predicted[5, 5, 6] = True
    score = score_masks(predicted, reference, VOXEL_ML, 26)
    assert score.fp_volume_ml == pytest.approx(VOXEL_ML)
    assert score.fn_volume_ml == pytest.approx(VOXEL_ML)
    assert score.dice == 0.0


def test_both_empty() -> None:
    score = score_masks(empty(), empty(), VOXEL_ML, 18)
    assert not score.positive
    assert math.isnan(score.dice)
    assert math.isnan(score.fn_volume_ml)
    assert (score.fp_volume_ml, score.reference_ml, score.predicted_ml) == (0.0, 0.0, 0.0)
    assert (score.lesions_reference, score.lesions_predicted, score.lesions_false) == (0, 0, 0)


def test_empty_reference_makes_every_prediction_false() -> None:
    predicted = empty()
    predicted[0, 0, 0] = predicted[6, 6, 6:9] = True
    score = score_masks(predicted, empty(), VOXEL_ML, 18)
    assert math.isnan(score.dice)
    assert math.isnan(score.fn_volume_ml)
    assert score.fp_volume_ml == score.predicted_ml == pytest.approx(4 * VOXEL_ML)
    assert score.lesions_false == 2


def test_empty_prediction_misses_everything() -> None:
    reference = empty()
    reference[0, 0, 0] = reference[6, 6, 6:9] = True
    score = score_masks(empty(), reference, VOXEL_ML, 18)
    assert score.dice == 0.0
    assert score.fn_volume_ml == score.reference_ml == pytest.approx(4 * VOXEL_ML)
    assert (score.lesions_reference, score.lesions_found) == (2, 0)
    assert score.fp_volume_ml == 0.0


def slow_components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """18-connected components by walking from voxel to voxel."""
    left = {tuple(int(i) for i in voxel) for voxel in np.argwhere(mask)}
    steps = [
        step for step in itertools.product((-1, 0, 1), repeat=3) if 1 <= sum(map(abs, step)) <= 2
    ]
    components = []
    while left:
        edge = [left.pop()]
        component = set(edge)
        while edge:
            voxel = edge.pop()
            for step in steps:
                other = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if other in left:
                    left.remove(other)
                    component.add(other)
                    edge.append(other)
        components.append(component)
    return components


def slow_score(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """autoPET's definitions, word by word, on sets of voxels."""
    predicted_lesions, reference_lesions = slow_components(predicted), slow_components(reference)
    predicted_set = set().union(*predicted_lesions)
    reference_set = set().union(*reference_lesions)
    false = [lesion for lesion in predicted_lesions if not lesion & reference_set]
    missed = [lesion for lesion in reference_lesions if not lesion & predicted_set]
    positive = bool(reference_set)
    shared = len(predicted_set & reference_set)
    return {
        "positive": positive,
        "reference_ml": len(reference_set) * VOXEL_ML,
        "predicted_ml": len(predicted_set) * VOXEL_ML,
        "dice": 2 * shared / (len(predicted_set) + len(reference_set)) if positive else np.nan,
        "fp_volume_ml": sum(map(len, false)) * VOXEL_ML,
        "fn_volume_ml": sum(map(len, missed)) * VOXEL_ML if positive else np.nan,
        "lesions_reference": len(reference_lesions),
        "lesions_predicted": len(predicted_lesions),
        "lesions_found": len(reference_lesions) - len(missed),
        "lesions_false": len(false),
    }


def test_agrees_with_the_slow_transcription_on_200_random_masks() -> None:
    rng = np.random.default_rng(7)
    seen_negative = seen_missed = seen_false = 0
    for _ in range(200):
        shape = tuple(rng.integers(3, 11, 3))
        densities = rng.choice([0.0, 0.02, 0.05, 0.1, 0.3], 2)
        predicted, reference = (rng.random(shape) < density for density in densities)
        expected = slow_score(predicted, reference)
        got = asdict(score_masks(predicted, reference, VOXEL_ML, 18))
        assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)
        seen_negative += not expected["positive"]
        seen_missed += expected["fn_volume_ml"] > 0
        seen_false += expected["fp_volume_ml"] > 0
    assert min(seen_negative, seen_missed, seen_false) > 20


@pytest.mark.parametrize(
    ("prediction", "dice", "fp_ml", "fn_ml"),
    [("pred_nnunet", 0.69673, 2.7536, 25.0146), ("pred_datacentric", 0.66043, 4.9764, 18.7112)],
)
def test_real_label_map(prediction: str, dice: float, fp_ml: float, fn_ml: float) -> None:
    folder = DATA / "autopet_labels" / "psma_95b833d46f153cd2_2018-04-16"
    if not folder.is_dir():
        pytest.skip(f"no autoPET label maps in {folder}")
    image = sitk.ReadImage(folder / "lesions_gt.nii.gz")
    reference = sitk.GetArrayFromImage(image) > 0
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(folder / f"{prediction}.nii.gz")) > 0
    score = score_masks(predicted, reference, Grid.from_image(image).voxel_ml, 18)
    assert score.lesions_reference == 112
    assert len(find_lesions(reference, 6).voxels) == 122
    assert score.reference_ml == pytest.approx(431.154, abs=5e-4)
    assert score.dice == pytest.approx(dice, abs=5e-6)
    assert score.fp_volume_ml == pytest.approx(fp_ml, abs=5e-5)
    assert score.fn_volume_ml == pytest.approx(fn_ml, abs=5e-5)


def test_clinical_size_takes_seconds() -> None:
    """Lesions from head to foot, so that the block around them is nearly the whole study."""
    shape = (326, 400, 400)
    reference, predicted = np.zeros(shape, bool), np.zeros(shape, bool)
    rng = np.random.default_rng(0)
    for z, y, x in rng.integers(0, np.array(shape) - 12, (300, 3)):
        reference[z : z + 8, y : y + 8, x : x + 8] = True
        predicted[z + 3 : z + 12, y : y + 8, x : x + 8] = True
    start = time.perf_counter()
    score = score_masks(predicted, reference, VOXEL_ML, 18)
    seconds = time.perf_counter() - start
    assert 0 < score.dice < 1
    assert score.lesions_reference > 250
    assert seconds < 10, f"{seconds:.1f} s"


def test_bounding_slices() -> None:
    mask = empty()
    mask[2, 3, 4] = mask[5, 3, 9] = True
    assert bounding_slices(mask) == (slice(2, 6), slice(3, 4), slice(4, 10))
    assert mask[bounding_slices(empty())].size == 0


def test_total_lesion_glycolysis_is_mean_times_volume() -> None:
    suv = np.full((12, 12, 12), 9.0, np.float32)
    mask = empty()
    mask[0, 0, 0:2] = True
    suv[0, 0, 0:2] = [2.0, 4.0]
    assert total_lesion_glycolysis(suv, mask, VOXEL_ML) == pytest.approx(3.0 * 2 * VOXEL_ML)
    assert total_lesion_glycolysis(suv, empty(), VOXEL_ML) == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(PetctError, match=r"\(12, 12, 11\).*\(12, 12, 12\)"):
        score_masks(empty()[..., 1:], empty(), VOXEL_ML, 18)


def test_connectivity_must_be_known() -> None:
    with pytest.raises(PetctError, match="got 8, expected 6, 18 or 26"):
        find_lesions(empty(), 8)


def test_names_stay_text_and_nan_is_undefined(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("study\tpatient\tpositive\tdice\n007\tNA\tTrue\t0.5\n008\t\tFalse\tnan\n")
    table = read_table(path)
    assert table["study"].tolist() == ["007", "008"]
    assert table["patient"].tolist() == ["NA", ""]
    assert table["positive"].tolist() == [True, False]
    assert table["dice"][0] == 0.5
    assert math.isnan(table["dice"][1])
