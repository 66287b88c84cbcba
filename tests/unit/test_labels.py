"""Masks from SEG, RTSTRUCT and NIfTI of shapes whose voxels can be counted by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import dicom_studies as tiny
from petct.dicom_series import order_slices, read_headers
from petct.errors import StudyError
from petct.grids import Grid
from petct.labels import (
    rasterise_contours,
    read_nifti,
    read_nifti_label,
    read_rtstruct,
    read_seg,
    same_grid,
)

DATA = Path(os.environ.get("PETCT_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
PATTERN = "lesion|gtv"
UNIT = Grid((3, 8, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.36, -0.48, 0.8], [0.48, -0.64, -0.6]])
PET_GRID = Grid(
    tiny.PET_SHAPE,
    (tiny.PET_SPACING[2], tiny.PET_SPACING[1], tiny.PET_SPACING[0]),
    (-20.0, -15.0, 100.0),
)


def box(low: float, high: float, z: float = 1.0) -> np.ndarray:
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


def test_square_between_voxel_centres() -> None:
    mask = rasterise_contours([box(1.5, 4.5)], UNIT, "")
    expected = np.zeros(UNIT.shape_zyx, bool)
    expected[1, 2:5, 2:5] = True
    np.testing.assert_array_equal(mask, expected)


def test_square_through_voxel_centres_takes_one_edge_of_each_pair() -> None:
    assert rasterise_contours([box(1.0, 4.0)], UNIT, "")[1].sum() == 9
    beside = box(1.0, 4.0) + np.array([3.0, 0.0, 0.0])
    both = rasterise_contours([box(1.0, 4.0), beside], UNIT, "")
    assert both[1].sum() == 18  # nothing twice, nothing missing on the common edge


def test_contour_within_a_contour_is_a_hole_whatever_its_sense() -> None:
    outer, inner = box(0.5, 6.5), box(2.5, 4.5)
    for hole in (inner, inner[::-1]):
        mask = rasterise_contours([outer, hole], UNIT, "")
        assert mask[1].sum() == 36 - 4
        assert not mask[1, 3:5, 3:5].any()
    island = rasterise_contours([outer, box(1.5, 5.5), inner], UNIT, "")
    assert island[1].sum() == 36 - 16 + 4


def test_keyhole_contour_is_a_hole() -> None:
    outer, inner = box(0.5, 6.5), box(2.5, 4.5)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])
    assert rasterise_contours([keyhole], UNIT, "")[1].sum() == 36 - 4


def test_two_contours_of_one_plane() -> None:
    assert rasterise_contours([box(0.5, 2.5), box(4.5, 6.5)], UNIT, "")[1].sum() == 8


def test_contours_beyond_the_image_are_cut() -> None:
    assert rasterise_contours([box(-5.0, 50.0)], UNIT, "")[1].all()
    assert not rasterise_contours([box(20.0, 50.0)], UNIT, "").any()


def test_random_polygons_agree_with_counting_crossings() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        polygon = generator.uniform(-1, 10, (7, 2))
        mask = rasterise_contours([np.c_[polygon, np.ones(7)]], UNIT, "")[1]
        for y in range(8):
            for x in range(10):
                crossings = 0
                for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
                    if (y0 <= y) != (y1 <= y):
                        crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
                assert mask[y, x] == crossings % 2


def test_contour_off_all_slices() -> None:
    with pytest.raises(StudyError, match=r"off all slices: 2.60 slices from the first"):
        rasterise_contours([box(1.0, 4.0, z=2.6)], UNIT, "")


def test_contour_that_is_not_parallel_to_the_slices() -> None:
    tilted = box(1.0, 4.0)
    tilted[0, 2] += 1.0
    with pytest.raises(StudyError, match="not parallel to the slices"):
        rasterise_contours([tilted], UNIT, "")


def test_contours_of_a_finer_series_do_not_cancel_each_other() -> None:
    with pytest.raises(StudyError, match="drawn on another series"):
        rasterise_contours([box(1.0, 4.0, z=0.8), box(1.0, 4.0, z=1.2)], UNIT, "")


def test_same_grid_within_a_fraction_of_a_voxel() -> None:
    moved = Grid(UNIT.shape_zyx, (1.0, 1.0, 1.0), (0.001, 0.0, 0.0))
    assert same_grid(UNIT, moved)
    assert not same_grid(UNIT, Grid(UNIT.shape_zyx, (1.0, 1.0, 1.0), (0.1, 0.0, 0.0)))
    assert not same_grid(UNIT, Grid(UNIT.shape_zyx, (1.01, 1.0, 1.0), (0.0, 0.0, 0.0)))
    assert not same_grid(UNIT, Grid((3, 8, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))


@pytest.fixture
def pet(tmp_path: Path) -> list[Path]:
    return tiny.write_pet(tmp_path, "1.2.3")


@pytest.mark.parametrize("axes", [tiny.AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_rtstruct(tmp_path: Path, axes: np.ndarray) -> None:
    pet = tiny.write_pet(tmp_path, "1.2.3", axes=axes)
    rois = {
        "Patient outline": [tiny.contour(1, [(0, 0), (0, 9), (7, 9), (7, 0)], axes)],
        "gtv 1": tiny.block_contours(axes)[:1],
        "Liver LESION": tiny.block_contours(axes)[1:],
    }
    file = tiny.write_rtstruct(tmp_path / "rt", pet, rois)
    grid = order_slices(read_headers(pet), False).grid
    label = read_rtstruct(file, PATTERN, grid, grid)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.mask.dtype == np.uint8
    assert label.names == ("gtv", "lesion")
    assert label.warnings == ()


def test_rtstruct_with_a_hole(tmp_path: Path, pet: list[Path]) -> None:
    hole = tiny.contour(2, [(3.5, 4.5), (3.5, 5.5), (4.5, 5.5), (4.5, 4.5)])
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": [*tiny.block_contours(), hole]})
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    expected = tiny.lesion_mask()
    expected[2, 4, 5] = 0
    np.testing.assert_array_equal(label.mask, expected)


def test_rtstruct_of_other_names_is_free_of_lesions(tmp_path: Path, pet: list[Path]) -> None:
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"Liver": tiny.block_contours()})
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    assert not label.mask.any()
    assert label.names == ()
    assert label.warnings == (
        "none of 1 ROI(s) matches 'lesion|gtv': taken as free of lesions "
        "(to see the names: pydicom show FILE::StructureSetROISequence)",
    )
    file = tiny.write_rtstruct(tmp_path / "empty", pet, {})
    assert "none of 0 ROI(s)" in read_rtstruct(file, PATTERN, PET_GRID, PET_GRID).warnings[0]


def test_rtstruct_with_points_and_empty_rois(tmp_path: Path, pet: list[Path]) -> None:
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV a": tiny.block_contours(), "GTV b": []})

    def change(dataset: tiny.Dataset) -> None:
        dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "POINT"

    tiny.edit(file, change)
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    assert label.mask.sum() == 9
    assert label.warnings == (
        "ROI 1: 1 contour(s) left out (POINT)",
        "ROI 2 has no closed contour",
    )


def no_points(dataset: tiny.Dataset) -> None:
    del dataset.ROIContourSequence[0].ContourSequence[1].ContourData


def odd_points(dataset: tiny.Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[1].ContourData = [1, 2, 3, 4]


def unknown_type(dataset: tiny.Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "ROUND"


def no_names(dataset: tiny.Dataset) -> None:
    del dataset.StructureSetROISequence


def nameless(dataset: tiny.Dataset) -> None:
    dataset.StructureSetROISequence = []


def no_contours(dataset: tiny.Dataset) -> None:
    del dataset.ROIContourSequence


def no_number(dataset: tiny.Dataset) -> None:
    dataset.StructureSetROISequence[0].ROINumber = None


def not_a_sequence(dataset: tiny.Dataset) -> None:
    del dataset.ROIContourSequence
    dataset.add_new("ROIContourSequence", "LO", "abc")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_points, "ContourData (3006,0050) of ROI 1 has 0 values"),
        (odd_points, "ContourData (3006,0050) of ROI 1 has 4 values"),
        (unknown_type, "ContourGeometricType (3006,0042) of ROI 1 is no known type"),
        (no_names, "StructureSetROISequence (3006,0020) is missing; truncated?"),
        (nameless, "contours of ROI number(s) [1] have no name"),
        (no_contours, "ROIContourSequence (3006,0039) is missing; truncated?"),
        (no_number, "RTSTRUCT is not readable (TypeError)"),
        (not_a_sequence, "RTSTRUCT is not readable (AttributeError)"),
    ],
)
def test_damaged_rtstruct_is_refused(
    tmp_path: Path, pet: list[Path], change: Callable[[tiny.Dataset], None], reason: str
) -> None:
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": tiny.block_contours()})
    tiny.edit(file, change)
    with pytest.raises(StudyError) as caught:
        read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    assert reason in str(caught.value)
    assert caught.value.source == str(file)


def test_rtstruct_drawn_on_a_finer_grid(tmp_path: Path, pet: list[Path]) -> None:
    # Half the PET's slice spacing: the contours' planes are PET's 2 and 3 and those between.
    fine = Grid((11, 8, 10), (4.0, 5.0, 1.5), PET_GRID.origin_xyz_mm)
    corners = [(2.5, 3.5), (2.5, 6.5), (5.5, 6.5), (5.5, 3.5)]
    contours = [tiny.contour(z, corners) for z in (2.0, 2.5, 3.0, 3.5)]
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": contours})
    label = read_rtstruct(file, PATTERN, fine, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert "1.08 mL became 1.08 mL" in label.warnings[0]

    # The same contours, taken for the PET's own: their planes tell that they are not.
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings[0] == (
        "its contours lie 1.50 mm apart, the slices 3.00 mm: each contour stands for the space "
        "halfway to the next"
    )
    contours.append(tiny.contour(4.2, corners))
    file = tiny.write_rtstruct(tmp_path / "uneven", pet, {"GTV": contours})
    with pytest.raises(StudyError, match=r"uneven distance \(1.50 to 2.10 mm\)"):
        read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)


def test_contours_on_every_second_slice_leave_no_gaps(tmp_path: Path, pet: list[Path]) -> None:
    tall = Grid((12, 8, 10), PET_GRID.spacing_xyz_mm, PET_GRID.origin_xyz_mm)
    corners = [(2.5, 3.5), (2.5, 6.5), (5.5, 6.5), (5.5, 3.5)]
    contours = [tiny.contour(z, corners) for z in (2, 4, 6, 8)]
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": contours})
    label = read_rtstruct(file, PATTERN, tall, tall)
    # Each stands for one slice to either side, of which the halfway ones go to one of the two.
    assert label.mask[2:9, 3:6, 4:7].all()
    assert label.mask.sum() == 9 * 8
    assert "6.00 mm apart, the slices 3.00 mm" in label.warnings[0]

    # A few lesions of one slice each are no such series.
    contours = [tiny.contour(z, corners) for z in (2, 4, 7, 10)]
    file = tiny.write_rtstruct(tmp_path / "few", pet, {"GTV": contours})
    label = read_rtstruct(file, PATTERN, tall, tall)
    assert label.mask.sum() == 9 * 4
    assert label.warnings == ()


def test_a_hole_in_a_region_of_its_own_name_is_no_hole(tmp_path: Path, pet: list[Path]) -> None:
    # Regions are joined: what one of them leaves out, another may hold.
    hole = tiny.contour(2, [(3.5, 4.5), (3.5, 5.5), (4.5, 5.5), (4.5, 4.5)])
    rois = {"GTV": tiny.block_contours(), "GTV necrosis": [hole]}
    file = tiny.write_rtstruct(tmp_path / "rt", pet, rois)
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())


@pytest.mark.parametrize("spacing_zyx", [(4.0, 4.0, 4.0), (3.0, 2.036, 2.036)])
def test_spheres_contoured_on_a_ct_keep_their_volume_on_the_pet(
    tmp_path: Path, pet: list[Path], spacing_zyx: tuple[float, float, float]
) -> None:
    ct = Grid((60, 64, 64), (1.0, 1.0, 1.5), (0.0, 0.0, 0.0))
    z, y, x = spacing_zyx
    coarse = Grid((int(90 / z), int(64 / y), int(64 / x)), (x, y, z), (0.5, 0.5, 0.5))
    radius = (3 * 2.0 / (4 * np.pi)) ** (1 / 3) * 10  # 2 mL
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    generator = np.random.default_rng(5)
    volumes_ml = []
    for _ in range(40):
        centre = generator.uniform(25, 38, 3)
        contours = []
        for height in np.arange(60) * 1.5:
            if abs(height - centre[2]) < radius:
                across = np.sqrt(radius**2 - (height - centre[2]) ** 2)
                contours.append(ring * across + [centre[0], centre[1], height])
        file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": contours})
        label = read_rtstruct(file, PATTERN, ct, coarse)
        volumes_ml.append(label.mask.sum() * coarse.voxel_ml)
    assert np.mean(volumes_ml) == pytest.approx(2.0, rel=0.02)
    assert np.std(volumes_ml) < 0.15


def test_contours_that_hold_no_voxel_are_not_a_negative_study(
    tmp_path: Path, pet: list[Path]
) -> None:
    small = tiny.contour(2, [(3.2, 4.2), (3.2, 4.7), (3.7, 4.7), (3.7, 4.2)])
    far = small + np.array([500.0, 0.0, 0.0])
    fine = Grid((11, 8, 10), (4.0, 5.0, 1.5), PET_GRID.origin_xyz_mm)
    for points, drawn_on, volume in (
        (small, PET_GRID, 0.015),
        (far, PET_GRID, 0.015),
        (far, fine, 0.0075),
    ):
        file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": [points]})
        with pytest.raises(StudyError, match=rf"the label \({volume:.2f} mL\) has no voxel"):
            read_rtstruct(file, PATTERN, drawn_on, PET_GRID)


def test_contours_beyond_the_image_are_cut_and_said(tmp_path: Path, pet: list[Path]) -> None:
    wide = tiny.contour(2, [(2.5, 3.5), (2.5, 16.5), (5.5, 16.5), (5.5, 3.5)])
    file = tiny.write_rtstruct(tmp_path / "rt", pet, {"GTV": [wide]})
    label = read_rtstruct(file, PATTERN, PET_GRID, PET_GRID)
    assert label.mask.sum() == 3 * 6
    assert label.warnings == ("1 contour(s) reach beyond the image, and are cut there",)


def test_names_are_never_repeated(tmp_path: Path, pet: list[Path]) -> None:
    names = {"John Doe GTV": tiny.block_contours(), "Mary": []}
    file = tiny.write_rtstruct(tmp_path / "rt", pet, names)
    for pattern, found in (("gtv", ("gtv",)), (".+", ("matched",)), ("doe.*gtv", ("matched",))):
        label = read_rtstruct(file, pattern, PET_GRID, PET_GRID)
        assert label.names == found
        assert not any(name in str(label.warnings) for name in ("John", "Mary"))
    segments = {"John Doe": tiny.lesion_mask(), "Mary": other()}
    for chosen in (segments, {"Mary": other()}):
        file = tiny.write_seg(tmp_path / "seg", pet, chosen)
        for pattern, name in (("mary", "mary"), ("tumour", None), (".", "matched")):
            label = read_seg(file, pattern, PET_GRID)
            assert label.names == ((name,) if name else ())
            assert not any(name in str(label.warnings) for name in ("John", "Mary"))


def other() -> np.ndarray:
    mask = np.zeros(tiny.PET_SHAPE, np.uint8)
    mask[0, 0, :5] = 1
    return mask


def test_seg_with_one_segment_of_a_matching_name(tmp_path: Path, pet: list[Path]) -> None:
    file = tiny.write_seg(tmp_path / "seg", pet, {"Liver": other(), "Lesions": tiny.lesion_mask()})
    label = read_seg(file, PATTERN, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.names == ("lesion",)
    assert label.warnings == ()


def test_seg_with_two_matching_segments(tmp_path: Path, pet: list[Path]) -> None:
    segments = {"lesion 1": other(), "lesion 2": tiny.lesion_mask()}
    label = read_seg(tiny.write_seg(tmp_path / "seg", pet, segments), PATTERN, PET_GRID)
    np.testing.assert_array_equal(label.mask, other() | tiny.lesion_mask())
    assert label.names == ("lesion",)


def test_seg_without_a_matching_name(tmp_path: Path, pet: list[Path]) -> None:
    file = tiny.write_seg(tmp_path / "one", pet, {"Segment": tiny.lesion_mask()})
    label = read_seg(file, PATTERN, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings == (
        "the only segment is used though its name does not match 'lesion|gtv' "
        "(to see the names: pydicom show FILE::SegmentSequence)",
    )
    file = tiny.write_seg(tmp_path / "two", pet, {"Liver": other(), "Spleen": tiny.lesion_mask()})
    label = read_seg(file, PATTERN, PET_GRID)
    assert not label.mask.any()
    assert (
        "none of 2 segment(s) matches 'lesion|gtv': taken as free of lesions" in label.warnings[0]
    )


def test_seg_of_zeros_is_negative(tmp_path: Path, pet: list[Path]) -> None:
    empty = np.zeros(tiny.PET_SHAPE, np.uint8)
    label = read_seg(tiny.write_seg(tmp_path / "seg", pet, {"Lesion": empty}), PATTERN, PET_GRID)
    assert not label.mask.any()
    assert label.warnings == ()


@pytest.mark.parametrize("flips", [(-1, -1, 1), (1, -1, -1), (-1, 1, -1)])
def test_seg_stored_along_other_axes(tmp_path: Path, pet: list[Path], flips: tuple[int]) -> None:
    axes = np.diag([float(flip) for flip in flips])
    corner = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, tiny.AXIAL)
    turned = tiny.write_pet(tmp_path / "turned", "1.2.3", axes=axes)
    last = [0 if flip > 0 else -1 for flip in flips]
    origin = corner[last[2], last[1], last[0]]
    for z, path in enumerate(turned):
        tiny.edit(path, ImagePositionPatient=(origin + 3.0 * z * axes[2]).tolist())
    mask = tiny.lesion_mask()[tuple(slice(None, None, flip) for flip in flips[::-1])]
    file = tiny.write_seg(tmp_path / "seg", turned, {"Lesion": mask})
    label = read_seg(file, PATTERN, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings == ()


def test_seg_on_the_ct_is_resampled_with_both_volumes(tmp_path: Path) -> None:
    ct = tiny.write_ct(tmp_path, "1.2.3")
    centres = tiny.voxel_centres(tiny.CT_SHAPE, tiny.CT_SPACING, tiny.CT_ORIGIN, tiny.AXIAL)
    ball = (np.linalg.norm(centres - [0.0, 5.0, 108.0], axis=-1) < 8.0).astype(np.uint8)
    file = tiny.write_seg(tmp_path / "seg", ct, {"Lesion": ball})
    label = read_seg(file, PATTERN, PET_GRID)
    assert label.mask.sum() * tiny.VOXEL_ML == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.25)
    z, y, x = (axis.mean() for axis in np.nonzero(label.mask))
    np.testing.assert_allclose(PET_GRID.locate_index((z, y, x)), [0.0, 5.0, 108.0], atol=1.5)
    assert "segment 1 has another grid than the PET: resampled" in label.warnings[0]


def test_seg_outside_the_pet_is_refused(tmp_path: Path, pet: list[Path]) -> None:
    for z, path in enumerate(pet):
        tiny.edit(path, ImagePositionPatient=[-20.0, -15.0, 600.5 + 3.0 * z])
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})
    with pytest.raises(StudyError, match="has no voxel on the PET's grid"):
        read_seg(file, PATTERN, PET_GRID)


def test_seg_beyond_the_pet_says_what_is_lost(tmp_path: Path, pet: list[Path]) -> None:
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})
    shorter = Grid((3, 8, 10), PET_GRID.spacing_xyz_mm, PET_GRID.origin_xyz_mm)
    label = read_seg(file, PATTERN, shorter)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask()[:3])
    assert "9 voxels of it lie outside" in label.warnings[0]
    with pytest.raises(StudyError, match="has no voxel on the PET's grid"):
        read_seg(file, PATTERN, Grid((2, 8, 10), shorter.spacing_xyz_mm, shorter.origin_xyz_mm))


def test_fractional_seg_counts_from_one_half(tmp_path: Path, pet: list[Path]) -> None:
    shares = np.where(tiny.lesion_mask() > 0, 0.6, 0.3)
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})
    binary = hd.seg.segread(file)
    fractional = hd.seg.Segmentation(
        source_images=[pydicom.dcmread(path) for path in pet],
        pixel_array=shares,
        segmentation_type=hd.seg.SegmentationTypeValues.FRACTIONAL,
        segment_descriptions=list(binary.SegmentSequence),
        series_instance_uid="1.2.4",
        series_number=9,
        sop_instance_uid="1.2.4.1",
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    fractional.save_as(tmp_path / "fractional")
    label = read_seg(tmp_path / "fractional", PATTERN, PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())


@pytest.mark.parametrize("kept", [0.3, 0.8, 0.99])
def test_truncated_seg(tmp_path: Path, pet: list[Path], kept: float) -> None:
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(StudyError) as caught:
        read_seg(file, PATTERN, PET_GRID)
    assert caught.value.source == str(file)


def nifti(path: Path, array: np.ndarray, grid: Grid = PET_GRID) -> Path:
    sitk.WriteImage(grid.to_image(array), str(path))
    return path


def test_nifti_label(tmp_path: Path) -> None:
    label = read_nifti_label(nifti(tmp_path / "SEG.nii.gz", tiny.lesion_mask()), PET_GRID)
    assert label.names == ()
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings == ()


def test_nifti_label_of_other_values_and_grid(tmp_path: Path) -> None:
    shifted = PET_GRID.cut((0, 1, 0), (6, 7, 10))
    array = (tiny.lesion_mask() * 3)[:, 1:]
    label = read_nifti_label(nifti(tmp_path / "SEG.nii.gz", array, shifted), PET_GRID)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings[0] == "label values 0, 3: all above 0 count as lesion"
    assert "resampled, 1.08 mL became 1.08 mL" in label.warnings[1]


def test_nifti_whose_spacing_is_stated_in_two_ways(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "name-of-a-patient.nii.gz"
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_qform(None, 0)
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    nibabel.save(image, path)
    assert read_nifti(path).GetSpacing() == (2.0, 2.0, 2.0)
    image.header["pixdim"][1:4] = 3.0
    nibabel.save(image, path)
    with pytest.raises(StudyError, match=r"\[2.0, 2.0, 2.0\] by its sform and \[3.0, 3.0, 3.0\]"):
        read_nifti(path)
    assert capfd.readouterr() == ("", "")  # the reader's own warning would name the file


def test_not_a_nifti_image(tmp_path: Path) -> None:
    path = tmp_path / "SEG.nii.gz"
    path.write_bytes(b"\x1f\x8bnot really")
    with pytest.raises(StudyError, match="not readable as NIfTI") as caught:
        read_nifti(path)
    assert caught.value.source == str(path)
    sitk.WriteImage(sitk.Image([4, 4, 4, 2], sitk.sitkUInt8), str(path))
    with pytest.raises(StudyError, match="expected three dimensions"):
        read_nifti(path)


@pytest.mark.skipif(not DATA.exists(), reason=f"no test data at {DATA} (PETCT_TEST_DATA)")
@pytest.mark.parametrize("study", ["STS_002", "STS_008", "STS_035", "STS_044"])
@pytest.mark.parametrize("drawn_on", ["PET", "CT"])
def test_real_contours_agree_voxel_for_voxel_with_the_published_masks(
    study: str, drawn_on: str
) -> None:
    folder = DATA / "ibsi_sts" / study
    grid = order_slices(read_headers(sorted((folder / drawn_on).iterdir())), False).grid
    (file,) = (folder / f"RTSTRUCT_{drawn_on}").iterdir()
    label = read_rtstruct(file, PATTERN, grid, grid)
    published = sitk.ReadImage(str(folder / f"nifti/{drawn_on}_mask.nii.gz"))
    assert same_grid(grid, Grid.from_image(published))
    np.testing.assert_array_equal(label.mask, sitk.GetArrayFromImage(published) > 0)
