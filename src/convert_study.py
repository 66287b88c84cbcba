"""Turn one study into SUV, CT and lesion mask on the PET grid, with what is known about them."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.dicom_series import (
    HU_HIGHEST,
    HU_LOWEST,
    order_slices,
    read_headers,
    read_hounsfield,
    rescaled_slice,
)
from petct.errors import StudyError
from petct.grids import Grid
from petct.labels import Label, read_nifti, read_nifti_label, read_rtstruct, read_seg
from petct.manifests import digest_arrays, read_json, write_json
from petct.suv import suv_scale

OUTSIDE_CT = -32768  # below every CT number; marks what the CT does not cover
IMPLAUSIBLE_SUV_MAX = (0.5, 100.0)


@dataclass(frozen=True)
class Images:
    """A study as read: ``suv`` float32 on the PET ``grid``, ``hounsfield`` int16 on its own."""

    suv: np.ndarray
    grid: Grid
    hounsfield: np.ndarray
    ct_grid: Grid
    scale: dict[str, Any]
    warnings: tuple[str, ...]


def convert_study(study_index: Path, settings: dict[str, Any], output: Path) -> None:
    """Write ``suv.nii.gz``, ``ct.nii.gz``, ``lesions.nii.gz``, and then ``output`` (study.json).

    ``study_index``: an entry of the index of studies. ``settings``: ``label_pattern`` (regular
    expression for the names of lesions, case ignored). A study that cannot be used leaves no
    images, and its reason in ``output``.
    """
    entry = read_json(study_index)
    named = {"study": entry["study"], "patient": entry["patient"]}
    targets = {name: output.parent / f"{name}.nii.gz" for name in ("suv", "ct", "lesions")}
    for path in (output, *targets.values()):
        path.unlink(missing_ok=True)
    try:
        images = _read_nifti(entry) if entry["format"] == "nifti" else _read_dicom(entry)
        if not np.isfinite(images.suv).all():
            raise StudyError("the PET has values that are not finite", entry["pet"]["files"][0])
        lesions, label, warnings = _read_label(entry, images, settings["label_pattern"])
        hounsfield, covered = resample_ct(images.hounsfield, images.ct_grid, images.grid)
    except StudyError as error:
        reason = {
            "step": "convert_study",
            "reason": str(error),
            "file": error.source or entry["folder"],
        }
        write_json(output, {**named, "status": "excluded", **reason})
        print(f"{entry['study']}: excluded, {error} ({reason['file']})")
        return

    warnings = [*entry["warnings"], *images.warnings, *warnings]
    if covered < 1.0:
        warnings.append(f"the CT covers {100 * covered:.1f} % of the PET grid; -1024 HU elsewhere")
    suv_max = float(images.suv.max())
    low, high = IMPLAUSIBLE_SUV_MAX
    if not low <= suv_max <= high:
        warnings.append(f"the maximum SUV is {suv_max:.3g}, expected {low} to {high}")
    lesion_voxels = int(np.count_nonzero(lesions))
    manifest = {
        **named,
        "status": "converted",
        "positive": lesion_voxels > 0,
        "lesion_ml": lesion_voxels * images.grid.voxel_ml,
        "lesion_voxels": lesion_voxels,
        "suv_max": suv_max,
        "suv": images.scale,
        "pet": {**images.grid.to_json(), **_series(entry["pet"])},
        "ct": {
            **images.ct_grid.to_json(),
            **_series(entry["ct"]),
            "covers_pet_share": round(covered, 6),
        },
        "label": label,
        "warnings": warnings,
        "digest": digest_arrays(images.suv, hounsfield, lesions, geometry=images.grid.to_json()),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"suv": images.suv, "ct": hounsfield, "lesions": lesions}
    for name, path in targets.items():
        sitk.WriteImage(images.grid.to_image(arrays[name]), str(path), True, 1)
    write_json(output, manifest)
    print(
        f"{entry['study']}: {lesion_voxels * images.grid.voxel_ml:.1f} mL of lesion, "
        f"maximum SUV {suv_max:.2f}; {images.scale['explanation']}"
    )


def _series(files: dict[str, Any]) -> dict[str, Any]:
    return {"series": files["series"], "files": len(files["files"])}


def _read_dicom(entry: dict[str, Any]) -> Images:
    pet = order_slices(read_headers([Path(file) for file in entry["pet"]["files"]]), False)
    slices, grid = pet.slices, pet.grid
    scale = suv_scale(slices)
    suv = np.empty(grid.shape_zyx, np.float32)
    with np.errstate(over="ignore"):  # what is not finite is refused
        for z, (header, factor) in enumerate(zip(slices, scale.factors, strict=True)):
            suv[z] = rescaled_slice(header) * factor
    ct = order_slices(read_headers([Path(f) for f in entry["ct"]["files"]]), False)
    factors = sorted({float(factor) for factor in scale.factors})
    told: dict[str, Any] = {"units": scale.units, "explanation": scale.explanation}
    if len(factors) == 1:
        told["factor"] = factors[0]
    else:
        told["factor_range"] = [factors[0], factors[-1]]
    hounsfield = read_hounsfield(ct)
    warnings = (*pet.warnings, *ct.warnings, *scale.warnings)
    return Images(suv, grid, hounsfield, ct.grid, told, warnings)


def _read_nifti(entry: dict[str, Any]) -> Images:
    (pet_file,), (ct_file,) = entry["pet"]["files"], entry["ct"]["files"]
    pet = read_nifti(Path(pet_file))
    grid = Grid.from_image(pet)
    suv = sitk.GetArrayFromImage(pet).astype(np.float32)
    del pet
    ct = read_nifti(Path(ct_file))
    ct_grid = Grid.from_image(ct)
    values = sitk.GetArrayFromImage(ct)
    del ct
    hounsfield = np.clip(np.rint(values), HU_LOWEST, HU_HIGHEST).astype(np.int16)
    told = {"units": "GML", "factor": 1.0, "explanation": "NIfTI, the values are SUVbw already"}
    return Images(suv, grid, hounsfield, ct_grid, told, ())


def _read_label(
    entry: dict[str, Any], images: Images, pattern: str
) -> tuple[np.ndarray, dict[str, Any] | None, list[str]]:
    stated = entry["label"]
    if stated is None:
        empty = np.zeros(images.grid.shape_zyx, np.uint8)
        return empty, None, ["no label: taken as free of lesions, as the settings say"]
    (file,) = (Path(path) for path in stated["files"])
    label: Label
    if stated["kind"] == "seg":
        label = read_seg(file, pattern, images.grid)
    elif stated["kind"] == "rtstruct":
        drawn_on = images.ct_grid if stated["refers_to"] == "ct" else images.grid
        label = read_rtstruct(file, pattern, drawn_on, images.grid)
    else:
        label = read_nifti_label(file, images.grid)
    told = {"kind": stated["kind"], "names": list(label.names), "refers_to": stated["refers_to"]}
    return label.mask, told, list(label.warnings)


def resample_ct(hounsfield: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, float]:
    """CT numbers, int16 (Z, Y, X), from one grid to another, and the share of it they cover.

    Linear; -1024 HU where there is no CT. Raises StudyError if the two do not overlap.
    """
    reference = sitk.Image([int(n) for n in target.shape_zyx[::-1]], sitk.sitkUInt8)
    reference.SetSpacing(target.spacing_xyz_mm)
    reference.SetOrigin(target.origin_xyz_mm)
    reference.SetDirection(target.direction)
    moved = sitk.Resample(
        source.to_image(hounsfield),
        reference,
        sitk.Transform(),
        sitk.sitkLinear,
        OUTSIDE_CT,
        sitk.sitkFloat32,  # an integer result would be cut, not rounded
    )
    values = sitk.GetArrayFromImage(moved)
    del moved
    outside = values == OUTSIDE_CT
    covered = 1.0 - np.count_nonzero(outside) / outside.size
    if covered == 0.0:
        raise StudyError("the CT and the PET do not overlap anywhere")
    values[outside] = HU_LOWEST
    return np.rint(values, out=values).astype(np.int16), covered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study-index", type=Path, required=True, help="entry of the index")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output", type=Path, required=True, help="study.json")
    arguments = parser.parse_args()
    convert_study(arguments.study_index, arguments.settings, arguments.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
