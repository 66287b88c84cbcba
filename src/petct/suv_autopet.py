"""The SUV as the autoPET challenge's own conversion computes it, for comparison.

That conversion takes every series for Bq/mL decay-corrected to one slice's AcquisitionTime: it
reads one file of the series, whichever the file system names first, and uses times of day without
dates. It knows neither Units (0054,1001) nor DecayCorrection (0054,1102). For most of the
challenge's data it is right to within the time between series start and that slice.
Source: the conversion scripts published with FDG-PET-CT-Lesions (doi:10.7937/gkr0-xv29).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from petct.dicom_series import file_of, numbers, tag_name, text
from petct.errors import StudyError
from petct.suv import DRUG


def autopet_factors(headers: Sequence[Dataset]) -> list[float]:
    """SUV per rescaled value, by the time of each slice: the challenge's script reads one of them.

    Raises StudyError where that script could not go on, or where its result would not be an SUV.
    """
    units = text(headers[0], "Units")
    if units != "BQML":
        raise StudyError(
            f"the challenge's conversion would take Units {units} for BQML", file_of(headers[0])
        )
    return [_factor(header) for header in headers]


def _factor(header: Dataset) -> float:
    (weight_kg,) = numbers(header, "PatientWeight", 1)
    (dose_bq,) = numbers(header, "RadionuclideTotalDose", 1, DRUG)
    (half_life_s,) = numbers(header, "RadionuclideHalfLife", 1, DRUG)
    injected_s = seconds_of_day(header, "RadiopharmaceuticalStartTime", DRUG)
    elapsed_s = seconds_of_day(header, "AcquisitionTime", ()) - injected_s
    if min(weight_kg, dose_bq, half_life_s) <= 0:
        raise StudyError("weight, dose or half-life is not positive", file_of(header))
    return float(1000.0 * weight_kg / (dose_bq * 0.5 ** (elapsed_s / half_life_s)))


def seconds_of_day(header: Dataset, keyword: str, within: Sequence[str]) -> float:
    """A DICOM TM, HHMMSS.FFFFFF, in seconds since midnight. Raises StudyError for anything else."""
    written = text(header, keyword, within)
    try:
        if written is None:
            raise ValueError
        return float(written[:2]) * 3600 + float(written[2:4]) * 60 + float(written[4:13])
    except ValueError as error:
        found = "missing" if written is None else "not a time HHMMSS"
        raise StudyError(f"{tag_name(keyword)} is {found}", file_of(header)) from error
