"""The phantom's truth: reproducible, exact before blur and noise, hard for a threshold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from petct.errors import PetctError
from petct.grids import Grid
from petct.phantom import (
    StudyTruth,
    axes_xyz_mm,
    describe_study,
    image_ct,
    image_pet,
    paint_hu,
    paint_labels,
    paint_lesions,
    paint_suv,
    simulate_pet,
    study_name,
)
from petct.phantom_lesions import random_rotation
from petct.phantom_shapes import as_point
from petct.phantom_uptake import STEADY

SEED = 20


@pytest.fixture(scope="module")
def truth() -> StudyTruth:
    return describe_study("phantom-002", SEED, "demo")


@pytest.fixture(scope="module")
def sixteen() -> list[StudyTruth]:
    return [describe_study(study_name(number), SEED, "demo") for number in range(1, 17)]


def test_same_arguments_same_study(truth: StudyTruth) -> None:
    assert describe_study("phantom-002", SEED, "demo") == truth
    assert describe_study("phantom-002", SEED + 1, "demo") != truth


def test_size_changes_the_grids_and_not_the_patient(truth: StudyTruth) -> None:
    clinical = describe_study("phantom-002", SEED, "clinical")
    assert clinical.lesions == truth.lesions and clinical.tissues == truth.tissues
    assert clinical.pet_grid.shape_zyx == (326, 400, 400)
    assert clinical.pet_grid.spacing_xyz_mm == (2.03642, 2.03642, 3.0)
    assert clinical.ct_grid.shape_zyx[1:] == (512, 512)


def test_follow_up_is_the_same_body_with_other_lesions(sixteen: list[StudyTruth]) -> None:
    first, second = sixteen[6], sixteen[7]
    assert first.patient == second.patient == "PHANTOM-007"
    assert first.scale_xyz == second.scale_xyz and first.weight_kg == second.weight_kg
    assert first.lesions != second.lesions
    assert len({truth.patient for truth in sixteen}) == 14


def test_composition_of_sixteen_studies(sixteen: list[StudyTruth]) -> None:
    assert sum(not truth.positive for truth in sixteen) == 5
    assert {truth.source for truth in sixteen} == {"siemens", "ge", "philips", "admin", "nifti"}
    assert [truth.study for truth in sixteen if truth.source == "nifti"] == ["phantom-005"]
    assert {truth.label_kind for truth in sixteen} == {"seg", "rtstruct", "nifti"}
    assert any(truth.traps for truth in sixteen if not truth.positive)
    lesions = [lesion for truth in sixteen for lesion in truth.lesions]
    assert {lesion.kind for lesion in lesions} == {"node", "lung", "liver", "bone", "mass"}
    assert min(lesion.suv for lesion in lesions) < 3 and max(lesion.suv for lesion in lesions) > 10
    assert all(3.0 - 1e-9 <= lesion.volume_ml <= 200.0 for lesion in lesions)
    assert all(1 <= len(truth.lesions) <= 8 for truth in sixteen if truth.positive)
    assert all(5 <= truth.fwhm_mm <= 7 for truth in sixteen)


# Points deep inside organs, in the anatomy's nominal frame, and what lies there.
PLACES = {
    (-70, 5, 275): "liver",
    (102, 40, 285): "spleen",
    (-68, 45, 215): "kidney cortex",
    (-55, 31, 212): "kidney pelvis",
    (0, -22, 30): "bladder",
    (-80, 0, 420): "lung",
    (22, 34, 400): "blood",
    (52, -5, 790): "grey matter",
    (30, -6, 776): "white matter",
    (23, 48, 698): "cerebellum",
    (0, 36, 95): "red marrow",
    (120, 4, -120): "yellow marrow",
    (80, 70, 20): "muscle",
    (0, 10, 600): "muscle",
    (0, 12, 446): "airway",
}


def test_organs_lie_where_they_should_with_their_suv(truth: StudyTruth) -> None:
    truth = replace(truth, lesions=())  # one may lie at a place that is looked at
    suv_of = {tissue.name: tissue.suv for tissue in truth.tissues}
    for place, name in PLACES.items():
        centre = np.asarray(place) * truth.scale_xyz + truth.offset_xyz_mm
        voxel = Grid((1, 1, 1), (1.0, 1.0, 1.0), as_point(centre))
        assert paint_suv(truth, voxel).item() == pytest.approx(suv_of[name], rel=0.01), name


def test_suv_and_hu_of_every_tissue_before_blur_and_noise(truth: StudyTruth) -> None:
    labels, tissues = paint_labels(truth, truth.pet_grid)
    suv, hu = paint_suv(truth, truth.pet_grid), paint_hu(truth, truth.pet_grid)
    for number in np.unique(labels):
        here = labels == number
        assert suv[here].mean() == pytest.approx(tissues[number].suv, rel=0.01)
        assert hu[here].mean() == pytest.approx(tissues[number].hu, rel=0.01)
    assert {"liver", "bladder", "heart wall", "red marrow"} <= {
        tissues[k].name for k in set(labels.flat)
    }


def test_uptake_varies_around_its_source(sixteen: list[StudyTruth]) -> None:
    for name in ("liver", "blood", "cerebellum"):
        values = [t.suv for truth in sixteen for t in truth.tissues if t.name == name]
        mean, sd, _ = STEADY[name]
        assert abs(np.mean(values) - mean) < sd and 0.3 * sd < np.std(values) < 1.7 * sd


def test_lesion_volume_within_one_voxel_layer(sixteen: list[StudyTruth]) -> None:
    for truth in sixteen:
        lesions = paint_lesions(truth, truth.pet_grid)
        layer = np.asarray(truth.pet_grid.spacing_xyz_mm).max()
        for lesion in truth.lesions:
            axes = np.asarray(lesion.solid.semi_axes)
            counted = (lesions == lesion.number).sum() * truth.pet_grid.voxel_ml
            least, most = (4 / 3 * math.pi * np.prod(axes + d) / 1000 for d in (-layer, layer))
            assert least < counted < most
            assert lesion.volume_ml == pytest.approx(4 / 3 * math.pi * np.prod(axes) / 1000)


def test_lesions_do_not_touch(sixteen: list[StudyTruth]) -> None:
    for truth in sixteen:
        for k, one in enumerate(truth.lesions):
            for other in truth.lesions[k + 1 :]:
                apart = np.linalg.norm(np.subtract(one.solid.centre, other.solid.centre))
                assert apart > max(one.solid.semi_axes) + max(other.solid.semi_axes) + 8


def test_pet_and_ct_show_each_lesion_in_the_same_place(truth: StudyTruth) -> None:
    """Centres of gravity on both grids agree with the closed form to half a voxel."""
    for grid in (truth.pet_grid, truth.ct_grid):
        lesions = paint_lesions(truth, grid)
        for lesion in truth.lesions:
            z, y, x = np.nonzero(lesions == lesion.number)
            found = [axis[k].mean() for axis, k in zip(axes_xyz_mm(grid), (x, y, z), strict=True)]
            away = np.abs(np.subtract(found, lesion.solid.centre))
            assert (away < 0.5 * np.asarray(grid.spacing_xyz_mm)).all()


def test_grids_differ_and_both_cover_every_lesion(sixteen: list[StudyTruth]) -> None:
    for truth in sixteen:
        pet, ct = truth.pet_grid, truth.ct_grid
        assert pet.spacing_xyz_mm != ct.spacing_xyz_mm
        voxels_apart = np.subtract(pet.origin_xyz_mm, ct.origin_xyz_mm) / pet.spacing_xyz_mm
        assert np.abs(voxels_apart - np.rint(voxels_apart)).max() > 0.01
        for grid in (pet, ct):
            low = grid.origin_xyz_mm[2]
            high = low + (grid.shape_zyx[0] - 1) * grid.spacing_xyz_mm[2]
            for lesion in truth.lesions:
                bottom, top = lesion.solid.bounds()
                assert low <= bottom[2] and top[2] <= high


def test_arms_leave_the_ct_field_and_not_the_pet(sixteen: list[StudyTruth]) -> None:
    reach = []
    for truth in sixteen[::2]:
        # The same field of view in points 10 mm and 30 mm apart.
        fine = truth.pet_grid
        extent_xyz_mm = np.array(fine.shape_zyx[::-1]) * fine.spacing_xyz_mm
        nx, ny, nz = (extent_xyz_mm / (10.0, 10.0, 30.0)).astype(int).tolist()
        sparse = Grid((nz, ny, nx), (10.0, 10.0, 30.0), fine.origin_xyz_mm)
        hu = paint_hu(truth, sparse)
        x = axes_xyz_mm(sparse)[0]
        body = np.flatnonzero((hu > -200).any(axis=(0, 1)))
        assert body[0] > 0 and body[-1] < len(x) - 1
        reach.append(max(abs(x[body[0]]), abs(x[body[-1]])))
    assert max(reach) > 250


def test_blur_has_the_stated_width() -> None:
    grid = Grid((41, 41, 41), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    point = np.zeros(grid.shape_zyx, np.float32)
    point[20, 20, 20] = 1000.0
    image = simulate_pet(point, grid, 6.0, 0.0, np.random.default_rng(0))
    line = image[20, 20].astype(float)
    distance = (np.arange(41) - 20) * 2.0
    sigma = math.sqrt((line * distance**2).sum() / line.sum())
    assert 2.3548 * sigma == pytest.approx(6.0, rel=0.03)
    assert image.sum() == pytest.approx(1000.0, rel=0.01)


def test_noise_has_the_stated_size_and_no_bias() -> None:
    grid = Grid((40, 40, 40), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    for level in (1.0, 4.0):
        flat = np.full(grid.shape_zyx, level, np.float32)
        image = simulate_pet(flat, grid, 6.0, 0.12, np.random.default_rng(1))
        assert image.std() == pytest.approx(0.12 * math.sqrt(level + 0.02), rel=0.02)
        assert image.mean() == pytest.approx(level, abs=0.01 * level)


def test_images_are_reproducible_and_in_range(truth: StudyTruth) -> None:
    pet, ct = image_pet(truth), image_ct(truth)
    assert (pet == image_pet(truth)).all() and pet.dtype == np.float32
    assert pet.min() >= 0 and 5 < pet.max() < 100
    assert ct.dtype == np.int16 and ct.min() == -1024 and (ct[:, 0, 0] == -1024).all()


def test_random_rotation_is_a_rotation() -> None:
    matrix = np.reshape(random_rotation(np.random.default_rng(3)), (3, 3))
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_a_fixed_threshold_does_badly(sixteen: list[StudyTruth]) -> None:
    dice = []
    for truth in sixteen:
        if truth.positive:
            found = image_pet(truth) > 4.0
            lesions = paint_lesions(truth, truth.pet_grid) > 0
            dice.append(2 * (found & lesions).sum() / (found.sum() + lesions.sum()))
    assert len(dice) == 11 and np.mean(dice) < 0.35


def test_wrong_name_and_size_are_refused() -> None:
    with pytest.raises(PetctError, match="expected a name like phantom-001"):
        describe_study("phantom-1", SEED, "demo")
    with pytest.raises(PetctError, match="expected one of demo, clinical"):
        describe_study("phantom-001", SEED, "huge")
