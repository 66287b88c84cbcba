"""A PET/CT study of a few voxels as real DICOM files, with values known in closed form.

PET: 6 slices of 8 x 10 voxels, 3 x 5 x 4 mm (zyx), every slice with its own RescaleSlope; the
dose was injected exactly one F-18 half-life before the series. CT: 12 slices of 20 x 20 voxels,
2 x 3 x 3 mm, whose CT numbers are a linear function of position, which linear interpolation
returns exactly. The lesion is the block of voxels 2..3 x 3..5 x 4..6 (zyx).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes

PET_SHAPE, PET_SPACING = (6, 8, 10), (3.0, 5.0, 4.0)
CT_SHAPE, CT_SPACING = (12, 20, 20), (2.0, 3.0, 3.0)
PET_ORIGIN = np.array([-20.0, -15.0, 100.0])
CT_ORIGIN = np.array([-27.0, -19.0, 98.0])
AXIAL = np.eye(3)  # rows: the x, y and slice axes of the index in LPS space
HALF_LIFE_S = 6586.2
SUV_PER_BQ_ML = 70e3 / 150e6  # 70 kg; 300 MBq one half-life ago
LESION = (slice(2, 4), slice(3, 6), slice(4, 7))
VOXEL_ML = 3 * 5 * 4 / 1000
STORED = (np.arange(480).reshape(PET_SHAPE) * 40).astype(np.uint16)
SLOPES = 0.5 + 0.1 * np.arange(6)
SUV = STORED * SLOPES[:, None, None] * SUV_PER_BQ_ML

# How tests have a study read, unless they say otherwise: as the settings do by default.
READING: dict[str, Any] = {
    "label_pattern": "lesion|gtv",
    "missing_label": "exclude",
    "accept": [],
    "suv": "dicom",
    "also": [],
    "unusable_study": "exclude",
    "keys": "original",
    "salt_file": None,
}


@dataclass(frozen=True)
class TinyStudy:
    folder: Path
    pet: list[Path]
    ct: list[Path]
    label: Path | None


def lesion_mask() -> np.ndarray:
    mask = np.zeros(PET_SHAPE, np.uint8)
    mask[LESION] = 1
    return mask


def hounsfield_at(points_mm: np.ndarray) -> np.ndarray:
    """The CT number at LPS positions (..., 3)."""
    return points_mm @ np.array([2.0, 3.0, 5.0]) - 500.0


def voxel_centres(
    shape: tuple[int, ...], spacing: tuple[float, ...], origin: np.ndarray, axes: np.ndarray
) -> np.ndarray:
    """LPS positions (Z, Y, X, 3)."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    steps = np.stack([x * spacing[2], y * spacing[1], z * spacing[0]], axis=-1)
    return origin + steps @ axes


def write_study(
    folder: Path,
    label: str | None = "seg",
    patient: str | None = "P1",
    axes: np.ndarray = AXIAL,
    study_uid: str | None = None,
) -> TinyStudy:
    """Write the study below ``folder``; ``label``: seg, rtstruct or None."""
    study_uid = study_uid or uid.generate_uid(entropy_srcs=[str(folder)])
    pet, ct = (
        write_pet(folder, study_uid, patient, axes),
        write_ct(folder, study_uid, patient, axes),
    )
    path = None
    if label == "seg":
        path = write_seg(folder / "c" / "7", pet, {"Lesion": lesion_mask()})
    elif label == "rtstruct":
        path = write_rtstruct(folder / "c" / "7", pet, {"GTV 1": block_contours(axes)})
    return TinyStudy(folder, pet, ct, path)


def write_pet(
    folder: Path, study_uid: str, patient: str | None = "P1", axes: np.ndarray = AXIAL
) -> list[Path]:
    series = uid.generate_uid(entropy_srcs=[study_uid, "pet", str(folder)])
    paths = []
    for z in range(PET_SHAPE[0]):
        header = _image(
            "PT", uid.PositronEmissionTomographyImageStorage, study_uid, series, patient
        )
        _place(header, z, PET_SHAPE, PET_SPACING, PET_ORIGIN, axes)
        header.SeriesType = ["WHOLE BODY", "IMAGE"]
        header.CorrectedImage = ["DECY", "ATTN", "SCAT"]
        header.Units, header.DecayCorrection = "BQML", "START"
        header.SeriesDate = header.AcquisitionDate = "20240305"
        header.SeriesTime = "101500.5"
        header.AcquisitionTime = f"10{15 + z // 2}01"
        header.PatientWeight = 70.0
        header.NumberOfSlices = PET_SHAPE[0]
        drug = Dataset()
        drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 300e6, HALF_LIFE_S
        drug.RadiopharmaceuticalStartTime = "082514.3"  # 6586.2 s earlier
        nuclide = Dataset()
        nuclide.CodeValue, nuclide.CodingSchemeDesignator = "C-111A1", "SRT"
        nuclide.CodeMeaning = "^18^Fluorine"
        drug.RadionuclideCodeSequence = [nuclide]
        header.RadiopharmaceuticalInformationSequence = [drug]
        header.RescaleSlope, header.RescaleIntercept = float(round(SLOPES[z], 6)), 0.0
        paths.append(_save(header, STORED[z], folder / "a" / f"{(z * 5 + 3) % 7}"))
    return paths


def write_ct(
    folder: Path, study_uid: str, patient: str | None = "P1", axes: np.ndarray = AXIAL
) -> list[Path]:
    series = uid.generate_uid(entropy_srcs=[study_uid, "ct", str(folder)])
    values = hounsfield_at(voxel_centres(CT_SHAPE, CT_SPACING, CT_ORIGIN, axes))
    paths = []
    for z in range(CT_SHAPE[0]):
        header = _image("CT", uid.CTImageStorage, study_uid, series, patient)
        _place(header, z, CT_SHAPE, CT_SPACING, CT_ORIGIN, axes)
        header.RescaleSlope, header.RescaleIntercept = 1.0, -1024.0
        stored = np.rint(values[z] + 1024).astype(np.uint16)
        paths.append(_save(header, stored, folder / "b" / f"{(z * 5 + 3) % 13}"))
    return paths


def write_seg(path: Path, source: list[Path], segments: dict[str, np.ndarray]) -> Path:
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(segments, 1)
    ]
    headers = [pydicom.dcmread(file) for file in source]
    for header in headers:  # what highdicom copies from, and a tag here may be deleted
        header.PatientID = header.get("PatientID", "")
    seg = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=np.stack(list(segments.values()), axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=uid.generate_uid(entropy_srcs=[str(path)]),
        series_number=9,
        sop_instance_uid=uid.generate_uid(entropy_srcs=[str(path), "1"]),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path


def block_contours(axes: np.ndarray = AXIAL) -> list[np.ndarray]:
    """Rectangles around the lesion's voxels, half a voxel outside their centres."""
    corners_yx = [(2.5, 3.5), (2.5, 6.5), (5.5, 6.5), (5.5, 3.5)]
    return [contour(z, corners_yx, axes) for z in (2, 3)]


def contour(
    z: float, corners_yx: Sequence[tuple[float, float]], axes: np.ndarray = AXIAL
) -> np.ndarray:
    """Voxel indices of the PET as LPS points (N, 3)."""
    index_xyz = np.array([(x, y, z) for y, x in corners_yx])
    return PET_ORIGIN + index_xyz * np.array(PET_SPACING[::-1]) @ axes


def write_rtstruct(path: Path, source: list[Path], rois: dict[str, list[np.ndarray]]) -> Path:
    image = pydicom.dcmread(source[0], stop_before_pixels=True)
    header = _file(uid.RTStructureSetStorage, path)
    for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        setattr(header, keyword, image.get(keyword))
    header.Modality = "RTSTRUCT"
    header.SeriesInstanceUID = uid.generate_uid(entropy_srcs=[str(path)])
    header.StructureSetLabel = "test"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    header.ReferencedFrameOfReferenceSequence = [frame]
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = number
        roi.ROIName = name
        drawn.ContourSequence = []
        for points in contours:
            item = Dataset()
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourData = [round(float(value), 6) for value in points.ravel()]
            drawn.ContourSequence.append(item)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def edit(
    paths: Path | Sequence[Path], change: Callable[[Dataset], Any] | None = None, **tags: Any
) -> None:
    """Set tags (None deletes one), or apply ``change`` to each data set."""
    for path in [paths] if isinstance(paths, Path) else paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if change:
            change(dataset)
        dataset.save_as(path, enforce_file_format=True)


def edit_drug(paths: Sequence[Path], **tags: Any) -> None:
    """Set or delete tags of the radiopharmaceutical's item."""

    def change(dataset: Dataset) -> None:
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        for keyword, value in tags.items():
            if value is None:
                if keyword in item:
                    delattr(item, keyword)
            else:
                setattr(item, keyword, value)

    edit(paths, change)


def strip_prefix(paths: Sequence[Path]) -> None:
    """Rewrite files as bare data sets: no preamble, no DICM, no meta information."""
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=bool(number % 2), little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"


def _file(sop_class: str, path: Path | None = None) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    header.SOPInstanceUID = uid.generate_uid(entropy_srcs=[str(path)] if path else None)
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    return header


def _image(
    modality: str, sop_class: str, study_uid: str, series: str, patient: str | None
) -> FileDataset:
    header = _file(sop_class)
    header.Modality, header.StudyInstanceUID, header.SeriesInstanceUID = modality, study_uid, series
    header.FrameOfReferenceUID = uid.generate_uid(entropy_srcs=[study_uid, "frame"])
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    if patient is not None:
        header.PatientID = patient
    header.PatientName, header.PatientBirthDate, header.PatientSex = "Secret^Name", "19490321", "O"
    header.StudyDate, header.StudyTime, header.StudyID = "20240305", "100000", "1"
    header.AccessionNumber, header.ReferringPhysicianName = "ACC77", ""
    header.SeriesNumber, header.Manufacturer = 1, "test"
    header.PositionReferenceIndicator, header.Laterality = "", ""
    return header


def _place(
    header: Dataset,
    z: int,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    origin: np.ndarray,
    axes: np.ndarray,
) -> None:
    header.Rows, header.Columns = shape[1:]
    header.PixelSpacing = [spacing[1], spacing[2]]
    header.SliceThickness = spacing[0]
    header.ImageOrientationPatient = [round(float(v), 10) for v in axes[:2].ravel()]
    position = origin + z * spacing[0] * axes[2]
    header.ImagePositionPatient = [round(float(v), 6) for v in position]
    header.InstanceNumber = shape[0] - z  # against the order of the positions


def _save(header: FileDataset, pixels: np.ndarray, path: Path) -> Path:
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path
