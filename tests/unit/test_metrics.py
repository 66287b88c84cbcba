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
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from petct.errors import PetctError
from petct.grids import Grid
from petct.metrics import (
    MaskScore,
    Overlaps,
    bounding_slices,
    find_lesions,
    read_table,
    score_masks,
)

DATA = Path(os.environ.get("PETCT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
SPACING_MM = (2.0, 2.0, 2.0)
VOXEL_ML = 0.008


def empty() -> np.ndarray:
    return np.zeros((12, 12, 12), bool)


def score_flat(predicted: np.ndarray, reference: np.ndarray, connectivity: int = 18) -> MaskScore:
    """The score where the SUV is 1 everywhere and the surfaces' tolerance one voxel."""
    suv = np.ones(reference.shape, np.float32)
    return score_masks(predicted, reference, suv, SPACING_MM, connectivity, 2.0)


def test_two_overlapping_cuboids() -> None:
    reference, predicted = empty(), empty()
    reference[2:6, 2:6, 2:6] = True  # 64 voxels
    predicted[4:8, 2:6, 2:6] = True  # 64 voxels, 32 of them shared
    score = score_flat(predicted, reference)
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
    score = score_flat(predicted, reference)
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


@pytest.mark.parametrize(("connectivity", "axes"), [(6, 1), (18, 2), (26, 3)])
def test_lesions_are_those_of_scipy(connectivity: int, axes: int) -> None:
    """The same voxels are together, in whatever order lesions are numbered."""
    mask = np.random.default_rng(3).random((12, 13, 14)) < 0.2
    lesions = find_lesions(mask, connectivity)
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, axes))
    pairs = set(zip(lesions.numbers.tolist(), labels[mask].tolist(), strict=True))
    assert len(pairs) == len(lesions.voxels) == count


def test_a_lesion_beside_the_reference_is_false() -> None:
    """Voxels that only neighbour a reference voxel do not touch it: they must be shared."""
    reference, predicted = empty(), empty()
    reference[5, 5, 5] = True
    predicted[5, 5, 6] = True
    score = score_flat(predicted, reference, 26)
    assert score.fp_volume_ml == pytest.approx(VOXEL_ML)
    assert score.fn_volume_ml == pytest.approx(VOXEL_ML)
    assert score.dice == 0.0


def test_both_empty() -> None:
    score = score_flat(empty(), empty())
    assert not score.positive
    for undefined in (score.dice, score.fn_volume_ml, score.surface_dice, score.hd95_mm):
        assert math.isnan(undefined)
    assert (score.fp_volume_ml, score.reference_ml, score.predicted_ml) == (0.0, 0.0, 0.0)
    assert (score.reference_tlg, score.predicted_tlg) == (0.0, 0.0)
    assert count_lesions(score) == {
        "": (0, 0),
        "_iou10": (0, 0),
        "_iou50": (0, 0),
        "_suvmax": (0, 0),
    }
    assert (score.lesions_reference, score.lesions_predicted, score.lesions_false) == (0, 0, 0)


def test_empty_reference_makes_every_prediction_false() -> None:
    predicted = empty()
    predicted[0, 0, 0] = predicted[6, 6, 6:9] = True
    score = score_flat(predicted, empty())
    for undefined in (score.dice, score.fn_volume_ml, score.surface_dice, score.hd95_mm):
        assert math.isnan(undefined)
    assert score.fp_volume_ml == score.predicted_ml == pytest.approx(4 * VOXEL_ML)
    assert count_lesions(score) == {
        "": (0, 2),
        "_iou10": (0, 2),
        "_iou50": (0, 2),
        "_suvmax": (0, 2),
    }


def test_empty_prediction_misses_everything() -> None:
    reference = empty()
    reference[0, 0, 0] = reference[6, 6, 6:9] = True
    score = score_flat(empty(), reference)
    assert (score.dice, score.surface_dice) == (0.0, 0.0)
    assert math.isnan(score.hd95_mm)
    assert score.fn_volume_ml == score.reference_ml == pytest.approx(4 * VOXEL_ML)
    assert score.lesions_reference == 2
    assert count_lesions(score) == {
        "": (0, 0),
        "_iou10": (0, 0),
        "_iou50": (0, 0),
        "_suvmax": (0, 0),
    }
    assert score.fp_volume_ml == 0.0


def test_a_perfect_prediction() -> None:
    mask = empty()
    mask[2:6, 2:6, 2:6] = mask[9, 9, 9] = True
    score = score_flat(mask, mask)
    assert (score.dice, score.surface_dice, score.hd95_mm) == (1.0, 1.0, 0.0)
    assert count_lesions(score) == {
        "": (2, 0),
        "_iou10": (2, 0),
        "_iou50": (2, 0),
        "_suvmax": (2, 0),
    }


def test_a_shifted_cube() -> None:
    """A cube of 5 x 5 x 5 voxels of 3 x 2 x 2 mm, moved by one slice.

    98 of its voxels are surface, all but the inner 3 x 3 x 3. Of these, the 25 of the slice that
    stands out are 3 mm from the other cube's end, and the inner 9 of the slice that was left
    behind are inside the other cube, 2 or 3 mm from its surface. All others coincide.
    """
    reference, predicted = empty(), empty()
    reference[2:7, 2:7, 2:7] = True
    predicted[3:8, 2:7, 2:7] = True
    suv = np.ones(reference.shape, np.float32)
    score, within_slice = (
        score_masks(predicted, reference, suv, (3.0, 2.0, 2.0), 18, tolerance_mm)
        for tolerance_mm in (0.0, 3.0)
    )
    assert score.dice == pytest.approx(0.8)
    assert score.surface_dice == pytest.approx((98 - 25 - 9) / 98)
    assert within_slice.surface_dice == 1.0
    # More than a twentieth of the surface is 3 mm away, and nothing is further.
    assert score.hd95_mm == pytest.approx(3.0)


def test_what_lies_far_away_leaves_distances_alone() -> None:
    """The block around the lesions is cut out: masks at a border measure as in a wide field."""
    rng = np.random.default_rng(3)
    small = [rng.random((5, 4, 6)) < 0.3 for _ in range(2)]
    wide = [np.pad(mask, ((7, 2), (0, 9), (3, 3))) for mask in small]
    assert score_flat(small[0], small[1]) == score_flat(wide[0], wide[1])


CRITERIA = ["", "_iou10", "_iou50", "_suvmax"]


def count_lesions(score: MaskScore) -> dict[str, tuple[int, int]]:
    """Lesions found and false, by criterion."""
    values = asdict(score)
    return {c: (values[f"lesions_found{c}"], values[f"lesions_false{c}"]) for c in CRITERIA}


def test_overlap_criteria() -> None:
    """Four lesions of 10 voxels, met by 1, 2, 5 and 8 of their voxels; a false one beside."""
    reference, predicted = empty(), empty()
    for row, shared in ((0, 1), (3, 2), (6, 5), (9, 8)):
        reference[row, 0, 0:10] = True
        predicted[row, 0, 0:shared] = True
    predicted[11, 11, 11] = True
    score = score_flat(predicted, reference)
    # IoU 0.1, 0.2, 0.5, 0.8: a criterion's own value is enough.
    assert count_lesions(score)[""] == (4, 1)
    assert count_lesions(score)["_iou10"] == (4, 1)
    assert count_lesions(score)["_iou50"] == (2, 3)


def test_one_prediction_over_two_lesions_is_one_match() -> None:
    reference, predicted = empty(), empty()
    reference[0, 0, 0:4] = reference[0, 0, 6:10] = True
    predicted[0, 0, 0:10] = True
    score = score_flat(predicted, reference)
    assert count_lesions(score)[""] == (2, 0)
    # An IoU of 4 / 10 with either.
    assert count_lesions(score)["_iou10"] == (1, 0)
    assert count_lesions(score)["_iou50"] == (0, 1)


def test_matching_pairs_as_many_as_can_be() -> None:
    """Whoever takes the best pair first leaves two lesions alone."""
    overlaps = Overlaps(
        reference=np.array([0, 0, 1]),
        predicted=np.array([0, 1, 0]),
        iou=np.array([0.5, 0.25, 0.2]),
        shape=(2, 2),
    )
    assert overlaps.count_matches(0.1) == 2
    assert overlaps.count_matches(0.25) == 1
    assert overlaps.count_matches(0.6) == 0


def test_the_hottest_voxel_decides() -> None:
    reference, predicted = empty(), empty()
    suv = np.ones(reference.shape, np.float32)
    reference[0, 0, 0:6] = True
    suv[0, 0, 4] = 9.0
    predicted[0, 0, 0:4] = True  # its own hottest voxel, 3, is in the reference
    suv[0, 0, 3] = 5.0
    reference[5, 5, 0:3] = True
    suv[5, 5, 1] = 4.0
    predicted[5, 5, 1:6] = True  # meets the lesion's hottest voxel; its own, 5, is outside
    suv[5, 5, 5] = 7.0
    score = score_masks(predicted, reference, suv, SPACING_MM, 18, 2.0)
    assert count_lesions(score)["_suvmax"] == (1, 1)
    assert count_lesions(score)[""] == (2, 0)


def test_of_equally_hot_voxels_one_is_enough() -> None:
    reference, predicted = empty(), empty()
    reference[0, 0, 0:3] = True
    predicted[0, 0, 2:6] = True
    assert count_lesions(score_flat(predicted, reference))["_suvmax"] == (1, 0)


def test_total_lesion_glycolysis_is_mean_times_volume() -> None:
    reference, predicted = empty(), empty()
    suv = np.full(reference.shape, 9.0, np.float32)
    reference[0, 0, 0:2] = True
    suv[0, 0, 0:2] = [2.0, 4.0]
    predicted[0, 0, 1] = True
    score = score_masks(predicted, reference, suv, SPACING_MM, 18, 2.0)
    assert score.reference_tlg == pytest.approx(3.0 * 2 * VOXEL_ML)
    assert score.predicted_tlg == pytest.approx(4.0 * VOXEL_ML)


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


def slow_matches(
    reference: list[set[tuple[int, ...]]], predicted: list[set[tuple[int, ...]]], at_least: float
) -> int:
    """The most pairs of an IoU of ``at_least``, by assignment over every pair there is."""
    table = [[len(r & p) / len(r | p) >= at_least for p in predicted] for r in reference]
    gain = np.array(table, float).reshape(len(reference), len(predicted))
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return int(gain[rows, columns].sum())


def slow_score(predicted: np.ndarray, reference: np.ndarray, suv: np.ndarray) -> dict[str, float]:
    """The definitions, word by word, on sets of voxels."""
    predicted_lesions, reference_lesions = slow_components(predicted), slow_components(reference)
    predicted_set = set().union(*predicted_lesions)
    reference_set = set().union(*reference_lesions)
    false = [lesion for lesion in predicted_lesions if not lesion & reference_set]
    missed = [lesion for lesion in reference_lesions if not lesion & predicted_set]
    hot_false = [p for p in predicted_lesions if max(p, key=lambda v: suv[v]) not in reference_set]
    hot_found = [r for r in reference_lesions if max(r, key=lambda v: suv[v]) in predicted_set]
    positive = bool(reference_set)
    shared = len(predicted_set & reference_set)
    matches_10 = slow_matches(reference_lesions, predicted_lesions, 0.1)
    matches_50 = slow_matches(reference_lesions, predicted_lesions, 0.5)
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
        "lesions_found_iou10": matches_10,
        "lesions_false_iou10": len(predicted_lesions) - matches_10,
        "lesions_found_iou50": matches_50,
        "lesions_false_iou50": len(predicted_lesions) - matches_50,
        "lesions_found_suvmax": len(hot_found),
        "lesions_false_suvmax": len(hot_false),
        "reference_tlg": sum(float(suv[voxel]) for voxel in reference_set) * VOXEL_ML,
        "predicted_tlg": sum(float(suv[voxel]) for voxel in predicted_set) * VOXEL_ML,
    }


def test_agrees_with_the_slow_transcription_on_200_random_masks() -> None:
    rng = np.random.default_rng(7)
    seen_negative = seen_empty = seen_missed = seen_false = seen_strict = 0
    for _ in range(200):
        shape = tuple(rng.integers(3, 11, 3))
        densities = rng.choice([0.0, 0.02, 0.05, 0.1, 0.3], 2)
        predicted, reference = (rng.random(shape) < density for density in densities)
        # Often the prediction keeps most of the reference, so that lesions overlap well.
        if rng.random() < 0.5:
            predicted = (reference & (rng.random(shape) < 0.8)) | (rng.random(shape) < 0.01)
        suv = rng.random(shape)
        expected = slow_score(predicted, reference, suv)
        got = asdict(score_masks(predicted, reference, suv, SPACING_MM, 18, 2.0))
        assert {name: got[name] for name in expected} == pytest.approx(
            expected, abs=1e-6, nan_ok=True
        )
        seen_negative += not expected["positive"]
        seen_empty += not predicted.any()
        seen_missed += expected["fn_volume_ml"] > 0
        seen_false += expected["fp_volume_ml"] > 0
        seen_strict += 0 < expected["lesions_found_iou50"] < expected["lesions_found_iou10"]
    assert min(seen_negative, seen_empty, seen_missed, seen_false, seen_strict) > 20


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
    suv = np.ones(reference.shape, np.float32)
    score = score_masks(predicted, reference, suv, Grid.from_image(image).spacing_zyx_mm, 18, 4.0)
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
    start = time.process_time()
    score = score_flat(predicted, reference)
    seconds = time.process_time() - start
    assert 0 < score.dice < 1
    assert score.lesions_reference > 250
    assert seconds < 10, f"{seconds:.1f} s"


def test_bounding_slices() -> None:
    mask = empty()
    mask[2, 3, 4] = mask[5, 3, 9] = True
    assert bounding_slices(mask) == (slice(2, 6), slice(3, 4), slice(4, 10))
    assert mask[bounding_slices(empty())].size == 0


def test_shapes_must_agree() -> None:
    suv, cut = np.ones((12, 12, 12), np.float32), empty()[..., 1:]
    with pytest.raises(PetctError, match=r"prediction .*\(12, 12, 11\).*\(12, 12, 12\)"):
        score_masks(cut, empty(), suv, SPACING_MM, 18, 2.0)
    with pytest.raises(PetctError, match=r"SUV .*\(12, 12, 11\).*\(12, 12, 12\)"):
        score_masks(empty(), empty(), suv[..., 1:], SPACING_MM, 18, 2.0)


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


def test_two_voxels_that_fill_their_block_are_lesions() -> None:
    # By corners alone, in a block of two voxels a side: where the labelling once failed.
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    for connectivity, lesions in ((6, 2), (18, 2), (26, 1)):
        score = score_masks(mask, mask, mask * 2.0, (1.0, 1.0, 1.0), connectivity, 1.0)
        assert (score.lesions_reference, score.lesions_found, score.dice) == (lesions, lesions, 1)


def test_a_block_holds_both_masks_and_ignores_an_empty_one() -> None:
    near, far, nothing = np.zeros((3, 6, 4), bool)
    near[1:3, 0:2] = far[5:6, 1:4] = True
    assert bounding_slices(near, far) == (slice(1, 6), slice(0, 4))
    assert bounding_slices(nothing, far) == (slice(5, 6), slice(1, 4))
    assert bounding_slices(near, nothing) == (slice(1, 3), slice(0, 2))
    assert bounding_slices(nothing, nothing) == (slice(0, 0), slice(0, 0))
