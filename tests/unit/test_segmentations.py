"""Segmentations of every kind and from another writer, frame by frame; and damaged ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels import pack_bits

import dicom_studies as tiny
from petct.dicom_series import order_slices, read_headers
from petct.errors import StudyError
from petct.grids import Grid
from petct.labels import Label, read_seg

PATTERN = "lesion|gtv"
FLIPPED = np.diag([-1.0, 1.0, -1.0])
OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.36, -0.48, 0.8], [0.48, -0.64, -0.6]])
SAGITTAL = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
PET_GRID = Grid(tiny.PET_SHAPE, (4.0, 5.0, 3.0), (-20.0, -15.0, 100.0))
FRAMES = "PerFrameFunctionalGroupsSequence"
DCMQI = shutil.which("itkimage2segimage", path=Path(sys.executable).parent)


@pytest.fixture
def pet(tmp_path: Path) -> list[Path]:
    return tiny.write_pet(tmp_path, "1.2.3")


@pytest.fixture
def seg(tmp_path: Path, pet: list[Path]) -> Path:
    """The lesion, 9 voxels in each of two frames: of slice 3, then of slice 2."""
    return tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})


def read(file: Path) -> Label:
    return read_seg(file, PATTERN, PET_GRID)


def rewrite(file: Path, slices: list[int]) -> None:
    """Leave only the frames of some slices of a whole SEG, which begins with the last slice."""
    keep = [5 - z for z in slices]

    def change(dataset: pydicom.Dataset) -> None:
        frames = dataset.pixel_array.reshape(-1, 8, 10)[keep]
        dataset.PixelData = pack_bits(frames.astype(np.uint8))
        dataset[FRAMES].value = [dataset[FRAMES].value[i] for i in keep]
        dataset.NumberOfFrames = len(keep)

    tiny.edit(file, change)


def shared(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return dataset.SharedFunctionalGroupsSequence[0]


@pytest.mark.parametrize("axes", [FLIPPED, OBLIQUE, SAGITTAL], ids=["flipped", "oblique", "sag"])
def test_frames_are_placed_voxel_for_voxel(tmp_path: Path, axes: np.ndarray) -> None:
    pet = tiny.write_pet(tmp_path, "1.2.3", axes=axes)
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": tiny.lesion_mask()})
    grid = order_slices(read_headers(pet), False).grid
    label = read_seg(file, PATTERN, grid)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.warnings == ()


def test_order_of_frames_and_missing_ones_do_not_matter(tmp_path: Path, pet: list[Path]) -> None:
    full = {"Lesion": np.ones(tiny.PET_SHAPE, np.uint8)}
    for keep in ([4, 0, 5, 1, 3, 2], [5, 0], [3], [1, 4]):
        file = tiny.write_seg(tmp_path / "seg", pet, full)
        rewrite(file, keep)
        expected = np.zeros(tiny.PET_SHAPE, np.uint8)
        expected[keep] = 1
        label = read(file)
        np.testing.assert_array_equal(label.mask, expected)
        assert label.warnings == ()


@pytest.mark.parametrize("keep", [[5, 0], [3], [0, 1, 2, 3, 4, 5]])
def test_distance_of_planes_that_is_not_stated(
    tmp_path: Path, pet: list[Path], keep: list[int]
) -> None:
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": np.ones(tiny.PET_SHAPE, np.uint8)})
    rewrite(file, keep)

    def thin(dataset: pydicom.Dataset) -> None:
        del shared(dataset).PixelMeasuresSequence[0].SpacingBetweenSlices

    tiny.edit(file, thin)
    expected = np.zeros(tiny.PET_SHAPE, np.uint8)
    expected[keep] = 1
    np.testing.assert_array_equal(read(file).mask, expected)

    def thinner(dataset: pydicom.Dataset) -> None:
        shared(dataset).PixelMeasuresSequence[0].SliceThickness = 1.5  # gaps between the slices

    if len(keep) == 6:
        tiny.edit(file, thinner)
        np.testing.assert_array_equal(read(file).mask, expected)

    def unknown(dataset: pydicom.Dataset) -> None:
        del shared(dataset).PixelMeasuresSequence[0].SliceThickness

    if keep != [5, 0]:
        tiny.edit(file, unknown)
        np.testing.assert_array_equal(read(file).mask, expected)


def test_planes_further_apart_than_the_slices_fill_the_space_between(
    tmp_path: Path, pet: list[Path]
) -> None:
    # Every second plane of the PET at twice its distance: 3 planes of 6 mm.
    file = tiny.write_seg(tmp_path / "seg", pet, {"Lesion": np.ones(tiny.PET_SHAPE, np.uint8)})
    rewrite(file, [1, 3, 5])

    def coarse(dataset: pydicom.Dataset) -> None:
        shared(dataset).PixelMeasuresSequence[0].SpacingBetweenSlices = 6.0

    tiny.edit(file, coarse)
    label = read(file)
    assert label.mask.all()
    assert "segment 1 has another grid than the PET: resampled, 28.80 mL" in label.warnings[0]


def test_file_without_prefix_and_meta_information(seg: Path) -> None:
    for implicit in (False, True):
        dataset = pydicom.dcmread(seg, force=True)
        if "TransferSyntaxUID" in dataset.file_meta:
            del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(seg, dataset, implicit_vr=implicit, little_endian=True)
        assert seg.read_bytes()[128:132] != b"DICM"
        np.testing.assert_array_equal(read(seg).mask, tiny.lesion_mask())


def test_no_frames_at_all_is_negative(seg: Path) -> None:
    def empty(dataset: pydicom.Dataset) -> None:
        dataset.NumberOfFrames = 0
        dataset[FRAMES].value = []
        dataset.PixelData = b""

    tiny.edit(seg, empty)
    label = read(seg)
    assert not label.mask.any()
    assert label.warnings == ("the SEG has no frames: taken as free of lesions",)
    assert label.names == ("lesion",)


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless", "JPEGLSLossless"])
def test_label_maps_and_fractions(tmp_path: Path, pet: list[Path], kind: str, syntax: str) -> None:
    liver = np.zeros(tiny.PET_SHAPE, np.uint8)
    liver[0, 0] = 1
    binary = hd.seg.segread(
        tiny.write_seg(tmp_path / "b", pet, {"Liver": liver, "Lesion": tiny.lesion_mask()})
    )
    pixels = np.stack([liver, tiny.lesion_mask()], axis=-1)
    written = hd.seg.Segmentation(
        source_images=[pydicom.dcmread(path) for path in pet],
        pixel_array=pixels * 0.5 if kind == "FRACTIONAL" else pixels,
        segmentation_type=kind,
        segment_descriptions=list(binary.SegmentSequence),
        series_instance_uid="1.2.4",
        series_number=9,
        sop_instance_uid="1.2.4.1",
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=200,
    )
    if syntax != "ExplicitVRLittleEndian":
        written.compress(getattr(pydicom.uid, syntax))
    written.save_as(tmp_path / "seg")
    label = read(tmp_path / "seg")
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.names == ("lesion",)
    both = read_seg(tmp_path / "seg", "liver|lesion", PET_GRID)
    np.testing.assert_array_equal(both.mask, pixels.max(axis=-1))

    def undescribed(dataset: pydicom.Dataset) -> None:
        dataset["SegmentSequence"].value = dataset.SegmentSequence[-1:]

    if kind == "LABELMAP":
        tiny.edit(tmp_path / "seg", undescribed)
        with pytest.raises(StudyError, match=r"segment number\(s\) \[1\], which SegmentSequence"):
            read(tmp_path / "seg")


Change = Callable[[pydicom.Dataset], None]


def frame(dataset: pydicom.Dataset, i: int) -> pydicom.Dataset:
    return dataset[FRAMES].value[i]


def unknown_segment(dataset: pydicom.Dataset) -> None:
    shared(dataset).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7


def fewer_frames(dataset: pydicom.Dataset) -> None:
    dataset.NumberOfFrames = 1


def no_count(dataset: pydicom.Dataset) -> None:
    del dataset.NumberOfFrames


def no_items(dataset: pydicom.Dataset) -> None:
    del dataset[FRAMES]


def no_pixels(dataset: pydicom.Dataset) -> None:
    del dataset.PixelData


def empty_pixels(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = b""


def short_pixels(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:10]


def no_segments(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence


def doubled_segment(dataset: pydicom.Dataset) -> None:
    dataset.SegmentSequence.append(dataset.SegmentSequence[0])


def no_number(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence[0].SegmentNumber


def unknown_type(dataset: pydicom.Dataset) -> None:
    dataset.SegmentationType = "OTHER"


def wide_bits(dataset: pydicom.Dataset) -> None:
    dataset.BitsAllocated = 8


def no_place(dataset: pydicom.Dataset) -> None:
    del frame(dataset, 1).PlanePositionSequence


def odd_place(dataset: pydicom.Dataset) -> None:
    frame(dataset, 1).PlanePositionSequence[0].ImagePositionPatient = [1, 2]


def no_orientation(dataset: pydicom.Dataset) -> None:
    del shared(dataset).PlaneOrientationSequence


def skewed(dataset: pydicom.Dataset) -> None:
    shared(dataset).PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def no_spacing(dataset: pydicom.Dataset) -> None:
    del shared(dataset).PixelMeasuresSequence[0].PixelSpacing


def zero_spacing(dataset: pydicom.Dataset) -> None:
    shared(dataset).PixelMeasuresSequence[0].PixelSpacing = [0, 4]


def sideways(dataset: pydicom.Dataset) -> None:
    frame(dataset, 1).PlanePositionSequence[0].ImagePositionPatient = [-18.7, -15, 106]


def fraction_without_whole(dataset: pydicom.Dataset) -> None:
    dataset.SegmentationType, dataset.BitsAllocated = "FRACTIONAL", 8
    dataset.BitsStored, dataset.HighBit = 8, 7
    dataset.PixelData = b"\1" * 160


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unknown_segment, "frames of segment number(s) [7], which SegmentSequence (0062,0002)"),
        (fewer_frames, "NumberOfFrames (0028,0008) is 1, but PerFrameFunctionalGroupsSequence"),
        (no_count, "NumberOfFrames (0028,0008) of SEG series"),
        (no_items, "PerFrameFunctionalGroupsSequence (5200,9230) has 0 items"),
        (no_pixels, "PixelData (7FE0,0010) is missing; truncated?"),
        (empty_pixels, "PixelData (7FE0,0010) has 0 bytes, expected 20 for 2 frames"),
        (short_pixels, "PixelData (7FE0,0010) has 10 bytes, expected 20 for 2 frames"),
        (no_segments, "SegmentSequence (0062,0002) is missing; truncated?"),
        (doubled_segment, "describes a segment twice: [1, 1]"),
        (no_number, "SegmentNumber (0062,0004) of a segment is missing or below 1"),
        (unknown_type, "SegmentationType (0062,0001) is none of BINARY, FRACTIONAL"),
        (wide_bits, "BitsAllocated (0028,0100) is 8, expected 1 for BINARY"),
        (no_place, "ImagePositionPatient (0020,0032) of frame 2 is missing"),
        (odd_place, "ImagePositionPatient (0020,0032) of frame 2 is [1.0, 2.0]"),
        (no_orientation, "ImageOrientationPatient (0020,0037) of frame 1 is missing"),
        (skewed, "expected two perpendicular unit vectors"),
        (no_spacing, "PixelSpacing (0028,0030) of frame 1 is missing"),
        (zero_spacing, "PixelSpacing (0028,0030) is [0.0, 4.0], expected more than 0"),
        (sideways, "one lies 0.33, 0.00, -1.00 voxels from the first"),
        (fraction_without_whole, "MaximumFractionalValue (0062,000E) of SEG series"),
    ],
)
def test_damaged_segmentations_are_refused(seg: Path, change: Change, reason: str) -> None:
    tiny.edit(seg, change)
    with pytest.raises(StudyError) as caught:
        read(seg)
    assert reason in str(caught.value)
    assert caught.value.source == str(seg)


def test_frames_of_several_orientations(seg: Path) -> None:
    def turn(dataset: pydicom.Dataset) -> None:
        for i, cosines in enumerate(([1, 0, 0, 0, 1, 0], [0.8, 0.6, 0, -0.6, 0.8, 0])):
            group = pydicom.Dataset()
            group.ImageOrientationPatient = cosines
            frame(dataset, i).PlaneOrientationSequence = [group]

    tiny.edit(seg, turn)
    with pytest.raises(StudyError, match="several orientations or spacings"):
        read(seg)


def test_transfer_syntax_that_is_none(seg: Path) -> None:
    content = seg.read_bytes()
    seg.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"))
    with pytest.raises(StudyError, match="TransferSyntaxUID"):
        read(seg)


@pytest.mark.skipif(DCMQI is None, reason="itkimage2segimage (dcmqi) is not installed")
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("axes", [np.eye(3), FLIPPED, OBLIQUE], ids=["axial", "flipped", "oblique"])
def test_segmentations_of_another_writer(tmp_path: Path, axes: np.ndarray, kind: str) -> None:
    pet = tiny.write_pet(tmp_path, "1.2.3", axes=axes)
    grid = order_slices(read_headers(pet), False).grid
    labels = tiny.lesion_mask() * 2
    labels[0, 0, :5] = 1
    coded = {"CodeValue": "49755003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lesion"}
    segments = [
        {
            "labelID": number,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": coded,
            "SegmentedPropertyTypeCodeSequence": coded,
        }
        for number, name in ((1, "Liver"), (2, "Lesion"))
    ]
    about = {
        "ContentCreatorName": "Reader",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [segments],
    }
    (tmp_path / "about.json").write_text(json.dumps(about))
    sitk.WriteImage(grid.to_image(labels), str(tmp_path / "labels.nrrd"))
    done = subprocess.run(
        [
            str(DCMQI),
            "--inputImageList",
            str(tmp_path / "labels.nrrd"),
            "--inputDICOMDirectory",
            str(pet[0].parent),
            "--inputMetadata",
            str(tmp_path / "about.json"),
            "--outputDICOM",
            str(tmp_path / "seg"),
            "--segmentationType",
            kind,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    label = read_seg(tmp_path / "seg", PATTERN, grid)
    np.testing.assert_array_equal(label.mask, tiny.lesion_mask())
    assert label.names == ("lesion",)
    assert label.warnings == ()
