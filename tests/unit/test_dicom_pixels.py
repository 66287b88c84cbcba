"""Stored pixels through every encoding that is read, and what contradicts its own tags."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import uid

import dicom_studies as tiny
import petct.dicom_series
from petct.dicom_pixels import read_hounsfield, rescaled_slice, rescaled_slices, straighten
from petct.dicom_series import order_slices, read_headers
from petct.errors import StudyError
from petct.frame_decoder import DecodingError, decode_frames

JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless)


@pytest.fixture
def pet(tmp_path: Path) -> list[Path]:
    return tiny.write_pet(tmp_path, "1.2.3")


def refused(files: list[Path]) -> StudyError:
    with pytest.raises(StudyError) as caught:
        list(rescaled_slices(order_slices(read_headers(files), single_slices=False).slices))
    return caught.value


@pytest.mark.parametrize("kept", [0.5, 0.93, 0.999])
def test_truncated_slice(pet: list[Path], kept: float) -> None:
    content = pet[2].read_bytes()
    pet[2].write_bytes(content[: int(len(content) * kept)])
    error = refused(pet)
    assert error.source == str(pet[2])


def test_pixel_data_cut_with_a_true_length(pet: list[Path]) -> None:
    tiny.edit(pet[2], PixelData=b"\0" * 100)
    error = refused(pet)
    assert "has 100 bytes, expected 160 by Rows (0028,0010)" in str(error)
    assert error.source == str(pet[2])


def test_colour_is_refused(pet: list[Path]) -> None:
    tiny.edit(
        pet[1],
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        RescaleSlope=1.0,
        PixelData=b"\0" * 240,
    )
    assert "PhotometricInterpretation (0028,0004)" in str(refused(pet))
    tiny.edit(pet[1], PhotometricInterpretation="MONOCHROME2")
    assert "SamplesPerPixel (0028,0002) of PT series" in str(refused(pet))


def test_modality_lut_is_refused(pet: list[Path]) -> None:
    tiny.edit(pet[1], ModalityLUTSequence=[pydicom.Dataset()])
    assert "ModalityLUTSequence (0028,3000)" in str(refused(pet))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian])
def test_transfer_syntaxes(pet: list[Path], syntax: uid.UID) -> None:
    for path in pet:
        dataset = pydicom.dcmread(path)
        if syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        endian = syntax == uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(
            path, dataset, implicit_vr=endian, little_endian=endian, enforce_file_format=True
        )
    ordered = order_slices(read_headers(pet), single_slices=False).slices
    np.testing.assert_allclose(rescaled_slice(ordered[5]), tiny.STORED[5] * 1.0)


def test_files_without_prefix_and_meta_information(pet: list[Path]) -> None:
    tiny.strip_prefix(pet)  # explicit and implicit VR by turns
    ordered = order_slices(read_headers(pet), single_slices=False).slices
    for z in range(6):
        expected = tiny.STORED[z] * tiny.SLOPES[z]
        np.testing.assert_allclose(rescaled_slice(ordered[z]), expected, rtol=1e-6)


def test_hounsfield_units_are_clamped_to_air_and_int16(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    padding = np.full((20, 20), -32768, "<i2")
    padding[0, 0] = 32667
    tiny.edit(files[0], PixelRepresentation=1, PixelData=padding.tobytes(), RescaleIntercept=100.0)
    stack = order_slices(read_headers(files), False)
    hounsfield = read_hounsfield(stack)
    assert hounsfield.dtype == np.int16
    assert hounsfield[0, 0, 0] == 32767
    assert (hounsfield[0, 1:] == -1024).all()
    centres = tiny.voxel_centres(tiny.CT_SHAPE, tiny.CT_SPACING, tiny.CT_ORIGIN, tiny.AXIAL)
    np.testing.assert_array_equal(hounsfield[1:], tiny.hounsfield_at(centres[1:]))


def one_slice(path: Path) -> np.ndarray:
    """The stored pixels as read: the slope is set to 1."""
    tiny.edit(path, RescaleSlope=1.0)
    return rescaled_slice(read_headers([path])[0])


def set_pixels(path: Path, pixels: np.ndarray, bits_stored: int, **tags: Any) -> None:
    bits = 8 * pixels.dtype.itemsize
    tiny.edit(
        path,
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        BitsAllocated=bits,
        BitsStored=bits_stored,
        HighBit=bits_stored - 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"),
        PixelData=pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
        **tags,
    )


def extremes(dtype: str, bits: int) -> np.ndarray:
    """16 x 14 values that reach both ends of the range."""
    low = -(2 ** (bits - 1)) if dtype.startswith("i") else 0
    return np.linspace(low, low + 2**bits - 1, 224).astype(dtype).reshape(16, 14)


def compress(path: Path, syntax: uid.UID) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    # The only predictor that the encoder knows is a case of the general process.
    written = uid.JPEGLosslessSV1 if syntax == uid.JPEGLossless else syntax
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(written))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("syntax", [*JPEG, uid.RLELossless], ids=lambda syntax: syntax.keyword)
def test_compressed_pixels(tmp_path: Path, pet: list[Path], syntax: uid.UID) -> None:
    depths = [("u2", 16), ("u2", 12), ("i2", 16), ("i2", 12), ("u1", 8)]
    expected = [extremes(dtype, bits) for dtype, bits in depths]
    for path, pixels, (_, bits) in zip(pet, expected, depths, strict=False):
        set_pixels(path, pixels, bits, RescaleSlope=1.0)
        compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    for pixels, values in zip(expected, rescaled_slices(read_headers(pet[:5])), strict=True):
        np.testing.assert_array_equal(values, pixels)


def test_slices_of_several_encodings_keep_their_order(pet: list[Path]) -> None:
    for path in pet[1::2]:
        set_pixels(path, np.resize(pydicom.dcmread(path).pixel_array, (16, 14)), 16)
        compress(path, uid.JPEGLSLossless)
    for z, values in enumerate(rescaled_slices(read_headers(pet))):
        expected = np.resize(tiny.STORED[z], (16, 14)) if z % 2 else tiny.STORED[z]
        np.testing.assert_allclose(values, expected * tiny.SLOPES[z], rtol=1e-6)


@pytest.mark.parametrize("syntax", JPEG, ids=lambda syntax: syntax.keyword)
def test_compressed_pixels_cut_or_damaged_end_nothing_but_the_study(
    pet: list[Path], syntax: uid.UID
) -> None:
    set_pixels(pet[0], extremes("u2", 12), 12)
    compress(pet[0], syntax)
    dataset = pydicom.dcmread(pet[0])
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    content = pet[0].read_bytes()
    for cut in (frame[: len(frame) // 2], b"\0\0"):
        dataset.PixelData = pydicom.encaps.encapsulate([cut])
        dataset.save_as(pet[0], enforce_file_format=True)
        assert "cannot be decoded" in str(refused_slice(pet[0]))
    pet[0].write_bytes(content[:-60])
    assert "cannot be decoded" in str(refused_slice(pet[0]))


def refused_slice(path: Path) -> StudyError:
    with pytest.raises(StudyError) as caught:
        rescaled_slice(read_headers([path])[0])
    assert caught.value.source == str(path)
    return caught.value


def test_a_decoder_that_dies_or_hangs_is_said(pet: list[Path]) -> None:
    # A sample size of 255 bits: the library ends its process.
    set_pixels(pet[0], extremes("u2", 16), 16)
    compress(pet[0], uid.JPEGLSLossless)
    dataset = pydicom.dcmread(pet[0])
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    assert frame[2:7] == bytes([0xFF, 0xF7, 0, 11, 16])
    dataset.PixelData = pydicom.encaps.encapsulate([frame[:6] + b"\xff" + frame[7:]])
    dataset.save_as(pet[0], enforce_file_format=True)
    assert "cannot be decoded" in str(refused_slice(pet[0]))
    with pytest.raises(DecodingError, match="died or took longer than 0 s"):
        list(decode_frames([str(pet[0])], limit_s=0.0))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.3.10", "garbage", "1.2.840.113619.5.2"])
def test_unknown_transfer_syntax(pet: list[Path], syntax: str) -> None:
    content = pet[0].read_bytes()
    known = b"1.2.840.10008.1.2.1\0"
    assert content.count(known) == 1
    padded = syntax.encode().ljust(20, b"\0")
    pet[0].write_bytes(content.replace(known, padded))
    assert "TransferSyntaxUID (0002,0010) of PT series" in str(refused_slice(pet[0]))


def test_what_the_library_says_of_a_file_is_not_printed(pet: list[Path]) -> None:
    compress(pet[0], uid.RLELossless)
    pet[0].write_bytes(pet[0].read_bytes()[:-60])
    code = "import sys; from pathlib import Path; from petct.dicom_series import read_headers; "
    code += "from petct.dicom_pixels import rescaled_slice; "
    code += "rescaled_slice(read_headers([Path(sys.argv[1])])[0])"
    paths = {"PYTHONPATH": str(Path(petct.dicom_series.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(pet[0])],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "petct.errors.StudyError" in done.stderr
    assert "Warning" not in done.stderr
    assert "End of file reached" not in done.stderr


@pytest.mark.parametrize("rows", [7, 9])
def test_rows_that_do_not_fit_the_pixels(pet: list[Path], rows: int) -> None:
    tiny.edit(pet, Rows=rows)
    expected = f"PixelData (7FE0,0010) of PT series {pydicom.dcmread(pet[0]).SeriesInstanceUID}"
    error = refused(pet)
    assert f"{expected} has 160 bytes, expected {rows * 20} by Rows (0028,0010)" in str(error)


def test_deflated_file(pet: list[Path]) -> None:
    dataset = pydicom.dcmread(pet[5])
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(pet[5], enforce_file_format=True)
    np.testing.assert_array_equal(one_slice(pet[5]), tiny.STORED[5])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
def test_native_pixels(pet: list[Path], dtype: str, big: bool) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    expected = extremes(dtype, min(bits, 30))
    set_pixels(pet[0], expected, min(bits, 30), RescaleSlope=1.0)
    if big:
        dataset = pydicom.dcmread(pet[0])
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
        dataset.PixelData = expected.astype(f">{dtype}").tobytes()
        if bits == 8:  # bytes are OW here, and swapped in pairs
            dataset.PixelData = expected.view("u2").byteswap().tobytes()
            dataset["PixelData"].VR = "OW"
        pydicom.dcmwrite(
            pet[0], dataset, implicit_vr=False, little_endian=False, enforce_file_format=True
        )
    np.testing.assert_array_equal(rescaled_slice(read_headers(pet[:1])[0]), expected)


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels(pet: list[Path], keyword: str) -> None:
    values = np.linspace(-1.5, 2.5e5, 80, dtype="<f4" if keyword[0] == "F" else "<f8")
    content: dict[str, Any] = {keyword: values.tobytes()}
    tiny.edit(
        pet[0],
        PixelData=None,
        BitsAllocated=8 * values.dtype.itemsize,
        BitsStored=None,
        HighBit=None,
        PixelRepresentation=None,
        RescaleSlope=2.0,
        **content,
    )
    read = rescaled_slice(read_headers(pet[:1])[0])
    np.testing.assert_array_equal(read, 2.0 * values.reshape(8, 10).astype(float))


def test_monochrome1_and_other_colours(pet: list[Path]) -> None:
    tiny.edit(pet, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(one_slice(pet[5]), tiny.STORED[5])
    for tags in (
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": None},
    ):
        tiny.edit(pet[5], **tags)
        assert "PhotometricInterpretation (0028,0004)" in str(refused_slice(pet[5]))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"RescaleSlope": 0.0}, "RescaleSlope (0028,1053) of PT series {} is 0, expected more"),
        ({"RescaleSlope": -2.0}, "RescaleSlope (0028,1053) of PT series {} is -2, expected more"),
        (
            {"RescaleIntercept": 5.0},
            "RescaleIntercept (0028,1052) of PT series {} is 5, expected 0",
        ),
        ({"HighBit": 11}, "and HighBit (0028,0102) of PT series {} are 16, 16 and 11, expected"),
        (
            {"BitsStored": 17},
            "BitsStored (0028,0101) and HighBit (0028,0102) of PT series {} are 16",
        ),
        ({"BitsAllocated": 12}, "BitsAllocated (0028,0100), BitsStored (0028,0101) and HighBit"),
        ({"BitsStored": None}, "BitsStored (0028,0101) of PT series {} is missing"),
        (
            {"PixelRepresentation": None},
            "PixelRepresentation (0028,0103) of PT series {} is missing",
        ),
        ({"PixelRepresentation": 2}, "PixelRepresentation (0028,0103) of PT series {} is 2"),
        ({"BitsStored": 12, "HighBit": 11}, "values from 16000 to 19160, expected 0 to 4095"),
    ],
)
def test_contradictions_are_refused(pet: list[Path], tags: dict[str, Any], reason: str) -> None:
    tiny.edit(pet[5], **tags)
    series = pydicom.dcmread(pet[5]).SeriesInstanceUID
    assert reason.format(series) in str(refused_slice(pet[5]))


def test_energy_maps_are_not_ct_numbers(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    tiny.edit(files[0], RescaleType="Z_EFF")
    assert "RescaleType (0028,1054) of CT series" in str(refused_slice(files[0]))
    tiny.edit(files[0], RescaleType="HU", RescaleSlope=2.0, RescaleIntercept=-3.0)
    rescaled_slice(read_headers(files[:1])[0])


def test_bits_above_the_stored_ones(pet: list[Path]) -> None:
    values = extremes("u2", 12)
    overlaid = values | (np.arange(224).reshape(16, 14) % 2 << 15).astype("u2")
    set_pixels(pet[0], overlaid, 12)
    assert "by BitsStored (0028,0101) and PixelRepresentation" in str(refused_slice(pet[0]))

    def overlay(dataset: tiny.Dataset) -> None:
        dataset.add_new((0x6000, 0x0102), "US", 15)

    tiny.edit(pet[0], overlay)
    np.testing.assert_array_equal(one_slice(pet[0]), values)


def test_a_sign_that_was_not_extended(pet: list[Path]) -> None:
    values = extremes("i2", 12)
    set_pixels(pet[0], (values & 0x0FFF).astype("i2"), 12)
    np.testing.assert_array_equal(one_slice(pet[0]), values)
    mixed = values.copy()
    mixed[0, 0], mixed[0, 1] = -5, 3000  # some sign is extended, so 3000 needs 13 bits
    set_pixels(pet[0], mixed, 12)
    assert "from -2011 to 3000" in str(refused_slice(pet[0]))


@pytest.mark.parametrize(
    ("padding", "stored"),
    [
        ({"PixelPaddingValue": 3}, [3]),
        ({"PixelPaddingValue": 3, "PixelPaddingRangeLimit": 7}, [3, 5, 7]),
        ({"PixelPaddingValue": 7, "PixelPaddingRangeLimit": 3}, [3, 5, 7]),
    ],
)
def test_padding_is_air(tmp_path: Path, padding: dict[str, int], stored: list[int]) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    pixels = np.full((20, 20), 1100, "u2")
    pixels[0, : len(stored)] = stored
    pixels[1, 0] = 8
    set_pixels(files[0], pixels, 16, RescaleIntercept=0.0)

    def pad(dataset: tiny.Dataset) -> None:
        for keyword, value in padding.items():
            dataset.add_new(keyword, "US", value)

    tiny.edit(files[0], pad)
    hounsfield = read_hounsfield(order_slices(read_headers(files), False))[0]
    assert (hounsfield[0, : len(stored)] == -1024).all()
    assert hounsfield[1, 0] == 8
    assert (hounsfield == -1024).sum() == len(stored)


def test_padding_beyond_the_stored_bits_and_of_the_other_sign(tmp_path: Path) -> None:
    files = tiny.write_ct(tmp_path, "1.2.3")
    pixels = np.full((20, 20), 50, "i2")
    pixels[0, 0] = -2000
    set_pixels(files[0], pixels, 11, RescaleIntercept=0.0)
    assert "by BitsStored" in str(refused_slice(files[0]))
    tiny.edit(files[0], lambda dataset: dataset.add_new("PixelPaddingValue", "US", 65536 - 2000))
    hounsfield = read_hounsfield(order_slices(read_headers(files), False))[0]
    assert hounsfield[0, 0] == -1024
    assert (hounsfield == 50).sum() == 399


def test_padding_of_pet_is_zero(pet: list[Path]) -> None:
    tiny.edit(
        pet[5], lambda dataset: dataset.add_new("PixelPaddingValue", "US", 16040)
    )  # the second stored value
    values = one_slice(pet[5])
    assert values[0, 1] == 0.0
    assert values[0, 0] == 16000.0


def test_ct_numbers_that_no_scanner_writes(tmp_path: Path) -> None:
    # Signed pixels taken as unsigned: -1000 reads as 64536.
    files = tiny.write_ct(tmp_path, "1.2.3")
    set_pixels(files[0], np.full((20, 20), -1000, "i2"), 16, RescaleIntercept=0.0)
    tiny.edit(files[0], PixelRepresentation=0)
    with pytest.raises(StudyError, match="has a CT number of 64536, expected at most 32767"):
        read_hounsfield(order_slices(read_headers(files), False))


def test_straighten_moves_between_pixels() -> None:
    ramp = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(straighten(ramp, (0.0, 0.0), (3, 4)), ramp)
    moved = straighten(ramp, (1.0, 0.25), (4, 5))
    assert (moved[0] == -1024).all()
    np.testing.assert_allclose(moved[1:, 1:4], ramp[:, :3] + 0.75)
    assert (moved[:, 0] == -1024).all() and (moved[:, 4] == -1024).all()
    one_row = straighten(np.array([[1.0, 3.0]]), (0.0, 0.5), (1, 3))
    np.testing.assert_array_equal(one_row, [[-1024.0, 2.0, -1024.0]])
