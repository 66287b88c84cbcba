"""Order by position, geometry and rescale of a series whose values are known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import dicom_studies as tiny
from petct.dicom_series import (
    order_slices,
    read_headers,
    read_hounsfield,
    rescaled_slice,
    tag_name,
    text,
)
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


def test_slice_missing_at_an_end(pet: list[Path]) -> None:
    error = refused(pet[:5])
    assert "has 5 slices, expected 6 by NumberOfSlices (0054,0081)" in str(error)


def test_doubled_slice(pet: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(pet[3].read_bytes())
    error = refused([*pet, copy])
    assert "two slices at 109.00 mm" in str(error)
    assert error.source in (str(copy), str(pet[3]))


def test_uneven_spacing(pet: list[Path]) -> None:
    tiny.edit(pet[2], ImagePositionPatient=[-20.0, -15.0, 107.0])
    error = refused(pet)
    assert "unevenly spaced: the slice at 107.00 mm lies 1.00 mm off" in str(error)
    assert error.source == str(pet[2])


def test_rounded_positions_are_even_enough(pet: list[Path]) -> None:
    tiny.edit(pet[2], ImagePositionPatient=[-20.0, -15.0, 106.01])
    grid = order_slices(read_headers(pet), False).grid
    assert grid.spacing_xyz_mm[2] == 3.0


def test_sheared_stack(pet: list[Path]) -> None:
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


@pytest.mark.parametrize("kept", [0.5, 0.93, 0.999])
def test_truncated_slice(pet: list[Path], kept: float) -> None:
    content = pet[2].read_bytes()
    pet[2].write_bytes(content[: int(len(content) * kept)])
    error = refused(pet)
    assert error.source == str(pet[2])


def test_pixel_data_cut_with_a_true_length(pet: list[Path]) -> None:
    tiny.edit(pet[2], PixelData=b"\0" * 100)
    error = refused(pet)
    assert "cannot be decoded, the file may be truncated" in str(error)
    assert error.source == str(pet[2])


def test_not_dicom(pet: list[Path]) -> None:
    pet[2].write_text("These are notes, not an image.")
    assert refused(pet).source == str(pet[2])


def test_enhanced_multiframe_is_refused(pet: list[Path]) -> None:
    tiny.edit(pet[0], NumberOfFrames=5)
    assert "expected one file per slice" in str(refused(pet))


def test_colour_is_refused(pet: list[Path]) -> None:
    tiny.edit(
        pet[1],
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=b"\0" * 240,
    )
    assert "the pixel data is (8, 10, 3), expected (8, 10)" in str(refused(pet))


def test_modality_lut_is_refused(pet: list[Path]) -> None:
    tiny.edit(pet[1], ModalityLUTSequence=[pydicom.Dataset()])
    assert "ModalityLUTSequence (0028,3000)" in str(refused(pet))


@pytest.mark.parametrize(
    "syntax", [pydicom.uid.ExplicitVRBigEndian, pydicom.uid.ImplicitVRLittleEndian]
)
def test_transfer_syntaxes(pet: list[Path], syntax: pydicom.uid.UID) -> None:
    for path in pet:
        dataset = pydicom.dcmread(path)
        if syntax == pydicom.uid.ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        endian = syntax == pydicom.uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(
            path, dataset, implicit_vr=endian, little_endian=endian, enforce_file_format=True
        )
    ordered = order_slices(read_headers(pet), False).slices
    np.testing.assert_allclose(rescaled_slice(ordered[5]), tiny.STORED[5] * 1.0)


def test_files_without_prefix_and_meta_information(pet: list[Path]) -> None:
    tiny.strip_prefix(pet)  # explicit and implicit VR by turns
    ordered = order_slices(read_headers(pet), False).slices
    for z in range(6):
        expected = tiny.STORED[z] * tiny.SLOPES[z]
        np.testing.assert_allclose(rescaled_slice(ordered[z]), expected, rtol=1e-6)


def test_run_length_encoded_pixels(pet: list[Path]) -> None:
    for path in pet:
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path, enforce_file_format=True)
    ordered = order_slices(read_headers(pet), False).slices
    np.testing.assert_allclose(rescaled_slice(ordered[5]), tiny.STORED[5] * 1.0)


def test_hounsfield_units_are_clamped_to_air_and_int16(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    padding = np.full((20, 20), -32768, "<i2")
    padding[0, 0] = 32767
    tiny.edit(files[0], PixelRepresentation=1, PixelData=padding.tobytes(), RescaleIntercept=100.0)
    stack = order_slices(read_headers(files), False)
    hounsfield = read_hounsfield(stack)
    assert hounsfield.dtype == np.int16
    assert hounsfield[0, 0, 0] == 32767  # 32867 does not fit
    assert (hounsfield[0, 1:] == -1024).all()
    centres = tiny.voxel_centres(tiny.CT_SHAPE, tiny.CT_SPACING, tiny.CT_ORIGIN, tiny.AXIAL)
    np.testing.assert_array_equal(hounsfield[1:], tiny.hounsfield_at(centres[1:]))


def test_text_of_a_tag(pet: list[Path]) -> None:
    (header,) = read_headers(pet[:1])
    assert text(header, "SeriesType") == "WHOLE BODY"
    assert text(header, "Units") == "BQML"
    assert text(header, "SUVType") is None
    assert text(header, "ReferringPhysicianName") is None  # there, but empty
    drug = ("RadiopharmaceuticalInformationSequence",)
    assert text(header, "RadiopharmaceuticalStartTime", drug) == "082514.3"
    assert text(header, "CodeValue", (*drug, "RadionuclideCodeSequence")) == "C-111A1"
