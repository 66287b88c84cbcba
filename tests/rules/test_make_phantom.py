"""The script: files first, the truth last, the same bytes every time."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from make_phantom import make_phantom
from petct.errors import PetctError
from petct.phantom import StudyTruth, describe_study

DEMO = {"size": "demo", "seed": 20}
SCRIPT = Path(__file__).parents[2] / "src" / "make_phantom.py"


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def small(study: str, seed: int, size: str) -> StudyTruth:
    """The study on grids of a few slices."""
    truth = describe_study(study, seed, size)
    pet, ct = truth.pet_grid.shape_zyx, truth.ct_grid.shape_zyx
    return replace(
        truth,
        pet_grid=truth.pet_grid.cut((pet[0] // 2, 0, 0), (10, *pet[1:])),
        ct_grid=truth.ct_grid.cut((ct[0] // 2, 0, 0), (10, *ct[1:])),
    )


# SEG and RTSTRUCT.
@pytest.mark.parametrize(("study", "label"), [("phantom-001", "SEG"), ("phantom-002", "RTSTRUCT")])
def test_dicom_study_is_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, label: str
) -> None:
    monkeypatch.setattr("make_phantom.describe_study", small)
    for run in ("one", "two"):
        make_phantom(study, DEMO, tmp_path / run / study / "truth.json")
    found = fingerprint(tmp_path / "one")
    assert found == fingerprint(tmp_path / "two")
    # Ten slices of PET and of CT, the label, the truth.
    assert len(found) == 22 and any(f"/{label}/" in name for name in found)


def test_dicom_study(tmp_path: Path) -> None:
    folder = tmp_path / "phantom-001"
    make_phantom("phantom-001", DEMO, folder / "truth.json")
    assert {path.name for path in folder.iterdir()} == {"PT", "CT", "SEG", "truth.json"}
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 40e6
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["study"] == "phantom-001" and truth["patient"] == "PHANTOM-001"
    assert truth["positive"] and truth["label"] == "seg" and truth["dialect"] == "siemens"
    assert truth["organs"]["liver"]["volume_ml"] > 800
    assert truth["lesion_ml"] == pytest.approx(sum(x["volume_ml"] for x in truth["lesions"]))
    assert len(list((folder / "PT").iterdir())) == truth["grids"]["pet"]["shape_zyx"][0]
    assert len(list((folder / "CT").iterdir())) == truth["grids"]["ct"]["shape_zyx"][0]


def test_nifti_study_has_autopets_layout(tmp_path: Path) -> None:
    make_phantom("phantom-005", DEMO, tmp_path / "truth.json")
    truth = json.loads((tmp_path / "truth.json").read_text())
    names = {"SUV.nii.gz", "CT.nii.gz", "SEG.nii.gz", "truth.json"}
    assert truth["format"] == "nifti" and {path.name for path in tmp_path.iterdir()} == names
    suv, seg, ct = (sitk.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in ("SUV", "SEG", "CT"))
    assert suv.GetSize() == seg.GetSize() != ct.GetSize()
    assert np.allclose(suv.GetOrigin(), truth["grids"]["pet"]["origin_xyz_mm"], atol=1e-3)
    voxel_ml = np.prod(seg.GetSpacing()) / 1000
    assert sitk.GetArrayFromImage(seg).sum() == truth["lesion_voxels"]
    assert truth["lesion_voxels"] * voxel_ml == pytest.approx(truth["lesion_ml"], rel=0.1)


@pytest.mark.parametrize("settings", [{"size": "demo"}, {"size": "demo", "seed": 1.5}])
def test_incomplete_settings_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(PetctError, match="expected a size and an integer seed"):
        make_phantom("phantom-001", settings, tmp_path / "truth.json")


def test_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    output = tmp_path / "truth.json"
    command = [sys.executable, str(SCRIPT), "--study", "nobody", "--settings", json.dumps(DEMO)]
    told = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 1 and not output.exists()
    assert (
        told.stderr.startswith("error: phantom study 'nobody'") and "Traceback" not in told.stderr
    )
