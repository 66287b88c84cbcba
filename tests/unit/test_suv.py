"""SUV factors derived by hand, and the digital reference objects of the IBSI SUV effort."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dicom_studies as tiny
from petct.dicom_pixels import rescaled_slice
from petct.dicom_series import order_slices, read_headers
from petct.errors import StudyError
from petct.labels import read_rtstruct
from petct.suv import (
    SuvScale,
    average_count_time_s,
    decayed_dose_bq,
    dose_in_bq,
    injection_before,
    suv_scale,
    suvbw_factor_g_per_bq,
)
from petct.suv_autopet import autopet_factors
from petct.suv_types import suv_ratio

DATA = Path(os.environ.get("PETCT_TEST_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.fixture
def pet(tmp_path: Path) -> list[Path]:
    return tiny.write_pet(tmp_path, "1.2.3")


def scale(files: list[Path]) -> SuvScale:
    ordered = order_slices(read_headers(files), False).slices
    return suv_scale(ordered, ())


def refused(files: list[Path]) -> StudyError:
    with pytest.raises(StudyError) as caught:
        scale(files)
    return caught.value


def test_one_half_life_halves_the_dose() -> None:
    assert decayed_dose_bq(300e6, 6586.2, 6586.2) == pytest.approx(150e6, rel=1e-12)
    assert decayed_dose_bq(300e6, 6586.2, 0.0) == 300e6


def test_factor_is_weight_in_grams_over_dose() -> None:
    # 70 kg at 70 MBq: 1 kBq/mL everywhere is an SUV of 1.
    assert suvbw_factor_g_per_bq(70.0, 70e6) * 1000 == pytest.approx(1.0)


def test_average_count_rate_comes_just_before_the_middle_of_a_frame() -> None:
    # Over one half-life: a = ln 2, so T / ln 2 x ln(ln 2 / 0.5) = 0.471234 T.
    assert average_count_time_s(100.0, 100.0) == pytest.approx(47.1234, abs=1e-3)
    assert average_count_time_s(1.0, 1e6) == pytest.approx(0.5, abs=1e-6)


def test_doses_in_mbq_and_bq() -> None:
    assert dose_in_bq(370.0) == (370e6, True)
    assert dose_in_bq(370e6) == (370e6, False)
    for neither in (0.0, -1.0, 5e4):
        with pytest.raises(StudyError, match=r"RadionuclideTotalDose \(0018,1074\)"):
            dose_in_bq(neither)


def test_undated_injection_after_the_scan_was_the_day_before() -> None:
    scan, late = datetime(2024, 3, 5, 0, 20), datetime(2024, 3, 5, 23, 30)
    assert injection_before(scan, late, dated=False) == datetime(2024, 3, 4, 23, 30)
    with pytest.raises(StudyError, match="83400 s later"):
        injection_before(scan, late, dated=True)
    # Five minutes late is a wrong clock, not a wait of 23 h 55 min.
    with pytest.raises(StudyError, match="300 s later"):
        injection_before(scan, datetime(2024, 3, 5, 0, 25), dated=False)


def test_activity_decay_corrected_to_the_series_start(pet: list[Path]) -> None:
    found = scale(pet)
    np.testing.assert_allclose(found.factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)
    assert found.explanation == (
        "BQML, decay-corrected to series start 10:15:00.5; dose 300.0 MBq at 08:25:14.3 decayed "
        "over 6586.2 s with half-life 6586.2 s; weight 70.0 kg; factor 0.000466667 g/Bq"
    )
    assert found.units == "BQML"
    assert found.warnings == ()


def test_decay_corrected_to_the_injection(pet: list[Path]) -> None:
    tiny.edit(pet, DecayCorrection="ADMIN", SeriesTime=None)
    tiny.edit_drug(pet, RadiopharmaceuticalStartTime=None, RadionuclideHalfLife=None)
    np.testing.assert_allclose(scale(pet).factors, [70e3 / 300e6] * 6)


def test_not_decay_corrected_goes_by_each_slice(pet: list[Path]) -> None:
    tiny.edit(pet, DecayCorrection="NONE")
    elapsed_s = np.array([0.5, 0.5, 60.5, 60.5, 120.5, 120.5]) + 6586.2
    expected = 70e3 / (300e6 * 2 ** (-elapsed_s / 6586.2))
    np.testing.assert_allclose(scale(pet).factors, expected, rtol=1e-9)
    assert "each slice at its own acquisition time 10:15:01 to 10:17:01" in scale(pet).explanation
    assert scale(pet).warnings == (
        "ActualFrameDuration (0018,1242) is missing: the decay during a frame, which is not "
        "corrected for, is not counted",
    )


def test_not_decay_corrected_frames_count_the_decay_within(pet: list[Path]) -> None:
    # A frame as long as one half-life has its average count rate at 0.471234 half-lives.
    tiny.edit(pet, DecayCorrection="NONE", ActualFrameDuration=6586200)
    elapsed = 1 + np.array([0.5, 0.5, 60.5, 60.5, 120.5, 120.5]) / 6586.2 + 0.4712336
    found = scale(pet)
    np.testing.assert_allclose(found.factors, 70e3 / (300e6 * 2**-elapsed), rtol=1e-6)
    assert "3103.6 s after it at which a frame has its average count rate" in found.explanation
    assert found.warnings == ()
    tiny.edit(pet, ActualFrameDuration=-1)
    assert "ActualFrameDuration (0018,1242) is -1, expected ms" in str(refused(pet))


def test_injection_by_date_and_time(pet: list[Path]) -> None:
    tiny.edit_drug(
        pet,
        RadiopharmaceuticalStartTime="010000",  # the date and time count instead
        RadiopharmaceuticalStartDateTime="20240305082514.300000",
    )
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)
    tiny.edit(pet, TimezoneOffsetFromUTC="+0100")
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20240305072514.3+0000")
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)


def test_past_midnight(pet: list[Path]) -> None:
    tiny.edit(pet, SeriesTime="003000", AcquisitionTime="003000")
    tiny.edit_drug(pet, RadiopharmaceuticalStartTime="224013.8")  # 6586.2 s before
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)


def test_injection_dated_after_the_scan_is_refused(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20240306082514")
    assert "later than the time the image is decay-corrected to" in str(refused(pet))


def test_a_date_weeks_off_is_refused(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20240205082514")
    assert "more than 10 half-lives of 6586.2 s: a date is wrong" in str(refused(pet))


@pytest.mark.parametrize("date", ["20240205", "20240306", "20190101"])
def test_shifted_dates_where_accepted(pet: list[Path], date: str) -> None:
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime=f"{date}082514.3")
    assert "date" in str(refused(pet)) or "later than the time" in str(refused(pet))
    ordered = order_slices(read_headers(pet), False).slices
    found = suv_scale(ordered, ["shifted_dates"])
    np.testing.assert_allclose(found.factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)
    assert found.warnings == (
        "the date of RadiopharmaceuticalStartDateTime (0018,1078) is not within a day before the "
        "scan: its time of day counts, as the settings say",
    )
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime=f"{date}120000")  # after the scan
    with pytest.raises(StudyError, match="later than the time"):
        suv_scale(order_slices(read_headers(pet), False).slices, ["shifted_dates"])


def test_a_plausible_date_counts_where_shifted_ones_are_accepted(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20240304221514.3")  # 12 h before
    ordered = order_slices(read_headers(pet), False).slices
    assert suv_scale(ordered, ["shifted_dates"]) == suv_scale(ordered, ())


def test_a_date_without_time_leaves_it_to_the_time(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20240305")
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)
    tiny.edit_drug(pet, RadiopharmaceuticalStartTime=None)
    assert "has 8 characters, expected date and time" in str(refused(pet))


def test_series_time_written_by_later_software(pet: list[Path]) -> None:
    tiny.edit(pet, SeriesTime="180000", SeriesDate="20240307")
    found = scale(pet)
    assert "scan start by the acquisition times (the series time is later)" in found.explanation
    expected = tiny.SUV_PER_BQ_ML * 2 ** (0.5 / 6586.2)  # first acquired at 10:15:01
    np.testing.assert_allclose(found.factors, [expected] * 6, rtol=1e-9)


def test_scan_start_by_frame_reference_times(pet: list[Path]) -> None:
    # Two beds of 100 s at 0 and 200 s after the start, the reference in the middle of each.
    tiny.edit(pet, SeriesTime="180000", ActualFrameDuration=100000)
    middle_s = average_count_time_s(100.0, 6586.2)
    for path, start_s in zip(pet, [0, 0, 0, 200, 200, 200], strict=True):
        tiny.edit(
            path,
            AcquisitionTime=f"10{15 + start_s // 60}{start_s % 60:02d}.5",
            FrameReferenceTime=round((start_s + middle_s) * 1000, 3),
        )
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-6)


def test_private_scan_time_of_ge(pet: list[Path]) -> None:
    def change(dataset: tiny.Dataset) -> None:
        dataset.SeriesTime = "180000"
        block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", "20240305101500.50")

    tiny.edit(pet, change)
    assert "GE's scan time (0009,100D) 10:15:00.5" in scale(pet).explanation
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)


def test_gml_is_suv_already_and_its_dates_are_left_alone(pet: list[Path]) -> None:
    tiny.edit(pet, Units="GML", SUVType="BW", DecayCorrection="ADMIN", PatientWeight=None)
    tiny.edit_drug(pet, RadiopharmaceuticalStartDateTime="20290101000000")
    assert scale(pet).factors == (1.0,) * 6
    tiny.edit(pet, SUVType=None)
    assert scale(pet).factors == (1.0,) * 6
    tiny.edit(pet, SUVType="BSA")
    assert "SUVType (0054,1006) is BSA where Units (0054,1001) is GML" in str(refused(pet))


@pytest.mark.parametrize(
    ("units", "suv_type", "sex", "factor"),
    [
        # 70 kg and 1.75 m: (70 / 175)^2 = 0.16, BMI 22.857143, 23 cm above 152 cm.
        ("GML", "LBM", "M", 70 / (77.0 - 120 * 0.16)),
        ("GML", "LBMJAMES128", "M", 70 / (77.0 - 128 * 0.16)),
        ("GML", "LBMJAMES128", "F", 70 / (74.9 - 148 * 0.16)),
        ("GML", "LBMJANMA", "M", 70 / (648900 / (6680 + 216 * 22.857143))),
        ("GML", "LBMJANMA", "F", 70 / (648900 / (8780 + 244 * 22.857143))),
        ("GML", "IBW", "M", 70 / (48.0 + 1.06 * 23)),
        ("GML", "IBW", "O", 70 / (46.75 + 0.985 * 23)),
        ("CM2ML", "BSA", "F", 70e3 / 18481.4),
        ("CM2ML", None, "F", 70e3 / 18481.4),
    ],
)
def test_other_suvs_are_brought_to_body_weight(
    pet: list[Path], units: str, suv_type: str | None, sex: str, factor: float
) -> None:
    tiny.edit(pet, Units=units, SUVType=suv_type, PatientSex=sex, PatientSize=1.75)
    found = scale(pet)
    np.testing.assert_allclose(found.factors, [factor] * 6, rtol=1e-5)
    assert found.units == units
    means = ("PatientSex (0010,0040) is O: mean of the formulas for M and F",)
    assert found.warnings == (means if sex == "O" else ())


def test_other_suvs_need_the_size_of_the_body(pet: list[Path]) -> None:
    tiny.edit(pet, Units="GML", SUVType="LBM", PatientSize=175, PatientSex="F")
    assert scale(pet).warnings == ("PatientSize (0010,1020) 175 was read as cm",)
    tiny.edit(pet, PatientSize=17.5)
    assert "PatientSize (0010,1020) is 17.5, expected m, 0.3 to 2.5" in str(refused(pet))
    tiny.edit(pet, PatientSize=None)
    assert "PatientSize (0010,1020)" in str(refused(pet))
    tiny.edit(pet, PatientSize=1.75, PatientSex=None)
    assert "PatientSex (0010,0040) is missing; SUVType LBM needs it" in str(refused(pet))
    tiny.edit(pet, PatientSex="X")
    assert "PatientSex (0010,0040) is none of M, F, O" in str(refused(pet))
    tiny.edit(pet, PatientSex="F", PatientWeight=400.0, PatientSize=1.0)  # 428 - 148 x 16
    assert "lean mass by Morgan of weight 400.0 kg" in str(refused(pet))
    tiny.edit(pet, PatientWeight=70.0, PatientSize=1.75, Units="CM2ML")
    assert "SUVType (0054,1006) is LBM where Units (0054,1001) is CM2ML" in str(refused(pet))


def test_suv_of_another_type_follows_from_body_weight(pet: list[Path]) -> None:
    tiny.edit(pet, PatientSex="M", PatientSize=1.75)
    (header,) = read_headers(pet[:1])
    assert suv_ratio(header, "LBMJAMES128").per_suvbw == pytest.approx(56.52 / 70)
    assert suv_ratio(header, "BSA").per_suvbw == pytest.approx(18481.4 / 70e3, rel=1e-5)
    assert suv_ratio(header, "BSA").unit == "cm2/mL"


def test_half_life_by_the_code_of_the_nuclide(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadionuclideHalfLife=None)
    np.testing.assert_allclose(scale(pet).factors, [tiny.SUV_PER_BQ_ML] * 6, rtol=1e-9)

    def gallium(dataset: tiny.Dataset) -> None:
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        item.RadionuclideCodeSequence[0].CodeValue = "35337001"

    tiny.edit(pet, gallium)
    expected = 70e3 / (300e6 * 2 ** (-6586.2 / 4057.7))
    np.testing.assert_allclose(scale(pet).factors, [expected] * 6, rtol=1e-9)


def technetium(dataset: tiny.Dataset) -> None:
    item = dataset.RadiopharmaceuticalInformationSequence[0]
    item.RadionuclideCodeSequence[0].CodeValue = "C-163A8"


def low_energy(dataset: tiny.Dataset) -> None:
    window = tiny.Dataset()
    window.EnergyWindowLowerLimit, window.EnergyWindowUpperLimit = 126.0, 154.0
    dataset.EnergyWindowRangeSequence = [window]


def collimated(dataset: tiny.Dataset) -> None:
    dataset.CollimatorType = "PARA"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (technetium, "is Tc-99m"),
        (low_energy, "EnergyWindowUpperLimit (0054,0015) is 154 keV"),
        (collimated, "CollimatorType (0018,1181) is PARA"),
    ],
)
def test_spect_stored_as_pet_is_refused(
    pet: list[Path], change: Callable[[tiny.Dataset], None], reason: str
) -> None:
    tiny.edit(pet, change)
    assert reason in str(refused(pet))
    assert "SPECT stored as PT?" in str(refused(pet))


def test_uncorrected_series_only_where_accepted(pet: list[Path]) -> None:
    tiny.edit(pet, CorrectedImage=["DECY", "SCAT"])
    assert "not corrected for attenuation" in str(refused(pet))
    ordered = order_slices(read_headers(pet), False).slices
    found = suv_scale(ordered, ["uncorrected"])
    np.testing.assert_allclose(found.factors, [tiny.SUV_PER_BQ_ML] * 6)
    assert found.warnings == ("not corrected for attenuation, accepted as the settings say",)


def test_the_challenges_own_conversion_goes_by_one_slice(pet: list[Path]) -> None:
    # Slices at 10:15:01, 10:16:01 and 10:17:01; the injection at 8:25:14.3; no dates.
    ordered = order_slices(read_headers(pet), False).slices
    elapsed_s = 6586.7 + np.array([0.0, 0.0, 60.0, 60.0, 120.0, 120.0])
    expected = 70e3 / (300e6 * 0.5 ** (elapsed_s / 6586.2))
    np.testing.assert_allclose(autopet_factors(ordered), expected, rtol=1e-9)
    tiny.edit_drug(pet, RadiopharmaceuticalStartTime="x8")
    ordered = order_slices(read_headers(pet), False).slices
    with pytest.raises(StudyError, match=r"StartTime \(0018,1072\) is not a time HHMMSS"):
        autopet_factors(ordered)
    tiny.edit(pet, Units="GML")
    ordered = order_slices(read_headers(pet), False).slices
    with pytest.raises(StudyError, match="would take Units GML for BQML"):
        autopet_factors(ordered)


def test_private_scan_time_of_another_year_is_left_alone(pet: list[Path]) -> None:
    def change(dataset: tiny.Dataset) -> None:
        dataset.SeriesTime = "180000"
        block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", "20210305101500.50")  # dates were shifted, but not here

    tiny.edit(pet, change)
    assert "scan start by the acquisition times" in scale(pet).explanation


def test_counts_of_philips(pet: list[Path]) -> None:
    tiny.edit(pet, Units="CNTS")
    assert "neither Philips' SUV factor (7053,1000) nor" in str(refused(pet))

    def write(element: int, value: str) -> None:
        def change(dataset: tiny.Dataset) -> None:
            block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
            block.add_new(element, "DS", value)

        tiny.edit(pet, change)

    write(0x09, "2.0")
    np.testing.assert_allclose(scale(pet).factors, [2.0 * tiny.SUV_PER_BQ_ML] * 6)
    write(0x00, "0.0005")
    np.testing.assert_allclose(scale(pet).factors, [0.0005] * 6)


def test_dose_in_mbq_is_said(pet: list[Path]) -> None:
    tiny.edit_drug(pet, RadionuclideTotalDose=300.0)
    found = scale(pet)
    np.testing.assert_allclose(found.factors, [tiny.SUV_PER_BQ_ML] * 6)
    assert found.warnings == ("RadionuclideTotalDose (0018,1074) 300 was read as MBq",)


@pytest.mark.parametrize(
    "name",
    [
        "PatientWeight (0010,1030)",
        "DecayCorrection (0054,1102)",
        "SeriesTime (0008,0031)",
        "SeriesDate (0008,0021)",
        "Units (0054,1001)",
        "RadiopharmaceuticalInformationSequence (0054,0016)",
    ],
)
def test_missing_tag_is_named_with_its_series(pet: list[Path], name: str) -> None:
    tiny.edit(pet, **{name.split()[0]: None})
    error = refused(pet)
    assert name in str(error)
    assert "PT series" in str(error)
    assert error.source == str(pet[0])


@pytest.mark.parametrize(
    "name",
    [
        "RadionuclideTotalDose (0018,1074)",
        "RadionuclideHalfLife (0018,1075)",
        "RadiopharmaceuticalStartTime (0018,1072)",
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_tag_of_the_drug(pet: list[Path], name: str, value: str | None) -> None:
    tiny.edit_drug(pet, RadionuclideCodeSequence=None, **{name.split()[0]: value})
    assert f"missing {name}" in str(refused(pet)).replace(
        "RadiopharmaceuticalStartDateTime (0018,1078) or ", ""
    )


def test_missing_tags_are_named_together(pet: list[Path]) -> None:
    tiny.edit(pet, Units=None, PatientWeight=None)
    assert "missing Units (0054,1001), PatientWeight (0010,1030)" in str(refused(pet))


def test_impossible_values(pet: list[Path]) -> None:
    tiny.edit(pet, PatientWeight=70000.0)
    assert "PatientWeight (0010,1030) is 70000, expected kg" in str(refused(pet))
    tiny.edit(pet, PatientWeight=70.0)
    tiny.edit_drug(pet, RadionuclideHalfLife=109.8)  # minutes
    assert "is 109.8 s, expected about 6586.2 s for the nuclide C-111A1" in str(refused(pet))
    tiny.edit_drug(pet, RadionuclideHalfLife=-1.0)
    assert "RadionuclideHalfLife (0018,1075) is -1" in str(refused(pet))
    tiny.edit_drug(pet, RadionuclideHalfLife=6586.2, RadiopharmaceuticalStartTime="8h25")
    assert "(0018,1072) is not a DICOM TM" in str(refused(pet))


def test_sequence_that_is_none(pet: list[Path]) -> None:
    def change(dataset: tiny.Dataset) -> None:
        del dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        item.add_new("RadionuclideCodeSequence", "LO", "abc")

    tiny.edit(pet, change)
    assert "CodeValue (0008,0100) of PT series" in str(refused(pet))


def test_slices_that_disagree(pet: list[Path]) -> None:
    tiny.edit(pet[3], PatientWeight=80.0)
    error = refused(pet)
    assert "PatientWeight (0010,1030) is 70.0 on one slice and 80.0 on another" in str(error)
    assert error.source == str(pet[3])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Units": "PROPCPS"}, "Units (0054,1001) is PROPCPS"),
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "SeriesType (0054,1000) is DYNAMIC"),
        ({"SeriesType": ["GATED", "IMAGE"]}, "SeriesType (0054,1000) is GATED"),
        ({"CorrectedImage": ["DECY", "SCAT"]}, "not corrected for attenuation"),
        ({"DecayCorrection": "LATER"}, "DecayCorrection (0054,1102) is LATER"),
    ],
)
def test_what_has_no_suv_is_refused(pet: list[Path], tags: dict[str, Any], reason: str) -> None:
    tiny.edit(pet, **tags)
    assert reason in str(refused(pet))


@pytest.mark.skipif(not DATA.exists(), reason=f"no test data at {DATA} (PETCT_TEST_DATA)")
@pytest.mark.parametrize(
    "name",
    ["DRO_0_0", "DRO_1_0", "DRO_2_0", "DRO_2_4", "DRO_3_1", "DRO_3_2", "DRO_4_1", "DRO_5_0"],
)
def test_reference_objects_have_suv_0_2_1_and_4(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "ibsi_suv_dro" / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    stack = order_slices(read_headers(sorted(tmp_path.glob("*/PT/*.dcm"))), False)
    ordered, grid = stack.slices, stack.grid
    factors = suv_scale(ordered, ()).factors
    suv = np.stack([rescaled_slice(h) * f for h, f in zip(ordered, factors, strict=True)])
    (contours,) = tmp_path.glob("*/RS/*.dcm")
    inside = suv[read_rtstruct(contours, ".", grid, grid).mask > 0]
    found = [inside.min(), np.median(inside), inside.max()]
    np.testing.assert_allclose(found, [0.2, 1.0, 4.0], rtol=0.005)


@pytest.mark.skipif(not DATA.exists(), reason=f"no test data at {DATA} (PETCT_TEST_DATA)")
def test_a_phantom_scan_without_suv_tags_is_refused_by_name() -> None:
    error = refused(sorted((DATA / "nema_iq_no_tags/PET").iterdir()))
    for keyword in ("Units", "DecayCorrection", "PatientWeight"):
        assert keyword in str(error)
    assert "RadiopharmaceuticalInformationSequence (0054,0016)" in str(error)


@pytest.mark.skipif(not DATA.exists(), reason=f"no test data at {DATA} (PETCT_TEST_DATA)")
def test_single_slices_of_real_scanners() -> None:
    folder = DATA / "pet_single_slices"
    headers = read_headers([folder / "acrin_flt_breast_1.dcm"])
    stack = order_slices(headers, single_slices=True)
    suv = rescaled_slice(stack.slices[0]) * suv_scale(stack.slices, ()).factors[0]
    assert suv.max() == pytest.approx(7.2, abs=0.05)
    uncorrected = read_headers([folder / "fodicom_PROPCPS_GH610.dcm"])
    with pytest.raises(StudyError, match="not corrected for attenuation"):
        suv_scale(uncorrected, ())
    with pytest.raises(StudyError, match=r"Units \(0054,1001\) is PROPCPS"):
        suv_scale(uncorrected, ["uncorrected"])
