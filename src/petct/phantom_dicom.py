"""Writing a phantom study as DICOM: PET and CT, one file per slice, in several vendors' dialects.

Attributes follow DICOM PS3.3 (C.8.9 PET, C.8.2 CT). The SUV physics is exact:
SUVbw = concentration [Bq/mL] x weight [g] / dose [Bq], the dose decayed from the injection to the
series' start where DecayCorrection (0054,1102) is START, and not decayed where it is ADMIN.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from petct.grids import Grid
from petct.phantom import StudyTruth

F18_HALF_LIFE_S = 6586.2  # as in RadionuclideHalfLife (0018,1075) of clinical FDG series
BED_S = 120.0  # acquisition time of one bed position
BED_MM = 120.0  # new table travel per bed position
FIRST_DAY = dt.date(2024, 1, 8)


@dataclass(frozen=True)
class Dialect:
    """What vendors do differently in a PET series."""

    manufacturer: str
    units: str  # (0054,1001)
    decay_correction: str  # (0054,1102)
    slope_per_slice: bool
    suffix: str  # of the file names
    ge_private: bool


DIALECTS: dict[str, Dialect] = {
    "siemens": Dialect("SIEMENS", "BQML", "START", True, ".dcm", False),
    "ge": Dialect("GE MEDICAL SYSTEMS", "BQML", "START", True, "", True),
    "philips": Dialect("Philips Medical Systems", "GML", "START", False, ".dcm", False),
    "admin": Dialect("SIEMENS", "BQML", "ADMIN", False, ".dcm", False),
}


def uid(truth: StudyTruth, *words: object) -> str:
    """A UID that depends on the seed, the study, the size and the words only."""
    key = ["petct phantom", truth.seed, truth.number, truth.size, *words]
    return str(generate_uid(entropy_srcs=[str(item) for item in key]))


def file_name(truth: StudyTruth, *words: object) -> str:
    """A file name that tells nothing, so that names sort in no useful order."""
    key = "/".join(str(item) for item in (truth.seed, truth.number, *words))
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def series_start(truth: StudyTruth) -> dt.datetime:
    """The PET series' first acquisition: one weekday per study, between 9 and 16 h."""
    day = FIRST_DAY + dt.timedelta(days=truth.number)
    minutes = (truth.number * 47) % 420
    return dt.datetime.combine(day, dt.time(9, 0, 12)) + dt.timedelta(minutes=minutes)


def injection_start(truth: StudyTruth) -> dt.datetime:
    return series_start(truth) - dt.timedelta(seconds=truth.uptake_s)


def bqml_per_suv(truth: StudyTruth, decay_correction: str) -> float:
    """Concentration [Bq/mL] at SUVbw 1, decay-corrected to the series' start or to injection."""
    dose_bq = truth.dose_bq
    if decay_correction == "START":
        dose_bq *= 2.0 ** (-truth.uptake_s / F18_HALF_LIFE_S)
    return dose_bq / (truth.weight_kg * 1000.0)


def decay_factor(after_reference_s: float) -> float:
    """What a frame of ``BED_S`` was multiplied with: decay before it and, averaged, during it."""
    rate = np.log(2.0) / F18_HALF_LIFE_S
    during = rate * BED_S / (1.0 - np.exp(-rate * BED_S))
    return float(np.exp(rate * after_reference_s) * during)


def code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def common_header(truth: StudyTruth, modality: str) -> Dataset:
    """Patient, study, frame of reference and equipment: the same in every file of the study."""
    start = series_start(truth)
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.PatientName = truth.patient.replace("-", "^")
    header.PatientID = truth.patient
    header.PatientBirthDate = f"{start.year - truth.age_years}0101"
    header.PatientSex = "F" if truth.female else "M"
    header.PatientAge = f"{truth.age_years:03d}Y"
    header.PatientSize = f"{truth.height_m:.2f}"
    header.PatientWeight = f"{truth.weight_kg:.1f}"
    header.StudyInstanceUID = uid(truth, "study")
    header.StudyDate = start.strftime("%Y%m%d")
    header.StudyTime = (start - dt.timedelta(minutes=6)).strftime("%H%M%S")
    header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.StudyID = f"{truth.number}"
    header.StudyDescription = "PET/CT whole body, analytic phantom"
    header.Modality = modality
    header.SeriesInstanceUID = uid(truth, modality)
    header.SeriesDate = header.StudyDate
    header.ContentDate = header.StudyDate
    header.AcquisitionDate = header.StudyDate
    header.FrameOfReferenceUID = uid(truth, "frame of reference")
    header.PositionReferenceIndicator = ""
    header.ManufacturerModelName = "Analytic phantom"
    header.InstitutionName = "None (synthetic)"
    header.SoftwareVersions = "1"
    header.PatientPosition = "HFS"
    header.BodyPartExamined = "WHOLEBODY"
    return header


def _image_plane(header: Dataset, grid: Grid) -> None:
    dx, dy, dz = grid.spacing_xyz_mm
    _, ny, nx = grid.shape_zyx
    header.Rows, header.Columns = ny, nx
    header.PixelSpacing = [f"{dy:.6g}", f"{dx:.6g}"]
    header.SliceThickness = f"{dz:.6g}"
    header.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = 16
    header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1


def _encoded(header: Dataset) -> Dataset:
    """The same header with its values already encoded, which saves doing so for every slice."""
    _file_meta(header, "1.2.3", "1.2.3")
    buffer = BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def _write_slice(header: Dataset, pixels: np.ndarray, path: Path) -> None:
    header.PixelData = pixels.astype("<i2").tobytes()
    header["PixelData"].VR = "OW"
    header.save_as(path, enforce_file_format=True)


def _place(header: Dataset, grid: Grid, k: int) -> None:
    x, y, z0 = grid.origin_xyz_mm
    z = z0 + k * grid.spacing_xyz_mm[2]
    header.ImagePositionPatient = [f"{x:.10g}", f"{y:.10g}", f"{z:.10g}"]
    header.SliceLocation = f"{z:.10g}"


def _file_meta(header: Dataset, sop_class: str, instance: str) -> None:
    header.SOPClassUID, header.SOPInstanceUID = UID(sop_class), UID(instance)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.2.826.0.1.3680043.8.498.1")
    header.file_meta = meta


def empty_folder(folder: Path) -> Path:
    """The folder, new and empty: files of an earlier run would belong to no series."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _radiopharmaceutical(truth: StudyTruth, dialect: Dialect) -> Sequence:
    injected = injection_start(truth)
    item = Dataset()
    item.Radiopharmaceutical = "Fluorodeoxyglucose"
    item.RadiopharmaceuticalStartTime = injected.strftime("%H%M%S.%f")
    if not dialect.ge_private:
        item.RadiopharmaceuticalStartDateTime = injected.strftime("%Y%m%d%H%M%S.%f")
    item.RadionuclideTotalDose = f"{truth.dose_bq:.0f}"
    item.RadionuclideHalfLife = f"{F18_HALF_LIFE_S}"
    item.RadionuclidePositronFraction = "0.967"
    item.RadionuclideCodeSequence = code("77004003", "SCT", "^18^Fluorine")
    item.RadiopharmaceuticalCodeSequence = code("35321007", "SCT", "Fluorodeoxyglucose F^18^")
    return Sequence([item])


def write_pet(truth: StudyTruth, suv: np.ndarray, folder: Path) -> list[Path]:
    """Write SUVbw [g/mL] (Z, Y, X) on ``truth.pet_grid`` as a PET series.

    Returns the files from the lowest slice to the highest.
    """
    dialect = DIALECTS[truth.source]
    grid = truth.pet_grid
    start = series_start(truth)
    count = grid.shape_zyx[0]
    header = common_header(truth, "PT")
    del header.PatientPosition  # given by PatientOrientationCodeSequence below
    header.Manufacturer = dialect.manufacturer
    header.SeriesNumber = 4
    header.SeriesDescription = "PET WB CORRECTED"
    header.SeriesTime = start.strftime("%H%M%S.%f")
    header.ContentTime = header.SeriesTime
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.SeriesType = ["WHOLE BODY", "IMAGE"]
    header.Units = dialect.units
    if dialect.units == "GML":
        header.SUVType = "BW"
    header.CountsSource = "EMISSION"
    header.NumberOfSlices = count
    header.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
    header.DecayCorrection = dialect.decay_correction
    header.RandomsCorrectionMethod = "DLYD"
    header.AttenuationCorrectionMethod = "CT-derived mu map"
    header.ScatterCorrectionMethod = "Model-based"
    header.ReconstructionMethod = "Analytic phantom, Gaussian response"
    header.ConvolutionKernel = f"Gaussian {truth.fwhm_mm} mm"
    header.CollimatorType = "NONE"
    header.RadiopharmaceuticalInformationSequence = _radiopharmaceutical(truth, dialect)
    header.PatientOrientationCodeSequence = code("102538003", "SCT", "recumbent")
    header.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = code(
        "40199007", "SCT", "supine"
    )
    header.PatientGantryRelationshipCodeSequence = code("102540008", "SCT", "headfirst")
    if dialect.ge_private:
        block = header.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", start.strftime("%Y%m%d%H%M%S.00"))
    header.LossyImageCompression = "00"
    header.RescaleIntercept = "0"
    _image_plane(header, grid)

    header = _encoded(header)
    per_suv = 1.0 if dialect.units == "GML" else bqml_per_suv(truth, dialect.decay_correction)
    steepest = float(suv.max()) * per_suv / 32767.0
    files = []
    for k in range(count):
        peak = max(float(suv[k].max()) * per_suv, 1e-3 * per_suv)
        slope = peak / 32767.0 if dialect.slope_per_slice else steepest
        # As written: a decimal string of at most 16 characters, rounded up so that nothing clips.
        text = f"{slope * (1 + 1e-6):.8e}"
        bed = int(k * grid.spacing_xyz_mm[2] // BED_MM)
        acquired = start + dt.timedelta(seconds=bed * BED_S)
        reference = 0.0 if dialect.decay_correction == "START" else truth.uptake_s
        header.AcquisitionTime = acquired.strftime("%H%M%S.%f")
        header.ActualFrameDuration = f"{BED_S * 1000:.0f}"
        header.FrameReferenceTime = f"{(bed + 0.5) * BED_S * 1000:.0f}"
        header.DecayFactor = f"{decay_factor(reference + bed * BED_S):.8f}"
        header.DoseCalibrationFactor = "1"
        header.ScatterFractionFactor = "0.35"
        header.ImageIndex = count - k
        header.InstanceNumber = count - k  # head first
        header.AcquisitionNumber = bed + 1
        header.RescaleSlope = text
        instance = uid(truth, "PT", k)
        _file_meta(header, PositronEmissionTomographyImageStorage, instance)
        _place(header, grid, k)
        path = folder / (file_name(truth, "PT", k) + dialect.suffix)
        _write_slice(header, np.rint(suv[k] * (per_suv / float(text))), path)
        files.append(path)
    return files


def write_ct(truth: StudyTruth, hu: np.ndarray, folder: Path) -> list[Path]:
    """Write HU (Z, Y, X) on ``truth.ct_grid`` as a CT series; files from low to high."""
    dialect = DIALECTS[truth.source]
    grid = truth.ct_grid
    count = grid.shape_zyx[0]
    header = common_header(truth, "CT")
    header.Manufacturer = dialect.manufacturer
    header.SeriesNumber = 2
    header.SeriesDescription = "CT WB portal venous"
    scanned = (series_start(truth) - dt.timedelta(minutes=4)).strftime("%H%M%S.%f")
    header.SeriesTime = header.AcquisitionTime = header.ContentTime = scanned
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.KVP = "120"
    header.AcquisitionNumber = 1
    header.RescaleIntercept = "-1024"
    header.RescaleSlope = "1"
    header.RescaleType = "HU"
    header.WindowCenter, header.WindowWidth = "40", "400"
    header.ConvolutionKernel = "B30f"
    header.ReconstructionDiameter = "500"
    _image_plane(header, grid)
    header = _encoded(header)
    files = []
    for k in range(count):
        header.InstanceNumber = k + 1
        _file_meta(header, CTImageStorage, uid(truth, "CT", k))
        _place(header, grid, k)
        path = folder / (file_name(truth, "CT", k) + dialect.suffix)
        _write_slice(header, hu[k].astype(np.int32) + 1024, path)
        files.append(path)
    return files
