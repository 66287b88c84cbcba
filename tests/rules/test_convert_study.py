"""From DICOM or NIfTI to SUV, CT and mask: every voxel against its closed form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import dicom_studies as tiny
from convert_study import convert_study
from index_studies import index_studies
from petct.errors import PetctError
from petct.grids import Grid

SCRIPT = Path(__file__).parents[2] / "src" / "convert_study.py"
DATA = Path(os.environ.get("PETCT_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.36, -0.48, 0.8], [0.48, -0.64, -0.6]])
STEEP = np.array([[0.8, 0.6, 0.0], [0.0, 0.0, 1.0], [0.6, -0.8, 0.0]])
PET_GRID = Grid(tiny.PET_SHAPE, (4.0, 5.0, 3.0), (-20.0, -15.0, 100.0))
NAMES = ("suv", "ct", "lesions")


def convert(root: Path, **changed: Any) -> dict[str, Any]:
    """Index the only study below ``root``, convert it, and return its study.json."""
    settings = tiny.READING | changed
    work = root.parent / "work"
    index_studies(root, settings, work / "index")
    (entry,) = (work / "index" / "studies").iterdir()
    convert_study(entry, settings, work / "study" / "study.json")
    manifest: dict[str, Any] = json.loads((work / "study" / "study.json").read_text())
    return manifest


def read(root: Path, name: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(written(root, name))))


def written(root: Path, name: str) -> Path:
    return root.parent / "work" / "study" / f"{name}.nii.gz"


@pytest.mark.parametrize("label", ["seg", "rtstruct"])
def test_every_voxel_of_a_dicom_study(tmp_path: Path, label: str) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", label)
    manifest = convert(root)

    np.testing.assert_allclose(read(root, "suv"), tiny.SUV, rtol=1e-6)
    centres = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, tiny.AXIAL)
    assert np.abs(read(root, "ct") - tiny.hounsfield_at(centres)).max() <= 0.5
    np.testing.assert_array_equal(read(root, "lesions"), tiny.lesion_mask())
    types = [sitk.ReadImage(str(written(root, n))).GetPixelIDTypeAsString() for n in NAMES]
    assert types == ["32-bit float", "16-bit signed integer", "8-bit unsigned integer"]
    for name in NAMES:
        image = sitk.ReadImage(str(written(root, name)))
        np.testing.assert_allclose(image.GetOrigin(), tiny.PET_ORIGIN, atol=1e-4)
        np.testing.assert_allclose(image.GetSpacing(), (4.0, 5.0, 3.0), atol=1e-6)
        np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)

    digest = manifest.pop("digest")
    assert len(digest) == 64
    ratios = 2 ** (np.array([0.5, 120.5]) / 6586.2)  # slices at 10:15:01 to 10:17:01
    expected_suv = {
        "units": "BQML",
        "mode": "dicom",
        "also": {},
        "autopet_ratio": pytest.approx(ratios),
        "factor": pytest.approx(tiny.SUV_PER_BQ_ML),
        "explanation": "BQML, decay-corrected to series start 10:15:00.5; dose 300.0 MBq at "
        "08:25:14.3 decayed over 6586.2 s with half-life 6586.2 s; weight 70.0 kg; "
        "factor 0.000466667 g/Bq",
    }
    assert manifest.pop("suv") == expected_suv
    pet, ct = manifest.pop("pet"), manifest.pop("ct")
    assert pet["files"] == 6
    assert pet["series"] == tiny.pydicom.dcmread(study.pet[0]).SeriesInstanceUID
    assert pet["shape_zyx"] == list(tiny.PET_SHAPE)
    assert (ct["files"], ct["covers_pet_share"]) == (12, 1.0)
    assert manifest == {
        "study": "a",
        "patient": "P1",
        "status": "converted",
        "format": "dicom",
        "positive": True,
        "lesion_ml": pytest.approx(18 * tiny.VOXEL_ML),
        "lesion_voxels": 18,
        "suv_max": pytest.approx(tiny.SUV.max()),
        "label": {
            "kind": label,
            "names": ["lesion" if label == "seg" else "gtv"],
            "refers_to": "pet",
        },
        "warnings": [],
    }


@pytest.mark.parametrize("axes", [OBLIQUE, STEEP])
def test_oblique_study_keeps_pet_and_ct_together(tmp_path: Path, axes: np.ndarray) -> None:
    root = tmp_path / "in"
    tiny.write_study(root / "a", "rtstruct", axes=axes)
    manifest = convert(root)
    np.testing.assert_allclose(read(root, "suv"), tiny.SUV, rtol=1e-6)
    np.testing.assert_array_equal(read(root, "lesions"), tiny.lesion_mask())
    centres = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, axes)
    found = read(root, "ct")
    # Half a voxel beyond its outermost centres, the CT repeats them: compare within.
    index = (centres - tiny.CT_ORIGIN) @ axes.T / tiny.CT_SPACING[::-1]
    last = np.array(tiny.CT_SHAPE[::-1]) - 1
    inside = np.all((index >= 0) & (index <= last), axis=-1)
    covered = np.all((index > -0.5) & (index < last + 0.5), axis=-1)
    assert np.abs(found - tiny.hounsfield_at(centres))[inside].max() <= 1.0  # rounded twice
    assert (found[~covered] == -1024).all()
    assert (found[covered] > -1024).all()
    assert manifest["ct"]["covers_pet_share"] == pytest.approx(covered.mean(), abs=1e-6)


def test_digest_follows_the_voxels(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    first = convert(root)["digest"]
    for path in (*study.pet, *study.ct):  # other names and times, the same content
        path.rename(path.with_name(f"x{path.name}"))
    assert convert(root)["digest"] == first
    tiny.edit([path.with_name(f"x{path.name}") for path in study.pet], PatientWeight=71.0)
    assert convert(root)["digest"] != first


def test_ct_that_covers_a_part(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    for path in study.ct[6:]:  # the CT ends at 108 mm, the PET's slices lie at 100 to 115 mm
        path.unlink()
    manifest = convert(root)
    assert manifest["ct"]["covers_pet_share"] == 0.5
    assert manifest["warnings"] == ["the CT covers 50.0 % of the PET grid; -1024 HU elsewhere"]
    assert (read(root, "ct")[3:] == -1024).all()
    assert (read(root, "ct")[:3] > -1024).all()


def test_label_drawn_on_the_ct(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", None)
    corners_mm = np.array([(-6.0, -2.5), (6.0, -2.5), (6.0, 12.5), (-6.0, 12.5)])
    contours = [np.c_[corners_mm, np.full(4, z)] for z in (106.0, 108.0, 110.0)]
    tiny.write_rtstruct(root / "a" / "rt", study.ct, {"GTV": contours})
    manifest = convert(root)
    assert manifest["label"]["refers_to"] == "ct"
    np.testing.assert_array_equal(read(root, "lesions"), tiny.lesion_mask())
    assert "drawn on another grid than the PET's: resampled" in manifest["warnings"][0]


def test_study_without_label(tmp_path: Path) -> None:
    root = tmp_path / "in"
    tiny.write_study(root / "a", None)
    manifest = convert(root, missing_label="negative")
    assert manifest["positive"] is False
    assert manifest["label"] is None
    assert not read(root, "lesions").any()
    assert manifest["warnings"] == ["no label: taken as free of lesions, as the settings say"]


def test_implausible_suv_is_said(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    tiny.edit_drug(study.pet, RadionuclideTotalDose=3e6)
    assert convert(root)["warnings"] == ["the maximum SUV is 894, expected 0.5 to 100.0"]


def test_suvs_of_other_types_beside_suvbw(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    tiny.edit(study.pet, PatientSex="M", PatientSize=1.75)
    manifest = convert(root, also=["LBMJAMES128", "BSA"])
    ratio = (77.0 - 128 * 0.16) / 70  # (70 kg / 175 cm)^2 = 0.16
    np.testing.assert_allclose(read(root, "suv_lbmjames128"), tiny.SUV * ratio, rtol=1e-6)
    np.testing.assert_allclose(read(root, "suv"), tiny.SUV, rtol=1e-6)
    assert manifest["suv"]["also"]["BSA"]["unit"] == "cm2/mL"
    assert manifest["suv"]["also"]["LBMJAMES128"]["per_suvbw"] == pytest.approx(ratio)
    tiny.edit(study.pet, PatientSize=None)
    manifest = convert(root, also=["BSA"])
    assert manifest["suv"]["also"] == {}
    assert "no SUV BSA: PatientSize (0010,1020)" in manifest["warnings"][0]
    assert not written(root, "suv_lbmjames128").exists()  # of the run before


def test_as_the_challenge_converts(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    first = sorted(study.pet, key=str)[0]
    acquired = tiny.pydicom.dcmread(first).AcquisitionTime
    late_s = (int(acquired[2:4]) - 15) * 60 + 0.5
    manifest = convert(root, suv="autopet")
    expected = tiny.SUV * 2 ** (late_s / 6586.2)
    np.testing.assert_allclose(read(root, "suv"), expected, rtol=1e-6)
    assert "as the autoPET challenge converts" in manifest["suv"]["explanation"]
    # A cubic spline too returns a linear function exactly, away from the ends of the CT.
    centres = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, tiny.AXIAL)
    difference = np.abs(read(root, "ct") - tiny.hounsfield_at(centres))
    assert difference[2:4, 2:6, 3:7].max() <= 1.0
    tiny.edit_drug(study.pet, RadiopharmaceuticalStartTime=None)
    tiny.edit_drug(study.pet, RadiopharmaceuticalStartDateTime="20240305082514.3")
    reason = convert(root, suv="autopet")["reason"]
    assert reason.startswith("RadiopharmaceuticalStartTime (0018,1072) is missing")
    told = convert(root)["suv"]
    assert told["autopet_ratio"] is None
    assert "RadiopharmaceuticalStartTime (0018,1072) is missing" in told["autopet_note"]


def test_the_challenges_ct_where_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    for path in study.ct[6:]:  # the CT ends at 108 mm, the PET's slices lie at 100 to 115 mm
        path.unlink()
    assert convert(root, suv="autopet")["ct"]["covers_pet_share"] == 0.5
    assert (read(root, "ct")[3:] == -1024).all()
    ct_elsewhere(replace(study, ct=study.ct[:6]))
    assert convert(root, suv="autopet")["reason"] == "the CT and the PET do not overlap anywhere"


def test_what_is_refused_unless_accepted(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    tiny.edit(study.pet, CorrectedImage=["DECY"])
    assert convert(root, accept=["uncorrected"])["warnings"] == [
        "not corrected for attenuation, accepted as the settings say"
    ]
    for path in study.ct:
        path.unlink()
    manifest = convert(root, accept=["uncorrected", "missing_ct"])
    assert manifest["ct"] == {"series": "", "files": 0, "covers_pet_share": 0.0}
    assert (read(root, "ct") == -1024).all()
    assert any("no CT" in warning for warning in manifest["warnings"])
    for path in study.pet[1:]:
        path.unlink()
    assert study.label is not None
    study.label.unlink()
    accepted = ["uncorrected", "missing_ct", "single_slices"]
    tiny.edit(study.pet[0], SliceThickness=None)
    manifest = convert(root, missing_label="negative", accept=accepted)
    assert manifest["status"] == "excluded"  # a slice without thickness has no volume
    tiny.edit(study.pet[0], SliceThickness=3.0)
    manifest = convert(root, missing_label="negative", accept=accepted)
    np.testing.assert_allclose(read(root, "suv")[0], tiny.SUV[0], rtol=1e-6)


def test_stopping_at_the_first_unusable_study(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    tiny.edit(study.pet, PatientWeight=None)
    with pytest.raises(PetctError, match=r"a: excluded, .*PatientWeight \(0010,1030\)"):
        convert(root, unusable_study="stop")
    assert not written(root, "suv").parent.joinpath("study.json").exists()


def nifti_study(folder: Path, suv: np.ndarray) -> None:
    folder.mkdir(parents=True)
    centres = tiny.voxel_centres(tiny.CT_SHAPE, tiny.CT_SPACING, tiny.CT_ORIGIN, tiny.AXIAL)
    hounsfield = tiny.hounsfield_at(centres).astype(np.float64)
    hounsfield[:, 0, 0] = -3024.0
    ct_grid = Grid(tiny.CT_SHAPE, (3.0, 3.0, 2.0), tuple(tiny.CT_ORIGIN))
    sitk.WriteImage(PET_GRID.to_image(suv), str(folder / "SUV.nii.gz"))
    sitk.WriteImage(ct_grid.to_image(hounsfield), str(folder / "CT.nii.gz"))
    sitk.WriteImage(PET_GRID.to_image(tiny.lesion_mask()), str(folder / "SEG.nii.gz"))


def test_nifti_study_gives_the_same_voxels(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "one" / "in" / "a", "rtstruct")
    nifti_study(tmp_path / "two" / "in" / "p" / "a", tiny.SUV)
    from_dicom = convert(tmp_path / "one" / "in")
    from_nifti = convert(tmp_path / "two" / "in")
    assert (from_nifti["study"], from_nifti["patient"]) == ("p_a", "p")
    for name in NAMES:
        one, two = read(tmp_path / "one" / "in", name), read(tmp_path / "two" / "in", name)
        np.testing.assert_allclose(one, two, rtol=1e-6)
    for key in ("lesion_voxels", "positive", "status"):
        assert from_dicom[key] == from_nifti[key]
    assert from_nifti["label"]["kind"] == "nifti"


def no_weight(study: tiny.TinyStudy) -> None:
    tiny.edit(study.pet, PatientWeight=None)


def truncated_slice(study: tiny.TinyStudy) -> None:
    study.pet[2].write_bytes(study.pet[2].read_bytes()[:-20])


def infinite_slope(study: tiny.TinyStudy) -> None:
    tiny.edit(study.pet[3], RescaleSlope=1e45)


def missing_slice(study: tiny.TinyStudy) -> None:
    study.pet[2].unlink()


def doubled_slice(study: tiny.TinyStudy) -> None:
    copy = study.pet[2].with_name("copy")
    copy.write_bytes(study.pet[2].read_bytes())
    tiny.edit(copy, SOPInstanceUID=tiny.uid.generate_uid(), RescaleSlope=2.0)


def doubled_ct_slice(study: tiny.TinyStudy) -> None:
    copy = study.ct[2].with_name("copy")
    copy.write_bytes(study.ct[2].read_bytes())
    tiny.edit(copy, SOPInstanceUID=tiny.uid.generate_uid(), RescaleSlope=2.0)


def truncated_ct(study: tiny.TinyStudy) -> None:
    study.ct[5].write_bytes(study.ct[5].read_bytes()[:-1])


def ct_elsewhere(study: tiny.TinyStudy) -> None:
    for z, path in enumerate(study.ct):
        tiny.edit(path, ImagePositionPatient=[0.0, 0.0, 900.0 + 2.0 * z])


def contour_elsewhere(study: tiny.TinyStudy) -> None:
    assert study.label is not None
    tiny.write_rtstruct(study.label, study.pet, {"GTV": [tiny.contour(9.0, [(0, 0), (1, 1)])]})


MUTATIONS: dict[Callable[[tiny.TinyStudy], None], str] = {
    no_weight: "missing PatientWeight (0010,1030)",
    truncated_slice: "truncated",
    infinite_slope: "values that are not finite",
    missing_slice: "lacks 1 slice(s)",
    doubled_slice: "two different slices at 106.00 mm",
    doubled_ct_slice: "two different slices at 102.00 mm",
    truncated_ct: "truncated",
    ct_elsewhere: "the CT and the PET do not overlap anywhere",
    contour_elsewhere: "lies off all slices",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_unusable_study_leaves_a_reason_and_no_images(
    tmp_path: Path, mutate: Callable[[tiny.TinyStudy], None]
) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    convert(root)
    assert written(root, "suv").exists()
    mutate(study)
    manifest = convert(root)
    assert MUTATIONS[mutate] in manifest.pop("reason")
    assert manifest.pop("file").startswith(str(root))
    excluded = {"status": "excluded", "step": "convert_study"}
    assert manifest == {"study": "a", "patient": "P1", **excluded}
    assert [path.name for path in written(root, "suv").parent.iterdir()] == ["study.json"]


def run(entry: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--study-index", str(entry)]
    command += ["--settings", json.dumps(tiny.READING), "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line_ends_well_for_good_and_bad_studies(tmp_path: Path) -> None:
    study = tiny.write_study(tmp_path / "in" / "a", "rtstruct")
    index_studies(tmp_path / "in", tiny.READING, tmp_path / "index")
    entry, output = tmp_path / "index" / "studies" / "a.json", tmp_path / "out" / "study.json"
    done = run(entry, output)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a: 1.1 mL of lesion, maximum SUV 8.94; BQML, decay-corrected")
    study.pet[3].unlink()
    done = run(entry, output)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a: excluded, not readable as DICOM (FileNotFoundError)" in done.stdout
    assert json.loads(output.read_text())["file"] == str(study.pet[3])


def test_nothing_that_names_the_patient_is_written(tmp_path: Path) -> None:
    root = tmp_path / "in"
    study = tiny.write_study(root / "a", "rtstruct")
    convert(root)
    work = tmp_path / "work"
    tiny.edit(study.pet, PatientWeight=None)
    done = run(work / "index" / "studies" / "a.json", work / "bad" / "study.json")
    files = [path for path in work.rglob("*") if path.is_file()]
    assert len(files) == 3 + 4 + 1
    content = b"".join(path.read_bytes() for path in files if path.suffix != ".gz")
    content += done.stdout.encode() + done.stderr.encode()
    for name in NAMES:
        content += repr(sitk.ReadImage(str(written(root, name))).GetMetaDataKeys()).encode()
    for secret in (b"Secret", b"19490321", b"ACC77", b"20240305"):
        assert secret not in content


@pytest.mark.skipif(not DATA.exists(), reason=f"no test data at {DATA} (PETCT_TEST_DATA)")
def test_real_studies_have_the_published_volumes_and_maxima(tmp_path: Path) -> None:
    index_studies(DATA / "ibsi_sts", tiny.READING, tmp_path / "index")
    published = {
        "STS_002": (54.3, 21.68),
        "STS_008": (27.9, 6.50),
        "STS_035": (35.7, 14.14),
        "STS_044": (640.2, 45.66),
    }
    for study, (lesion_ml, suv_max) in published.items():
        output = tmp_path / study / "study.json"
        convert_study(tmp_path / "index" / "studies" / f"{study}.json", tiny.READING, output)
        manifest = json.loads(output.read_text())
        assert manifest["lesion_ml"] == pytest.approx(lesion_ml, rel=0.01)
        assert manifest["suv_max"] == pytest.approx(suv_max, rel=0.001)
        assert manifest["label"]["names"] == ["gtv"]
        folder = DATA / "ibsi_sts" / study / "nifti"
        for name, other in (("suv", "PET_image"), ("lesions", "PET_mask")):
            mine = sitk.ReadImage(str(output.parent / f"{name}.nii.gz"))
            theirs = sitk.ReadImage(str(folder / f"{other}.nii.gz"))
            np.testing.assert_allclose(mine.GetOrigin(), theirs.GetOrigin(), atol=1e-3)
            arrays = sitk.GetArrayFromImage(mine), sitk.GetArrayFromImage(theirs)
            np.testing.assert_allclose(*arrays, atol=1e-4)
