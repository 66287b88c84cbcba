"""The phantom's labels: SEG gives back the voxels, RTSTRUCT the closed-form ellipses."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from petct.grids import Grid
from petct.phantom import StudyTruth, describe_study, paint_lesions
from petct.phantom_dicom import empty_folder, write_pet
from petct.phantom_labels import cross_section, write_rtstruct, write_seg
from petct.phantom_shapes import Ellipsoid, as_point, ball, pointing


def around_lesions(study: str) -> StudyTruth:
    """The study with a PET grid that holds its lesions and little else."""
    truth = describe_study(study, 20, "demo")
    boxes = [lesion.solid.bounds() for lesion in truth.lesions] or [
        (np.array(truth.offset_xyz_mm), np.array(truth.offset_xyz_mm) + 80.0)
    ]
    low = np.min([box[0] for box in boxes], axis=0) - 9.3
    high = np.max([box[1] for box in boxes], axis=0) + 9.0
    spacing = np.array([4.07283, 4.07283, 4.0])
    nx, ny, nz = (int(n) for n in np.ceil((high - low) / spacing))
    grid = Grid((nz, ny, nx), as_point(spacing), as_point(np.round(low, 3)))
    return replace(truth, pet_grid=grid, source="siemens")


def written_seg(
    truth: StudyTruth, folder: Path
) -> tuple[np.ndarray, hd.seg.Segmentation, list[str]]:
    suv = np.ones(truth.pet_grid.shape_zyx, np.float32)
    pet = write_pet(truth, suv, empty_folder(folder / "PT"))
    lesions = paint_lesions(truth, truth.pet_grid)
    path = write_seg(truth, lesions, pet, empty_folder(folder / "SEG"))
    return lesions, hd.seg.segread(path), [pydicom.dcmread(p).SOPInstanceUID for p in pet]


@pytest.mark.parametrize(("study", "each"), [("phantom-001", True), ("phantom-007", False)])
def test_seg_gives_back_every_voxel(tmp_path: Path, study: str, each: bool) -> None:
    truth = around_lesions(study)
    lesions, seg, instances = written_seg(truth, tmp_path)
    names = [
        item.segment_label for item in (seg.get_segment_description(n) for n in seg.segment_numbers)
    ]
    assert names == ([lesion.name for lesion in truth.lesions] if each else ["Lesion"])
    found = seg.get_pixels_by_source_instance(
        instances, combine_segments=False, assert_missing_frames_are_empty=True
    )
    for k in range(len(names)):
        assert (found[..., k] == (lesions == k + 1 if each else lesions > 0)).all()


def test_lesion_free_seg_is_all_zero(tmp_path: Path) -> None:
    truth = around_lesions("phantom-003")
    _, seg, instances = written_seg(truth, tmp_path)
    assert not truth.positive and len(seg.segment_numbers) == 1
    assert seg.NumberOfFrames == len(instances) and not seg.pixel_array.any()


def test_section_of_a_ball_is_a_circle() -> None:
    points = cross_section(ball((10.0, -5.0, 100.0), 13.0), 105.0)
    assert points is not None
    assert np.hypot(points[:, 0] - 10, points[:, 1] + 5) == pytest.approx(12.0)  # 5, 12, 13
    assert (points[:, 2] == 105.0).all()
    assert cross_section(ball((10.0, -5.0, 100.0), 13.0), 113.5) is None


def test_section_lies_on_the_surface_of_a_turned_ellipsoid() -> None:
    solid = Ellipsoid((3.0, -2.0, 7.0), (20.0, 12.0, 8.0), pointing((1.0, 2.0, 1.5)))
    rotation = np.reshape(solid.rotation, (3, 3))
    for z in (1.0, 7.0, 12.0):
        points = cross_section(solid, z)
        assert points is not None
        own = (points - solid.centre) @ rotation / solid.semi_axes
        assert (own**2).sum(axis=1) == pytest.approx(1.0)


def polygon_area(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


@pytest.mark.parametrize("study", ["phantom-002", "phantom-010", "phantom-014"])
def test_rtstruct_holds_the_closed_form_volumes(tmp_path: Path, study: str) -> None:
    truth = around_lesions(study)
    rt = pydicom.dcmread(write_rtstruct(truth, empty_folder(tmp_path / "RTSTRUCT")))
    names = {item.ROINumber: item.ROIName for item in rt.StructureSetROISequence}
    lesions = {lesion.name: lesion for lesion in truth.lesions}
    drawn = {}
    for roi in rt.ROIContourSequence:
        contours = [np.reshape(c.ContourData, (-1, 3)).astype(float) for c in roi.ContourSequence]
        drawn[names[roi.ReferencedROINumber]] = contours
    assert set(lesions) < set(drawn) and len(drawn) == len(lesions) + 1
    for name, lesion in lesions.items():
        volume = sum(polygon_area(points) for points in drawn[name]) * 4.0 / 1000
        axes = np.asarray(lesion.solid.semi_axes)
        least, most = (4 / 3 * np.pi * np.prod(axes + d) / 1000 for d in (-4.0, 4.0))
        assert least < volume < most
        assert volume == pytest.approx(lesion.volume_ml, rel=0.06)


def test_lesion_free_rtstruct_holds_the_distractor_only(tmp_path: Path) -> None:
    truth = around_lesions("phantom-006")
    rt = pydicom.dcmread(write_rtstruct(truth, empty_folder(tmp_path / "RTSTRUCT")))
    assert [item.ROIName for item in rt.StructureSetROISequence] == ["Liver reference"]
