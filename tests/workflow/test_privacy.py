"""A run on studies with a marker in every text of every file: no marker is in anything it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import pandas as pd
import pytest
import yaml

import dicom_studies as tiny
from make_phantom import make_phantom
from markers import Markers, find_markers

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
OVERLAY = {
    "dataset": "private",
    "source": "folder",
    "experiments": {
        "strategies": ["one_step"],
        "models": ["unet_small"],
        "cohorts": ["all"],
        "exclude": [],
    },
    "training": {"epochs": 1, "steps_per_epoch": 2},
}
SALT = "QZ999999XK"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Markers, set[str]]:
    """Studies below a folder, the markers in them, and those that are patients or folders' names.

    Two phantoms in DICOM (SEG and RTSTRUCT, two vendors) and one in NIfTI, a tiny study without
    weight and one with a contour that is none. Each lies in a folder that is named as the patient.
    """
    data = tmp_path_factory.mktemp("planted")
    markers = Markers()
    keys = set()
    for name in ("phantom-001", "phantom-002", "phantom-005"):
        patient = markers.new(f"PatientID of {name}")
        keys.add(patient)
        make_phantom(name, {"size": "demo", "seed": 20}, data / patient / "truth.json")
        (data / patient / "truth.json").unlink()
        for file in sorted((data / patient).rglob("*")):
            if file.suffix == ".gz":
                describe(file, markers)
            elif file.is_file():
                markers.plant(file, patient, "lesion")
    for name in ("no weight", "no contour"):
        patient = markers.new(f"PatientID of {name}")
        keys.add(patient)
        study = tiny.write_study(data / patient, "rtstruct", patient)
        assert study.label
        for file in (*study.pet, *study.ct, study.label):
            markers.plant(file, patient, "lesion")
        if name == "no weight":
            tiny.edit(study.pet, PatientWeight=None)
        else:
            tiny.edit(
                study.label,
                lambda d: (
                    d.ROIContourSequence[0]
                    .ContourSequence[0]
                    .__setattr__("ContourGeometricType", "CIRCLE")
                ),
            )
    return data, markers, keys


def describe(file: Path, markers: Markers) -> None:
    """Put markers into the free text of a NIfTI header."""
    image = nibabel.load(file)
    for field in ("descrip", "aux_file", "intent_name"):
        image.header[field] = markers.new(f"{file.name} {field}")  # type: ignore[index]
    nibabel.save(image, file)


def run(folder: Path, data: Path, keys: str, *arguments: str) -> str:
    """Run the workflow in ``folder`` on ``data``; what it printed."""
    folder.mkdir()
    salt = folder.parent / f"salt-{keys}"
    salt.write_text(SALT)
    reading = {"keys": keys, "salt_file": str(salt) if keys == "hashed" else None}
    overlay = folder.parent / f"{keys}.yaml"
    overlay.write_text(yaml.safe_dump(OVERLAY | {"folder": str(data), "reading": reading}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2"]
    command += [*arguments, "--configfile", str(ROOT / "config/test.yaml"), str(overlay)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_hashed_keys_leave_nothing_that_names_a_patient(
    tmp_path: Path, planted: tuple[Path, Markers, set[str]]
) -> None:
    data, markers, _ = planted
    folder = tmp_path / "run"
    printed = run(folder, data, "hashed")
    (folder / "printed").write_text(printed)
    results = folder / "results/private"
    assert (results / "report/index.html").exists()
    excluded = pd.read_csv(results / "tables/excluded.tsv", sep="\t", dtype=str)
    assert len(excluded) == 2
    assert len(pd.read_csv(results / "tables/metrics.tsv", sep="\t")["study"].unique()) == 3
    # The entries lead back to the files: they alone name the folders, and nothing else.
    entries = results / "index_studies/studies"
    for entry in entries.glob("*.json"):
        told = json.loads(entry.read_text())
        named = {
            told["folder"],
            *(f for role in ("pet", "ct", "label") for f in told[role]["files"]),
        }
        text = entry.read_text()
        for path in sorted(named, key=len, reverse=True):
            text = text.replace(path, "")
        (folder / f"without-paths-{entry.name}").write_text(text)
    shutil.rmtree(entries)
    uids = [word for word in markers.meaning if word.startswith("1.")]
    assert len(uids) >= 2 * 3 + 2 * 4
    assert not explained(find_markers(folder, uids), markers)


def test_original_keys_are_all_that_is_kept(
    tmp_path: Path, planted: tuple[Path, Markers, set[str]]
) -> None:
    data, markers, keys = planted
    folder = tmp_path / "run"
    printed = run(folder, data, "original", "results/private/tables/excluded.tsv")
    (folder / "printed").write_text(printed)
    found = find_markers(folder)
    assert keys <= set(found)
    assert not explained({m: where for m, where in found.items() if m not in keys}, markers)
    for table in (folder / "results/private/index_studies").glob("*.tsv"):
        columns = pd.read_csv(table, sep="\t", dtype=str).columns
        assert {"study", "patient"} <= set(columns)


def explained(found: dict[str, set[str]], markers: Markers) -> dict[str, set[str]]:
    """The same with what each marker stands for."""
    return {f"{m}: {markers.meaning.get(m, 'salt or date of birth')}": w for m, w in found.items()}
