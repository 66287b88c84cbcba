"""The standardised uptake value by body weight, SUVbw, and how its factor came about.

SUVbw [g/mL] = activity concentration [Bq/mL] x body weight [g] / injected dose [Bq], with the
dose decayed to the time that the image is decay-corrected to.
Sources: DICOM PS3.3 C.8.9.1 (PET Series Module: Units, SUV Type, Decay Correction), C.8.9.2 (PET
Isotope Module); QIBA, "SUV vendor-neutral pseudo-code"; the IBSI manual for SUV computation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, DT, TM

from petct.dicom_series import file_of, numbers, series_name, tag_name, text
from petct.errors import StudyError
from petct.nuclides import half_life_of_code_s, single_photon_nuclide
from petct.suv_types import LEAN_MASS_KG, suv_ratio, weight_kg

# A dose written in MBq is a number of a few hundred; no injected dose is below 10 kBq.
LARGEST_DOSE_NUMBER_MBQ = 1e4
# Between the two the number is neither a dose in MBq nor one in Bq.
SMALLEST_DOSE_BQ = 1e6
# A scan this long after injection has nothing left to see: a date is wrong.
MOST_HALF_LIVES = 10.0
# Without dates, an injection later than the scan is yesterday's only if the wait is plausible.
LONGEST_WAIT_PAST_MIDNIGHT_S = 12 * 3600.0

# A clock that software wrote for the scan is not further from the acquisition than this.
LONGEST_SCAN_S = 12 * 3600.0
# Positrons annihilate to 511 keV; every window of a SPECT camera ends below.
ANNIHILATION_KEV = 511.0
SPECT_COLLIMATORS = ("PARA", "PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG")

DRUG = ("RadiopharmaceuticalInformationSequence",)
NUCLIDE = (*DRUG, "RadionuclideCodeSequence")
INJECTION_TIMES = ("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime")

PHILIPS = "Philips PET Private Group"  # group 7053: element 00 SUV factor, 09 activity factor
GE = "GEMS_PETD_01"  # group 0009: element 0D date and time of the scan


@dataclass(frozen=True)
class SuvScale:
    """What turns a PET series' rescaled values into SUVbw.

    ``factors``: per slice, in the order given; SUVbw [g/mL] = rescaled value x factor.
    ``units``: the DICOM Units of the series. ``explanation``: the derivation, in words.
    """

    units: str
    factors: tuple[float, ...]
    explanation: str
    warnings: tuple[str, ...]


def decayed_dose_bq(dose_bq: float, half_life_s: float, elapsed_s: float) -> float:
    """What is left of a dose after ``elapsed_s``: dose x 2^(-elapsed / half-life)."""
    return float(dose_bq * 2.0 ** (-elapsed_s / half_life_s))


def average_count_time_s(duration_s: float, half_life_s: float) -> float:
    """When, after its start, a decaying frame has its average count rate; a bit before its middle.

    With a = ln 2 x duration / half-life: duration / a x ln(a / (1 - e^-a)).
    """
    a = math.log(2.0) * duration_s / half_life_s
    return duration_s / a * math.log(a / -math.expm1(-a))


def suvbw_factor_g_per_bq(weight_kg: float, dose_bq: float) -> float:
    """SUVbw [g/mL] per activity concentration [Bq/mL], for a dose decayed already."""
    return weight_kg * 1000.0 / dose_bq


def dose_in_bq(number: float) -> tuple[float, bool]:
    """A RadionuclideTotalDose (0018,1074) in Bq, and whether the number had to be read as MBq.

    The standard wants Bq; some systems write MBq. Raises StudyError if it can be neither.
    """
    if 0 < number < LARGEST_DOSE_NUMBER_MBQ:
        return number * 1e6, True
    if number < SMALLEST_DOSE_BQ:
        raise StudyError(
            f"{tag_name('RadionuclideTotalDose')} is {number:g}, expected Bq, 1e6 or more"
        )
    return number, False


def injection_before(scan: datetime, injection: datetime, dated: bool) -> datetime:
    """The injection's date and time, given that it came before the scan.

    ``dated``: the injection's own date is known. Otherwise it carries the scan's date, and an
    injection that seems later than the scan was the day before. Raises StudyError if it is later
    than the scan by its own date, or if the wait past midnight would exceed 12 h.
    """
    if injection <= scan:
        return injection
    if not dated:
        day_before = injection - timedelta(days=1)
        if (scan - day_before).total_seconds() <= LONGEST_WAIT_PAST_MIDNIGHT_S:
            return day_before
    raise StudyError(
        f"the injection is {(injection - scan).total_seconds():.0f} s later than the time the "
        "image is decay-corrected to, expected earlier"
    )


def suv_scale(headers: Sequence[Dataset], accept: Collection[str]) -> SuvScale:
    """The SUVbw factors of a PET series, from the headers of its slices.

    ``accept``: what is taken with a warning and refused otherwise. "uncorrected": a series that is
    not corrected for attenuation. "shifted_dates": an injection whose date cannot be right, as
    where de-identification moved some dates only; its time of day then counts.
    Raises StudyError naming the tag and the series if anything needed is missing, contradictory
    or impossible; nothing is guessed.
    """
    first = headers[0]
    try:
        warnings = _refuse_unsuitable(headers, accept)
        scale = _scale(headers, accept)
        return replace(scale, warnings=(*warnings, *scale.warnings))
    except StudyError as error:
        name = series_name(first)
        message = str(error) if name in str(error) else f"{name}: {error}"
        raise StudyError(message, error.source or file_of(first)) from error


def _scale(headers: Sequence[Dataset], accept: Collection[str]) -> SuvScale:
    units = _units(headers)
    if units in ("GML", "CM2ML"):
        return _given_as_suv(headers, units)
    if units == "CNTS":
        return _philips_counts(headers, accept)
    return _from_activity(headers, [1.0] * len(headers), "BQML", accept)


def _refuse_unsuitable(headers: Sequence[Dataset], accept: Collection[str]) -> tuple[str, ...]:
    first = headers[0]
    kind = (text(first, "SeriesType") or "").upper()
    if kind in ("DYNAMIC", "GATED"):
        raise StudyError(f"{tag_name('SeriesType')} is {kind}, expected STATIC or WHOLE BODY")
    try:
        items = len(first.get(DRUG[0]) or [])
        corrections = [str(word) for word in first.get("CorrectedImage") or []]
    except Exception as error:  # values are decoded on access, and may be anything
        raise StudyError(
            f"{tag_name(DRUG[0])} or {tag_name('CorrectedImage')} cannot be read"
        ) from error
    if items > 1:
        raise StudyError(f"{tag_name(DRUG[0])} has {items} items, expected one")
    _refuse_single_photons(first)
    if not corrections or "ATTN" in corrections:
        return ()
    if "uncorrected" in accept:
        return ("not corrected for attenuation, accepted as the settings say",)
    raise StudyError(f"not corrected for attenuation: {tag_name('CorrectedImage')} has no ATTN")


def _refuse_single_photons(first: Dataset) -> None:
    """SPECT may be stored as a PT series, and has no SUV by the rules of PET."""
    expected = "expected PET; SPECT stored as PT?"
    nuclide = single_photon_nuclide(text(first, "CodeValue", NUCLIDE))
    if nuclide:
        raise StudyError(f"the nuclide of {tag_name(DRUG[0])} is {nuclide}, {expected}")
    collimator = (text(first, "CollimatorType") or "").upper()
    if collimator in SPECT_COLLIMATORS:
        raise StudyError(f"{tag_name('CollimatorType')} is {collimator}, {expected}")
    windows = ("EnergyWindowRangeSequence",)
    if text(first, "EnergyWindowUpperLimit", windows):
        (upper_kev,) = numbers(first, "EnergyWindowUpperLimit", 1, windows)
        if 0 < upper_kev < ANNIHILATION_KEV:
            raise StudyError(
                f"{tag_name('EnergyWindowUpperLimit')} is {upper_kev:g} keV, below the "
                f"{ANNIHILATION_KEV:g} keV of annihilation, {expected}"
            )


def _units(headers: Sequence[Dataset]) -> str:
    units = _common(headers, "Units")
    if units is None:
        missing = ", ".join(["Units (0054,1001)", *_missing_for_activity(headers)])
        raise StudyError(f"missing {missing}; expected Units BQML, GML, CM2ML or CNTS")
    if units not in ("BQML", "GML", "CM2ML", "CNTS"):
        raise StudyError(
            f"{tag_name('Units')} is {units}, expected BQML, GML, CM2ML or Philips' CNTS"
        )
    return units


def _given_as_suv(headers: Sequence[Dataset], units: str) -> SuvScale:
    """Factors of a series that holds an SUV already, by whatever it was normalised."""
    stated = _common(headers, "SUVType")
    usual, allowed = ("BW", ("BW", *LEAN_MASS_KG, "IBW")) if units == "GML" else ("BSA", ("BSA",))
    suv_type = stated or usual
    if suv_type not in allowed:
        raise StudyError(
            f"{tag_name('SUVType')} is {suv_type} where {tag_name('Units')} is {units}, "
            f"expected {', '.join(allowed)}"
        )
    means = "body weight" if usual == "BW" else "body surface"
    words = (
        f"{units}, SUVType {suv_type}" if stated else f"{units}, no SUVType, which means {means}"
    )
    if suv_type == "BW":
        return SuvScale(units, (1.0,) * len(headers), f"{words}: the values are SUVbw already", ())
    for keyword in ("PatientWeight", "PatientSize", "PatientSex"):
        _common(headers, keyword)
    ratio = suv_ratio(headers[0], suv_type)
    factor = 1.0 / ratio.per_suvbw
    words = f"{words}: brought to SUVbw by weight / {ratio.explanation}, factor {factor:.6g}"
    return SuvScale(units, (factor,) * len(headers), words, ratio.warnings)


def _philips_counts(headers: Sequence[Dataset], accept: Collection[str]) -> SuvScale:
    suv_factors = [_private_number(header, 0x7053, PHILIPS, 0x00) for header in headers]
    if all(suv_factors):
        words = f"CNTS, Philips SUV factor (7053,1000) {suv_factors[0]:.6g}"
        return SuvScale("CNTS", tuple(float(f or 0) for f in suv_factors), words, ())
    per_count = [_private_number(header, 0x7053, PHILIPS, 0x09) for header in headers]
    if not all(per_count):
        raise StudyError(
            f"{tag_name('Units')} is CNTS, and neither Philips' SUV factor (7053,1000) nor its "
            "activity factor (7053,1009) is there"
        )
    words = f"CNTS, Philips activity factor (7053,1009) {per_count[0]:.6g} Bq/mL"
    return _from_activity(headers, [float(f or 0) for f in per_count], words, accept)


def _from_activity(
    headers: Sequence[Dataset], bq_per_ml: list[float], units: str, accept: Collection[str]
) -> SuvScale:
    """Factors of a series whose rescaled values x ``bq_per_ml`` (per slice) are Bq/mL."""
    if missing := _missing_for_activity(headers):
        raise StudyError(f"missing {', '.join(missing)}; SUV needs weight, dose and times")
    for keyword in ("PatientWeight", "SeriesDate", "SeriesTime"):
        _common(headers, keyword)
    _common(headers, "RadionuclideTotalDose", DRUG)
    first = headers[0]
    weight = weight_kg(first)
    dose_bq, as_mbq = dose_in_bq(numbers(first, "RadionuclideTotalDose", 1, DRUG)[0])
    said = f"{tag_name('RadionuclideTotalDose')} {dose_bq / 1e6:g} was read as MBq"
    warned: tuple[str, ...] = (said,) if as_mbq else ()
    decay = _common(headers, "DecayCorrection")
    if decay not in ("ADMIN", "START", "NONE"):
        raise StudyError(f"{tag_name('DecayCorrection')} is {decay}, expected START, ADMIN or NONE")
    dose_words, weight_words = f"dose {dose_bq / 1e6:.1f} MBq", f"weight {weight:.1f} kg"

    if decay == "ADMIN":
        factor = suvbw_factor_g_per_bq(weight, dose_bq)
        factors = [factor * bq for bq in bq_per_ml]
        how = f"decay-corrected to the injection; {dose_words}, not decayed; {weight_words}"
        return SuvScale(units[:4], tuple(factors), f"{units}, {how}; {_words(factors)}", warned)

    half_life_s = _half_life_s(headers)
    if decay == "START":
        scan, scan_words = _series_start(headers)
        scans = [scan] * len(headers)
        how = f"decay-corrected to {scan_words} {_clock(scan)}"
    else:
        started = [_acquisition(header) for header in headers]
        average_s = [_average_count_time_s(header, half_life_s) for header in headers]
        scans = [
            start + timedelta(seconds=seconds or 0.0)
            for start, seconds in zip(started, average_s, strict=True)
        ]
        how = (
            "not decay-corrected, each slice at its own acquisition time "
            f"{_clock(min(started))} to {_clock(max(started))}"
        )
        if None in average_s:
            warned += (
                f"{tag_name('ActualFrameDuration')} is missing: the decay during a frame, which is "
                "not corrected for, is not counted",
            )
        else:
            spoken = _range([seconds or 0.0 for seconds in average_s], ".1f")
            how += f" and the {spoken} s after it at which a frame has its average count rate"
    injection, dated = _injection(headers)
    if dated and "shifted_dates" in accept and not _within_a_day(injection, min(scans)):
        injection, dated = datetime.combine(min(scans).date(), injection.time()), False
        warned += (
            f"the date of {tag_name('RadiopharmaceuticalStartDateTime')} is not within a day "
            "before the scan: its time of day counts, as the settings say",
        )
    elif not dated:
        injection = datetime.combine(min(scans).date(), injection.time())
    injection = injection_before(min(scans), injection, dated)
    elapsed_s = [(scan - injection).total_seconds() for scan in scans]
    if max(elapsed_s) > MOST_HALF_LIVES * half_life_s:
        raise StudyError(
            f"the image is decay-corrected to {max(elapsed_s):.0f} s after the injection, more "
            f"than {MOST_HALF_LIVES:g} half-lives of {half_life_s:g} s: a date is wrong "
            "(reading.accept: shifted_dates goes by the time of day)"
        )
    factors = [
        bq * suvbw_factor_g_per_bq(weight, decayed_dose_bq(dose_bq, half_life_s, seconds))
        for bq, seconds in zip(bq_per_ml, elapsed_s, strict=True)
    ]
    over = _range(elapsed_s, "g")
    how += f"; {dose_words} at {_clock(injection)} decayed over {over} s"
    how += f" with half-life {half_life_s:.1f} s; {weight_words}"
    return SuvScale(units[:4], tuple(factors), f"{units}, {how}; {_words(factors)}", warned)


def _missing_for_activity(headers: Sequence[Dataset]) -> list[str]:
    """The names of absent tags without which activity cannot become SUV."""
    first = headers[0]
    decay = text(first, "DecayCorrection")
    needed = ["DecayCorrection", "PatientWeight"]
    if decay == "START":
        needed += ["SeriesDate", "SeriesTime"]
    if decay == "NONE":
        needed += ["AcquisitionTime"]
    missing = [tag_name(keyword) for keyword in needed if text(first, keyword) is None]
    if not first.get(DRUG[0]):
        return [*missing, tag_name(DRUG[0])]
    if text(first, "RadionuclideTotalDose", DRUG) is None:
        missing.append(tag_name("RadionuclideTotalDose"))
    if decay == "ADMIN":
        return missing
    known_s = half_life_of_code_s(text(first, "CodeValue", NUCLIDE))
    if text(first, "RadionuclideHalfLife", DRUG) is None and known_s is None:
        missing.append(tag_name("RadionuclideHalfLife"))
    if all(text(first, keyword, DRUG) is None for keyword in INJECTION_TIMES):
        missing.append(" or ".join(tag_name(keyword) for keyword in INJECTION_TIMES))
    return missing


def _common(headers: Sequence[Dataset], keyword: str, within: Sequence[str] = ()) -> str | None:
    """The tag's text, which must be the same on every slice."""
    value = text(headers[0], keyword, within)
    for header in headers[1:]:
        other = text(header, keyword, within)
        if other != value:
            quoted = dictionary_VR(keyword) in ("CS", "DS")  # others may hold free text or dates
            what = (
                f"{value} on one slice and {other} on another" if quoted else "not the same on all"
            )
            raise StudyError(f"{tag_name(keyword)} is {what}", file_of(header))
    return value


def _half_life_s(headers: Sequence[Dataset]) -> float:
    """By the tag, which must fit the nuclide's code; by the code where there is no tag."""
    _common(headers, "CodeValue", NUCLIDE)
    code = text(headers[0], "CodeValue", NUCLIDE)
    known_s = half_life_of_code_s(code)
    if _common(headers, "RadionuclideHalfLife", DRUG) is None and known_s is not None:
        return known_s
    (half_life_s,) = numbers(headers[0], "RadionuclideHalfLife", 1, DRUG)
    if half_life_s <= 0:
        raise StudyError(f"{tag_name('RadionuclideHalfLife')} is {half_life_s:g}, expected s")
    if known_s and abs(half_life_s / known_s - 1) > 0.02:
        raise StudyError(
            f"{tag_name('RadionuclideHalfLife')} is {half_life_s:g} s, "
            f"expected about {known_s:g} s for the nuclide {code}"
        )
    return half_life_s


def _moment(header: Dataset, date_keyword: str, time_keyword: str) -> datetime | None:
    """The date and time of two tags; SeriesDate stands in for an absent date."""
    day = _parsed(DA, header, date_keyword) or _parsed(DA, header, "SeriesDate")
    time = _parsed(TM, header, time_keyword)
    return None if day is None or time is None else datetime.combine(day, time)


def _parsed(kind: type, header: Dataset, keyword: str, within: Sequence[str] = ()) -> Any:
    written = text(header, keyword, within)
    if written is None:
        return None
    try:
        return kind(written)
    except ValueError as error:
        raise StudyError(
            f"{tag_name(keyword)} is not a DICOM {kind.__name__}",
            file_of(header),
        ) from error


def _series_start(headers: Sequence[Dataset]) -> tuple[datetime, str]:
    """What DecayCorrection START refers to, and its name.

    The series' date and time, unless these are later than the acquisition: then software that
    processed the images wrote its own, and GE's private time or the first acquisition counts.
    """
    first = headers[0]
    series = _moment(first, "SeriesDate", "SeriesTime")
    assert series is not None  # their absence was reported before
    moments = [_moment(header, "AcquisitionDate", "AcquisitionTime") for header in headers]
    acquired = min((moment for moment in moments if moment is not None), default=series)
    scanned = _ge_scan_time(first)
    near = scanned is not None and abs((scanned - acquired).total_seconds()) <= LONGEST_SCAN_S
    if scanned is not None and near and scanned < series:
        return scanned, "GE's scan time (0009,100D)"
    if acquired >= series:
        return series, "series start"
    half_life_s = _half_life_s(headers)
    starts = [
        moment + timedelta(seconds=_scan_start_s(header, half_life_s))
        for header, moment in zip(headers, moments, strict=True)
        if moment is not None
    ]
    return min(starts), "scan start by the acquisition times (the series time is later)"


def _ge_scan_time(header: Dataset) -> datetime | None:
    written = _private(header, 0x0009, GE, 0x0D)
    try:
        return DT(written).replace(tzinfo=None) if written else None
    except (ValueError, AttributeError):
        return None


def _average_count_time_s(header: Dataset, half_life_s: float) -> float | None:
    """From a frame's start to its average count rate [s]; None without ActualFrameDuration."""
    if not text(header, "ActualFrameDuration"):
        return None
    duration_s = numbers(header, "ActualFrameDuration", 1)[0] / 1000.0
    if not 0 < duration_s <= LONGEST_SCAN_S:
        raise StudyError(
            f"{tag_name('ActualFrameDuration')} is {1000 * duration_s:g}, expected ms",
            file_of(header),
        )
    return average_count_time_s(duration_s, half_life_s)


def _scan_start_s(header: Dataset, half_life_s: float) -> float:
    """From a frame's own start to the scan's start [s], at most 0, by its FrameReferenceTime.

    That is the time from the scan's start to when a decaying source has the frame's average
    count rate; the latter is found from the frame's duration.
    """
    average_s = _average_count_time_s(header, half_life_s)
    if average_s is None or not text(header, "FrameReferenceTime"):
        return 0.0
    reference_s = numbers(header, "FrameReferenceTime", 1)[0] / 1000.0
    return min(0.0, average_s - reference_s) if reference_s > 0 else 0.0


def _acquisition(header: Dataset) -> datetime:
    moment = _moment(header, "AcquisitionDate", "AcquisitionTime")
    if moment is None:
        raise StudyError(f"missing {tag_name('AcquisitionTime')}", file_of(header))
    return moment


def _injection(headers: Sequence[Dataset]) -> tuple[datetime, bool]:
    """The injection's date and time, and whether it has a date; if not, on an arbitrary day."""
    for keyword in INJECTION_TIMES:
        _common(headers, keyword, DRUG)
    first = headers[0]
    date_and_time, time = (text(first, keyword, DRUG) for keyword in INJECTION_TIMES)
    whole = date_and_time is not None and len(date_and_time) >= len("YYYYMMDDHHMM")
    if not whole and time is not None:
        found = _parsed(TM, first, "RadiopharmaceuticalStartTime", DRUG)
        return datetime.combine(datetime.min, found), False
    if not whole:
        raise StudyError(
            f"{tag_name('RadiopharmaceuticalStartDateTime')} has {len(date_and_time or '')} "
            "characters, expected date and time"
        )
    injection = _parsed(DT, first, "RadiopharmaceuticalStartDateTime", DRUG)
    if injection.tzinfo is not None:
        offset = text(first, "TimezoneOffsetFromUTC")
        if offset is not None:
            injection = injection.astimezone(DT(f"20000101000000{offset}").tzinfo)
        injection = injection.replace(tzinfo=None)
    return injection, True


def _within_a_day(injection: datetime, scan: datetime) -> bool:
    return timedelta(0) <= scan - injection <= timedelta(days=1)


def _private(header: Dataset, group: int, creator: str, element: int) -> str | None:
    """A private value as text; where no creator is written, the first block is taken for it."""
    tag = (group, 0x1000 + element)
    if (group, 0x10) in header:
        blocks = [n for n in range(0x10, 0x100) if header.get((group, n)) is not None]
        owned = [n for n in blocks if str(header[group, n].value).strip() == creator]
        if not owned:
            return None
        tag = (group, (owned[0] << 8) + element)
    found = header.get(tag)
    value = None if found is None else found.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return None if value is None else str(value).strip(" \0") or None


def _private_number(header: Dataset, group: int, creator: str, element: int) -> float | None:
    """A private number, or None if it is absent, zero or not a number."""
    try:
        return float(_private(header, group, creator, element) or 0) or None
    except ValueError:
        return None


def _clock(moment: datetime) -> str:
    """Time of day, without the date, which might identify a patient."""
    clock = moment.time().isoformat()
    return clock.rstrip("0") if "." in clock else clock


def _range(values: Sequence[float], spec: str) -> str:
    low, high = f"{min(values):{spec}}", f"{max(values):{spec}}"
    return low if low == high else f"{low} to {high}"


def _words(factors: Sequence[float]) -> str:
    return f"factor {_range(factors, '.6g')} g/Bq"
