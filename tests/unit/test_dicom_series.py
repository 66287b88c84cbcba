"""Order by position, geometry and rescale of a series whose values are known in closed form."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import dicom_studies as tiny
from petct.dicom_pixels import read_hounsfield, rescaled_slice
from petct.dicom_series import order_slices, read_headers, tag_name, text
from petct.errors import StudyError

# Rows: the x, y and slice axes. Feet first and prone, then turned about two axes.
FLIPPED = np.diag([-1.0, 1.0, -1.0])
OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.36, -0.48, 0.8], [0.48, -0.64, -0.6]])


@pytest.fixture
def pet(tmp_path: Path) -> list[Path]:
    return tiny.write_pet(tmp_path, "1.2.3")


def refused(files: list[Path]) -> StudyError:
    with pytest.raises(StudyError) as caught:
        ordered = order_slices(read_headers(files), False).slices
        for header in ordered:
            rescaled_slice(header)
    return caught.value


def test_tag_name_has_the_number() -> None:
    assert tag_name("PatientWeight") == "PatientWeight (0010,1030)"


@pytest.mark.parametrize(
    "axes", [tiny.AXIAL, FLIPPED, OBLIQUE], ids=["axial", "flipped", "oblique"]
)
def test_slices_are_ordered_by_position_and_rescaled_each_by_its_own_slope(
    tmp_path: Path, axes: np.ndarray
) -> None:
    files = tiny.write_pet(tmp_path, "1.2.3", axes=axes)
    stack = order_slices(read_headers(sorted(files)), False)
    ordered, grid = stack.slices, stack.grid
    values = np.stack([rescaled_slice(header) for header in ordered])
    np.testing.assert_allclose(values, tiny.STORED * tiny.SLOPES[:, None, None], rtol=1e-6)
    assert grid.shape_zyx == tiny.PET_SHAPE
    np.testing.assert_allclose(grid.spacing_zyx_mm, tiny.PET_SPACING)
    np.testing.assert_allclose(grid.origin_xyz_mm, tiny.PET_ORIGIN)
    np.testing.assert_allclose(np.reshape(grid.direction, (3, 3)), axes.T, atol=1e-9)
    last = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, axes)[-1, -1, -1]
    np.testing.assert_allclose(grid.locate_index((5, 7, 9)), last, atol=1e-6)


def test_a_series_against_its_normal_is_turned_to_ascend_along_it(pet: list[Path]) -> None:
    # The normal of an axial slice points to the head; give the slices descending positions.
    for z, path in enumerate(pet):
        position = tiny.PET_ORIGIN - [0, 0, 3.0 * z]
        tiny.edit(path, ImagePositionPatient=position.tolist())
    stack = order_slices(read_headers(pet), False)
    ordered, grid = stack.slices, stack.grid
    assert grid.origin_xyz_mm[2] == 100.0 - 15.0
    np.testing.assert_allclose(rescaled_slice(ordered[-1]), tiny.STORED[0] * 0.5)


def test_missing_slice(pet: list[Path]) -> None:
    error = refused([*pet[:2], *pet[4:]])
    assert "lacks 2 slice(s)" in str(error)
    assert "gap of 9.00 mm, expected 3.00 mm" in str(error)
    assert "instances 5 and 2" in str(error)
    assert error.source == str(pet[1])


def test_instance_numbers_that_are_none_serve_messages_alone(pet: list[Path]) -> None:
    for path in pet:
        content = path.read_bytes()
        at = content.index(b"\x20\0\x13\0IS") + 8
        assert content[at + 1 : at + 2] == b" "
        path.write_bytes(content[: at - 2] + b"\x06\x001e999 " + content[at + 2 :])
    assert len(order_slices(read_headers(pet), False).slices) == 6
    pet[2].unlink()
    assert "(instances ? and ?)" in str(refused([*pet[:2], *pet[3:]]))


def test_slice_missing_at_an_end(pet: list[Path]) -> None:
    error = refused(pet[:5])
    assert "has 5 slices, expected 6 by NumberOfSlices (0054,0081)" in str(error)


def copy_of(path: Path, **tags: Any) -> Path:
    copy = path.with_name(path.name + "-copy")
    copy.write_bytes(path.read_bytes())
    if tags:
        tiny.edit(copy, **tags)
    return copy


@pytest.mark.parametrize("tags", [{}, {"SOPInstanceUID": "1.2.9", "InstanceNumber": 77}])
def test_copies_of_slices_count_once(pet: list[Path], tags: dict[str, Any]) -> None:
    copies = [copy_of(pet[0], **tags), copy_of(pet[3], **tags)]
    stack = order_slices(read_headers([*copies, *pet]), False)
    values = np.stack([rescaled_slice(header) for header in stack.slices])
    np.testing.assert_allclose(values, tiny.STORED * tiny.SLOPES[:, None, None], rtol=1e-6)
    (warning,) = stack.warnings
    assert re.fullmatch(r"2 file\(s\) of PT series [0-9.]+ are copies of other slices", warning)


def test_copies_do_not_stand_in_for_missing_slices(pet: list[Path]) -> None:
    error = refused([*pet[:5], copy_of(pet[0])])
    assert "has 5 slices, expected 6 by NumberOfSlices (0054,0081)" in str(error)
    assert "one slice, expected a volume" in str(refused([pet[0], copy_of(pet[0])]))


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelData": b"\0" * 160},
        {"RescaleSlope": 0.7},
        {"RescaleIntercept": 1.0},
        {"AcquisitionTime": "111111"},
        {"BitsStored": 15, "HighBit": 14},
        {"ImagePositionPatient": [-20.0, -14.0, 109.0]},
    ],
    ids=lambda tags: next(iter(tags)),
)
def test_two_different_slices_at_one_position(pet: list[Path], tags: dict[str, Any]) -> None:
    copy = copy_of(pet[3], **tags)
    error = refused([*pet, copy])
    assert "two different slices at 109.00 mm" in str(error)
    assert "0.00 mm apart; dynamic or gated, or two reconstructions in one series" in str(error)
    assert error.source in (str(copy), str(pet[3]))


def test_doubled_slice_without_pixels_is_a_truncated_file(pet: list[Path]) -> None:
    copy = copy_of(pet[3])
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) - 100])
    error = refused([*pet, copy])
    assert "cannot be read, the file may be truncated" in str(error)
    assert error.source == str(copy)


@pytest.mark.parametrize(
    ("keyword", "number"),
    [
        ("NumberOfTimeSlices", "(0054,0101)"),
        ("NumberOfTimeSlots", "(0054,0071)"),
        ("NumberOfRRIntervals", "(0054,0061)"),
    ],
)
def test_dynamic_and_gated_series(pet: list[Path], keyword: str, number: str) -> None:
    one: dict[str, Any] = {keyword: 1}
    four: dict[str, Any] = {keyword: 4}
    tiny.edit(pet, **one)
    order_slices(read_headers(pet), False)
    tiny.edit(pet[2], **four)
    error = refused(pet)
    assert str(error).startswith(f"{keyword} {number} of PT series")
    assert "is 4: dynamic or gated, expected a static scan" in str(error)
    assert error.source == str(pet[2])


def add_view(source: Path, name: str, **tags: Any) -> Path:
    view = source.with_name(name)
    view.write_bytes(source.read_bytes())
    tiny.edit(view, **tags)
    return view


SAGITTAL = [0, 1, 0, 0, 0, -1]


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": SAGITTAL},
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"], "ImagePositionPatient": None},
        {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]},
        {"ImageType": ["DERIVED", "SECONDARY"], "Rows": 4, "Columns": 20},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "ImageOrientationPatient": None},
        {"SOPClassUID": pydicom.uid.SecondaryCaptureImageStorage, "PixelSpacing": [1.0, 1.0]},
    ],
    ids=["localizer", "mip", "projection", "other size", "screen save", "secondary capture"],
)
def test_views_among_the_slices_are_left_out(pet: list[Path], tags: dict[str, Any]) -> None:
    view = add_view(pet[3], "view", **tags)
    stack = order_slices(read_headers([view, *pet]), False)
    assert stack.grid.shape_zyx == tiny.PET_SHAPE
    assert str(view) not in [header.filename for header in stack.slices]
    (warning,) = stack.warnings
    assert warning.startswith("1 image(s) of PT series")
    assert "by their ImageType (0008,0008)" in warning


def test_derived_slices_of_the_same_plane_are_slices(pet: list[Path]) -> None:
    tiny.edit(pet[2:4], ImageType=["DERIVED", "SECONDARY"])
    assert order_slices(read_headers(pet), False).warnings == ()
    tiny.edit(pet[3], Rows=4, Columns=20)  # not all alike: nobody can tell
    assert "pixels" in str(refused(pet))
    tiny.edit(pet, ImageType=["DERIVED", "SECONDARY", "MIP"])  # a whole series of slabs
    tiny.edit(pet[3], Rows=8, Columns=10)
    assert order_slices(read_headers(pet), False).grid.shape_zyx == tiny.PET_SHAPE


def pad(dataset: tiny.Dataset, value: int, limit: int | None = None) -> None:
    dataset.add_new("PixelPaddingValue", "US", value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "US", limit)


def test_pixel_padding_among_tissue_is_said(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    for padding, told in ((0, False), (1024, True), (1024 + 4000, False)):
        tiny.edit(files, partial(pad, value=padding))
        warnings = order_slices(read_headers(files), False).warnings
        assert bool(warnings) == told
    tiny.edit(files, partial(pad, value=0, limit=1024))
    assert "stands for -1024 HU" in order_slices(read_headers(files), False).warnings[0]


def test_lossy_compression_is_said(pet: list[Path]) -> None:
    tiny.edit(pet[:2], LossyImageCompression="01")
    tiny.edit(pet[2:], LossyImageCompression="00")
    (warning,) = order_slices(read_headers(pet), False).warnings
    assert warning.startswith("2 slice(s) of PT series")
    assert "LossyImageCompression (0028,2110)" in warning


def test_uneven_spacing(pet: list[Path]) -> None:
    tiny.edit(pet[2], ImagePositionPatient=[-20.0, -15.0, 107.0])
    error = refused(pet)
    assert "unevenly spaced: the slice at 107.00 mm lies 1.00 mm off" in str(error)
    assert error.source == str(pet[2])


def test_rounded_positions_are_even_enough(pet: list[Path]) -> None:
    tiny.edit(pet[2], ImagePositionPatient=[-20.0, -15.0, 106.01])
    grid = order_slices(read_headers(pet), False).grid
    assert grid.spacing_xyz_mm[2] == 3.0


def test_descending_left_handed_stack(tmp_path: Path) -> None:
    # Rows run to the left hand, so that the normal points to the feet.
    files = tiny.write_pet(tmp_path, "1.2.3", axes=np.diag([-1.0, 1.0, -1.0]))
    for z, path in enumerate(files):  # against the normal, file by file
        tiny.edit(path, ImagePositionPatient=[20.0, -15.0, 100.0 + 3.0 * z])
    stack = order_slices(read_headers(files), False)
    assert stack.grid.origin_xyz_mm == (20.0, -15.0, 115.0)
    assert np.linalg.det(np.reshape(stack.grid.direction, (3, 3))) == pytest.approx(1.0)
    np.testing.assert_allclose(rescaled_slice(stack.slices[0]), tiny.STORED[5] * 1.0)


def tilt(files: list[Path], per_slice: tuple[float, float], shape: tuple[int, int]) -> None:
    """Move each CT slice sideways in its plane by (x, y) mm more than the one before.

    The CT numbers are those of the new places, rounded to whole numbers where they must be.
    """
    for z, path in enumerate(files):
        origin = tiny.CT_ORIGIN + np.array([per_slice[0] * z, per_slice[1] * z, 2.0 * z])
        y, x = np.meshgrid(np.arange(shape[0]) * 3.0, np.arange(shape[1]) * 3.0, indexing="ij")
        centres = origin + np.stack([x, y, np.zeros_like(x)], axis=-1)
        stored = np.rint((tiny.hounsfield_at(centres) + 1024) * 4).astype("<u2")
        tiny.edit(
            path,
            ImagePositionPatient=origin.tolist(),
            RescaleSlope=0.25,
            PixelData=stored.tobytes(),
        )


@pytest.mark.parametrize("per_slice", [(0.0, 0.5), (-0.75, 0.25), (0.25, -1.0)])
def test_tilted_gantry_is_straightened(tmp_path: Path, per_slice: tuple[float, float]) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    tilt(files, per_slice, (20, 20))
    stack = order_slices(read_headers(files), False)
    (warning,) = stack.warnings
    angle = np.degrees(np.arctan(np.hypot(*per_slice) / 2.0))
    assert f"tilted by {angle:.1f} degrees" in warning

    widened = np.ceil(np.abs(np.array(per_slice)) * 11 / 3.0 - 1e-6).astype(int)
    assert stack.grid.shape_zyx == (12, 20 + widened[1], 20 + widened[0])
    np.testing.assert_allclose(stack.grid.spacing_zyx_mm, tiny.CT_SPACING)
    hounsfield = read_hounsfield(stack)
    z, y, x = np.meshgrid(*(np.arange(n) for n in stack.grid.shape_zyx), indexing="ij")
    centres = np.stack([x * 3.0, y * 3.0, z * 2.0], axis=-1) + stack.grid.origin_xyz_mm
    first = tiny.CT_ORIGIN + np.stack([z * per_slice[0], z * per_slice[1], z * 2.0], axis=-1)
    within = (centres >= first - 1e-6) & (centres <= first + [57.0, 57.0, 0.0] + 1e-6)
    inside = np.all(within[..., :2], axis=-1)
    np.testing.assert_allclose(hounsfield[inside], tiny.hounsfield_at(centres)[inside], atol=0.51)
    assert (hounsfield[~inside] == -1024).all()
    assert inside.sum(axis=(1, 2)).min() >= 19 * 19  # a slice between pixels loses one at most


def test_bent_and_steep_stacks_stay_refused(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    for z, path in enumerate(files):
        tiny.edit(path, ImagePositionPatient=[-27.0, -19.0 + 0.1 * z**2, 98.0 + 2.0 * z])
    assert "shifted sideways by 12.10 mm" in str(refused(files))
    for z, path in enumerate(files):
        tiny.edit(path, ImagePositionPatient=[-27.0, -19.0 + 2.1 * z, 98.0 + 2.0 * z])
    assert "tilted gantry?" in str(refused(files))


def test_sheared_pet(pet: list[Path]) -> None:
    for z, path in enumerate(pet):
        tiny.edit(path, ImagePositionPatient=[-20.0, -15.0 + 0.5 * z, 100.0 + 3.0 * z])
    assert "tilted gantry" in str(refused(pet))


def test_mixed_orientations(pet: list[Path]) -> None:
    tiny.edit(pet[4], ImageOrientationPatient=[1, 0, 0, 0, 0, 1])
    error = refused(pet)
    assert "several orientations" in str(error)
    assert error.source == str(pet[4])


def test_axes_that_are_not_perpendicular(pet: list[Path]) -> None:
    tiny.edit(pet, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    assert "expected two perpendicular unit vectors" in str(refused(pet))


def test_mixed_sizes_and_spacings(pet: list[Path]) -> None:
    tiny.edit(pet[4], PixelSpacing=[5.0, 4.5])
    assert "several pixel spacings" in str(refused(pet))
    tiny.edit(pet[4], PixelSpacing=[5.0, 4.0], Rows=7)
    assert "(7.0, 10.0) and (8.0, 10.0) pixels" in str(refused(pet))


def test_single_slice(pet: list[Path]) -> None:
    assert "one slice, expected a volume" in str(refused(pet[:1]))
    stack = order_slices(read_headers(pet[:1]), single_slices=True)
    assert stack.grid.shape_zyx == (1, 8, 10)
    assert stack.grid.spacing_xyz_mm == (4.0, 5.0, 3.0)  # the last is SliceThickness
    assert stack.grid.origin_xyz_mm == tuple(tiny.PET_ORIGIN)
    tiny.edit(pet[0], SliceThickness=0.0)
    with pytest.raises(StudyError, match=r"SliceThickness \(0018,0050\) .* is 0, expected more"):
        order_slices(read_headers(pet[:1]), single_slices=True)
    tiny.edit(pet[0], SliceThickness=None)
    with pytest.raises(StudyError, match=r"SliceThickness \(0018,0050\) .* is missing"):
        order_slices(read_headers(pet[:1]), single_slices=True)


@pytest.mark.parametrize(
    ("keyword", "number"),
    [
        ("ImagePositionPatient", "(0020,0032)"),
        ("ImageOrientationPatient", "(0020,0037)"),
        ("PixelSpacing", "(0028,0030)"),
        ("RescaleSlope", "(0028,1053)"),
        ("RescaleIntercept", "(0028,1052)"),
    ],
)
def test_missing_tag_is_named_with_its_file(pet: list[Path], keyword: str, number: str) -> None:
    tiny.edit(pet[3], **{keyword: None})
    error = refused(pet)
    assert f"{keyword} {number}" in str(error)
    assert "is missing" in str(error)
    assert error.source == str(pet[3])


def test_text_where_a_number_belongs(pet: list[Path]) -> None:
    content = pet[3].read_bytes()
    pet[3].write_bytes(content.replace(b"DS\x04\x000.8 ", b"DS\x04\x00oops"))
    error = refused(pet)
    assert "RescaleSlope (0028,1053)" in str(error)
    assert "expected a number" in str(error)


def test_not_dicom(pet: list[Path]) -> None:
    pet[2].write_text("These are notes, not an image.")
    assert refused(pet).source == str(pet[2])


def test_enhanced_multiframe_is_refused(pet: list[Path]) -> None:
    tiny.edit(pet[0], NumberOfFrames=5)
    assert "expected one file per slice" in str(refused(pet))


def test_text_of_a_tag(pet: list[Path]) -> None:
    (header,) = read_headers(pet[:1])
    assert text(header, "SeriesType") == "WHOLE BODY"
    assert text(header, "Units") == "BQML"
    assert text(header, "SUVType") is None
    assert text(header, "ReferringPhysicianName") is None  # there, but empty
    drug = ("RadiopharmaceuticalInformationSequence",)
    assert text(header, "RadiopharmaceuticalStartTime", drug) == "082514.3"
    assert text(header, "CodeValue", (*drug, "RadionuclideCodeSequence")) == "C-111A1"


def test_what_the_parser_complains_of_reaches_no_log(tmp_path: Path) -> None:
    """Its warnings name the file, and so perhaps a patient."""
    (file, *_) = tiny.write_pet(tmp_path, "1.2.3")
    tiny.edit(file, lambda dataset: dataset.compress(pydicom.uid.RLELossless))
    file.write_bytes(file.read_bytes()[:-8])  # without the end of its pixels
    for imports, silent in (("pydicom", False), ("petct.dicom_series, pydicom", True)):
        program = f"import {imports}; pydicom.dcmread({str(file)!r})"
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )
        assert (str(file) not in done.stderr) is silent
