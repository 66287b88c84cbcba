"""Writing a phantom study's lesions as DICOM SEG or RTSTRUCT, referring to its PET series."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
)

from petct.phantom import StudyTruth
from petct.phantom_dicom import common_header, file_name, series_start, uid
from petct.phantom_shapes import Ellipsoid, as_point

CONTOUR_POINTS = 72  # an ellipse's polygon then lacks 0.13 % of its area
BODY_MM = (180.0, 115.0)  # half axes of the distractor contour


def one_segment_each(truth: StudyTruth) -> bool:
    """Whether each lesion is a segment of its own, or all share one."""
    return truth.number % 4 == 1


def write_seg(truth: StudyTruth, lesions: np.ndarray, pet_files: list[Path], folder: Path) -> Path:
    """Write lesion numbers (Z, Y, X; 0 = none) on the PET grid as a binary DICOM SEG.

    A lesion-free study gets a segment "Lesion" whose frames are all zero.
    """
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in pet_files]
    each = one_segment_each(truth) and truth.positive
    names = [lesion.name for lesion in truth.lesions] if each else ["Lesion"]
    numbers = [lesion.number for lesion in truth.lesions] if each else [0]
    masks = [lesions == number if each else lesions > 0 for number in numbers]
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for k, name in enumerate(names, start=1)
    ]
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack(masks, axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=uid(truth, "SEG"),
        series_number=300,
        sop_instance_uid=uid(truth, "SEG", 1),
        instance_number=1,
        manufacturer="Analytic phantom",
        manufacturer_model_name="Analytic phantom",
        software_versions="1",
        device_serial_number="1",
        series_description="Lesions" if truth.positive else "No lesions",
        content_label="LESIONS",
        content_description="Voxel centres inside the lesions' ellipsoids",
        omit_empty_frames=bool(lesions.any()),
    )
    _fix_dates(seg, truth)
    organization = uid(truth, "SEG dimensions")
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    path = folder / (file_name(truth, "SEG") + ".dcm")
    seg.save_as(path)
    return path


def _fix_dates(dataset: Dataset, truth: StudyTruth) -> None:
    """Replace the clock's time: the same study must give the same bytes."""
    when = series_start(truth) + dt.timedelta(hours=2)
    day, time = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    for keyword in ("ContentDate", "SeriesDate", "InstanceCreationDate", "StructureSetDate"):
        if keyword in dataset:
            setattr(dataset, keyword, day)
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = day + time
    for keyword in ("ContentTime", "SeriesTime", "InstanceCreationTime", "StructureSetTime"):
        if keyword in dataset:
            setattr(dataset, keyword, time)


def cross_section(solid: Ellipsoid, z_mm: float) -> np.ndarray | None:
    """Where the plane z = ``z_mm`` cuts an ellipsoid: (N, 3) points of the ellipse, or None.

    With A the ellipsoid's matrix (p^T A p <= 1), the plane's ellipse has the matrix A_xy, the
    centre -A_xy^-1 a_z dz and the level 1 - dz^2 (A_zz - a_z^T A_xy^-1 a_z).
    """
    rotation = np.reshape(solid.rotation, (3, 3))
    matrix = rotation @ np.diag(1.0 / np.square(solid.semi_axes)) @ rotation.T
    plane, mixed, upright = matrix[:2, :2], matrix[:2, 2], matrix[2, 2]
    dz = z_mm - solid.centre[2]
    shift = -np.linalg.solve(plane, mixed) * dz
    level = 1.0 - dz**2 * (upright - mixed @ np.linalg.solve(plane, mixed))
    if level <= 1e-6:
        return None
    angle = np.linspace(0, 2 * np.pi, CONTOUR_POINTS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    root = np.linalg.cholesky(np.linalg.inv(plane) * level)
    xy = (root @ circle).T + shift + np.asarray(solid.centre[:2])
    return np.column_stack([xy, np.full(len(xy), z_mm)])


def _rois(truth: StudyTruth) -> list[tuple[str, Ellipsoid]]:
    """Names and solids of the structure set: the lesions, and something that is none."""
    offset = np.asarray(truth.offset_xyz_mm)
    scale = np.asarray(truth.scale_xyz)
    if truth.number % 8 == 2:
        distractor = ("BODY", Ellipsoid((0, 4, 300), (BODY_MM[0], BODY_MM[1], 400.0)))
    else:
        distractor = ("Liver reference", Ellipsoid((-70, 5, 275), (20.0, 20.0, 20.0)))
    name, solid = distractor
    centre = as_point(np.asarray(solid.centre) * scale + offset)
    lesions = [(lesion.name, lesion.solid) for lesion in truth.lesions]
    return [(name, Ellipsoid(centre, solid.semi_axes)), *lesions]


def _contour(points: np.ndarray, instance: str) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = PositronEmissionTomographyImageStorage
    image.ReferencedSOPInstanceUID = instance
    contour = Dataset()
    contour.ContourImageSequence = Sequence([image])
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [f"{value:.3f}" for value in points.ravel()]
    return contour


def write_rtstruct(truth: StudyTruth, folder: Path) -> Path:
    """Write the closed-form cross-sections of the lesions with the PET's slices as RTSTRUCT.

    Beside the lesions there is one ROI that is none ("BODY" or "Liver reference"); a lesion-free
    study has that one only.
    """
    grid = truth.pet_grid
    slices = range(grid.shape_zyx[0])
    heights = [grid.origin_xyz_mm[2] + k * grid.spacing_xyz_mm[2] for k in slices]
    instances = [uid(truth, "PT", k) for k in slices]
    rt = common_header(truth, "RTSTRUCT")
    del rt.PatientPosition, rt.BodyPartExamined, rt.AcquisitionDate, rt.ContentDate
    rt.Manufacturer = "Analytic phantom"
    rt.SeriesNumber = 400
    rt.SeriesTime = ""
    rt.SeriesDescription = "Lesion contours on PET"
    rt.OperatorsName = ""
    rt.InstanceNumber = 1
    rt.StructureSetLabel = "LESIONS"
    rt.StructureSetDate = rt.StructureSetTime = ""
    rt.ApprovalStatus = "UNAPPROVED"

    images = []
    for instance in instances:
        image = Dataset()
        image.ReferencedSOPClassUID = PositronEmissionTomographyImageStorage
        image.ReferencedSOPInstanceUID = instance
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID = uid(truth, "PT")
    series.ContourImageSequence = Sequence(images)
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # retired, but Type 1 here
    study.ReferencedSOPInstanceUID = rt.StudyInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = rt.FrameOfReferenceUID
    frame.RTReferencedStudySequence = Sequence([study])
    rt.ReferencedFrameOfReferenceSequence = Sequence([frame])

    structures, contours, observations = [], [], []
    for number, (name, solid) in enumerate(_rois(truth), start=1):
        structure = Dataset()
        structure.ROINumber = number
        structure.ReferencedFrameOfReferenceUID = rt.FrameOfReferenceUID
        structure.ROIName = name
        structure.ROIGenerationAlgorithm = "MANUAL"
        structures.append(structure)
        cuts = [(cross_section(solid, z), i) for z, i in zip(heights, instances, strict=True)]
        drawn = Dataset()
        drawn.ROIDisplayColor = [255, 0, 0]
        drawn.ReferencedROINumber = number
        items = [_contour(points, image) for points, image in cuts if points is not None]
        if items:
            drawn.ContourSequence = Sequence(items)
        contours.append(drawn)
        observed = Dataset()
        observed.ObservationNumber = number
        observed.ReferencedROINumber = number
        observed.RTROIInterpretedType = "GTV" if name.startswith("Lesion") else "CONTROL"
        observed.ROIInterpreter = ""
        observations.append(observed)
    rt.StructureSetROISequence = Sequence(structures)
    rt.ROIContourSequence = Sequence(contours)
    rt.RTROIObservationsSequence = Sequence(observations)
    rt.SOPClassUID, rt.SOPInstanceUID = RTStructureSetStorage, uid(truth, "RTSTRUCT", 1)
    rt.file_meta = FileMetaDataset()
    rt.file_meta.MediaStorageSOPClassUID = rt.SOPClassUID
    rt.file_meta.MediaStorageSOPInstanceUID = rt.SOPInstanceUID
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _fix_dates(rt, truth)
    path = folder / (file_name(truth, "RTSTRUCT") + ".dcm")
    rt.save_as(path, enforce_file_format=True)
    return path
