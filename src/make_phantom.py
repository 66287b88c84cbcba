"""Make one study of the built-in phantom: PET, CT and lesions on disk, and the truth beside them.

The manifest truth.json is written last. Beside it lie PT, CT and SEG or RTSTRUCT (DICOM), or
SUV.nii.gz, CT.nii.gz and SEG.nii.gz (NIfTI, as in the AutoPET collection).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.image_files import save_volume
from petct.manifests import digest_arrays, write_json
from petct.phantom import (
    StudyTruth,
    describe_study,
    image_ct,
    paint_labels,
    paint_lesions,
    scan_pet,
)
from petct.phantom_dicom import empty_folder, write_ct, write_pet
from petct.phantom_labels import write_rtstruct, write_seg
from petct.phantom_uptake import Tissue


def make_phantom(study: str, settings: dict[str, Any], output: Path) -> None:
    """Write the study's files beside ``output`` and then its truth to ``output``.

    ``settings``: "size" ("demo" or "clinical") and "seed" (an integer). A study depends on its
    name and these alone.
    """
    if set(settings) != {"size", "seed"} or not isinstance(settings["seed"], int):
        raise PetctError(f"make_phantom settings {settings}: expected a size and an integer seed")
    truth = describe_study(study, settings["seed"], settings["size"])
    folder = output.parent
    folder.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    labels, tissues = paint_labels(truth, truth.pet_grid)
    voxels = np.bincount(labels.ravel(), minlength=len(tissues))
    suv = scan_pet(truth, np.array([tissue.suv for tissue in tissues], np.float32)[labels])
    hu = image_ct(truth)
    lesions = paint_lesions(truth, truth.pet_grid)
    if truth.source == "nifti":
        _write_nifti(truth, suv, hu, lesions, folder)
    else:
        pet_files = write_pet(truth, suv, empty_folder(folder / "PT"))
        write_ct(truth, hu, empty_folder(folder / "CT"))
        if truth.label_kind == "seg":
            write_seg(truth, lesions, pet_files, empty_folder(folder / "SEG"))
        else:
            write_rtstruct(truth, empty_folder(folder / "RTSTRUCT"))
    write_json(output, _manifest(truth, suv, hu, lesions, _organs(truth, tissues, voxels)))
    found = f"{len(truth.lesions)} lesions" if truth.positive else "no lesion"
    print(f"{study}: {found}, {truth.source}, label {truth.label_kind}")


def _write_nifti(
    truth: StudyTruth, suv: np.ndarray, hu: np.ndarray, lesions: np.ndarray, folder: Path
) -> None:
    for name, array, grid in (
        ("SUV", suv, truth.pet_grid),
        ("CT", hu, truth.ct_grid),
        ("SEG", (lesions > 0).astype(np.uint8), truth.pet_grid),
    ):
        save_volume(array, grid, folder / f"{name}.nii.gz")


def _organs(
    truth: StudyTruth, tissues: list[Tissue], voxels: np.ndarray
) -> dict[str, dict[str, float]]:
    """Each tissue's SUV, HU and painted volume on the PET grid, lesions left out."""
    return {
        tissue.name: {
            "suv": tissue.suv,
            "hu": tissue.hu,
            "volume_ml": round(float(count) * truth.pet_grid.voxel_ml, 3),
        }
        for tissue, count in zip(tissues, voxels, strict=True)
        if tissue.name != "air" and not tissue.name.startswith("Lesion")
    }


def _manifest(
    truth: StudyTruth,
    suv: np.ndarray,
    hu: np.ndarray,
    lesions: np.ndarray,
    organs: dict[str, dict[str, float]],
) -> dict[str, Any]:
    geometry = {"pet": truth.pet_grid.to_json(), "ct": truth.ct_grid.to_json()}
    return {
        "study": truth.study,
        "patient": truth.patient,
        "seed": truth.seed,
        "size": truth.size,
        "format": "nifti" if truth.source == "nifti" else "dicom",
        "dialect": truth.source,
        "label": truth.label_kind,
        "positive": truth.positive,
        "fwhm_mm": truth.fwhm_mm,
        "noise": truth.noise,
        "weight_kg": truth.weight_kg,
        "dose_bq": truth.dose_bq,
        "uptake_s": truth.uptake_s,
        "grids": geometry,
        "traps": list(truth.traps),
        "organs": organs,
        "lesions": [
            {
                "number": lesion.number,
                "kind": lesion.kind,
                "centre_xyz_mm": list(lesion.solid.centre),
                "semi_axes_mm": list(lesion.solid.semi_axes),
                "rotation": list(lesion.solid.rotation),
                "volume_ml": lesion.volume_ml,
                "suv": lesion.suv,
                "hu": lesion.hu,
            }
            for lesion in truth.lesions
        ],
        "lesion_ml": float(sum(lesion.volume_ml for lesion in truth.lesions)),
        "lesion_voxels": int((lesions > 0).sum()),
        "digest": digest_arrays(suv, hu, lesions, geometry=geometry),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", required=True, help="phantom-001, phantom-002, ...")
    parser.add_argument("--settings", required=True, type=json.loads, help="size and seed, as JSON")
    parser.add_argument("--output", required=True, type=Path, help="the study's truth.json")
    given = parser.parse_args()
    make_phantom(given.study, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
