"""Turn one study into SUV, CT and lesion mask on the PET grid, with what is known about them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from scipy import ndimage

from petct.command_line import exit_on_error
from petct.dicom_pixels import read_hounsfield, rescaled_slices
from petct.dicom_series import HU_LOWEST, order_slices, read_headers
from petct.downloads import compare_with_stated, locate_download
from petct.errors import PetctError, StudyError
from petct.grids import Grid
from petct.image_files import save_volume
from petct.labels import Label, read_nifti_label, read_rtstruct, read_seg
from petct.manifests import digest_arrays, read_json, write_json
from petct.nifti_images import read_pet_and_ct
from petct.study_keys import shown_file, shown_text
from petct.suv import suv_scale
from petct.suv_autopet import autopet_factors
from petct.suv_types import SuvRatio, suv_ratio

OUTSIDE_CT = -32768  # below every CT number; marks what the CT does not cover
SLICES_AT_ONCE = 32  # that are resampled
IMPLAUSIBLE_SUV_MAX = (0.5, 100.0)


@dataclass(frozen=True)
class Images:
    """A study as read: ``suv`` float32 on the PET ``grid``, ``hounsfield`` int16 on its own.

    ``hounsfield`` and ``ct_grid`` are None without a CT. ``scale`` says how the SUV came about;
    ``also``: other SUVs per SUVbw, by type.
    """

    suv: np.ndarray
    grid: Grid
    hounsfield: np.ndarray | None
    ct_grid: Grid | None
    scale: dict[str, Any]
    also: dict[str, SuvRatio]
    warnings: tuple[str, ...]


def convert_study(
    study_index: Path, settings: dict[str, Any], output: Path, download: Path | None = None
) -> None:
    """Write ``suv.nii.gz``, ``ct.nii.gz``, ``lesions.nii.gz``, and then ``output`` (study.json).

    ``study_index``: an entry of the index of studies. ``settings``: ``label_pattern`` (regular
    expression for the names of lesions, case ignored; None: labels are not read), ``accept`` (what
    is refused otherwise: uncorrected, single_slices, shifted_dates), ``suv`` (dicom or autopet),
    ``also`` (SUVTypes to write beside SUVbw, as suv_<type>.nii.gz) and ``unusable_study``: a study
    that cannot be used leaves no images and its reason in ``output`` (exclude), or raises
    PetctError (stop).
    ``download``: the manifest of a downloaded study, for entries of format idc.
    """
    entry = read_json(study_index)
    named = {"study": entry["study"], "patient": entry["patient"]}
    for path in (output, *output.parent.glob("*.nii.gz")):
        path.unlink(missing_ok=True)
    try:
        if entry["format"] == "idc":
            entry = locate_download(entry, download, settings)
        images = _read_nifti(entry) if entry["format"] == "nifti" else _read_dicom(entry, settings)
        if not np.isfinite(images.suv).all():
            raise StudyError("the PET has values that are not finite", entry["pet"]["files"][0])
        lesions, label, label_warnings = _read_label(entry, images, settings["label_pattern"])
        hounsfield, covered = _ct_on_pet(images, settings["suv"])
    except StudyError as error:
        reason = {
            "step": "convert_study",
            "reason": shown_text(entry, str(error)),
            "file": shown_file(entry, error.source or entry["folder"]),
        }
        told = f"{entry['study']}: excluded, {reason['reason']} ({reason['file']})"
        if settings["unusable_study"] == "stop":
            raise PetctError(told) from error
        write_json(output, {**named, "status": "excluded", **reason})
        print(told)
        return

    warnings = [*entry["warnings"], *images.warnings, *label_warnings]
    if 0.0 < covered < 1.0:
        warnings.append(f"the CT covers {100 * covered:.1f} % of the PET grid; -1024 HU elsewhere")
    suv_max = float(images.suv.max())
    low, high = IMPLAUSIBLE_SUV_MAX
    if not low <= suv_max <= high:
        warnings.append(f"the maximum SUV is {suv_max:.3g}, expected {low} to {high}")
    lesion_voxels = int(np.count_nonzero(lesions))
    warnings += compare_with_stated(entry, lesion_voxels)
    manifest = {
        **named,
        "status": "converted",
        "format": entry["format"],
        "positive": lesion_voxels > 0,
        "lesion_ml": lesion_voxels * images.grid.voxel_ml,
        "lesion_voxels": lesion_voxels,
        "suv_max": suv_max,
        "suv": {
            **{
                key: shown_text(entry, value) if isinstance(value, str) else value
                for key, value in images.scale.items()
            },
            "also": {name: _describe(ratio) for name, ratio in images.also.items()},
        },
        "pet": {**images.grid.to_json(), **_series(entry["pet"])},
        "ct": {
            **(images.ct_grid.to_json() if images.ct_grid else {}),
            **_series(entry["ct"]),
            "covers_pet_share": round(covered, 6),
        },
        "label": label,
        "warnings": [shown_text(entry, warning) for warning in warnings],
        "digest": digest_arrays(images.suv, hounsfield, lesions, geometry=images.grid.to_json()),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, array in {"suv": images.suv, "ct": hounsfield, "lesions": lesions}.items():
        save_volume(array, images.grid, output.parent / f"{name}.nii.gz")
    for name, ratio in images.also.items():
        scaled = images.suv * np.float32(ratio.per_suvbw)
        save_volume(scaled, images.grid, output.parent / f"suv_{name.lower()}.nii.gz")
    write_json(output, manifest)
    print(
        f"{entry['study']}: {lesion_voxels * images.grid.voxel_ml:.1f} mL of lesion, "
        f"maximum SUV {suv_max:.2f}; {images.scale['explanation']}"
    )


def _series(files: dict[str, Any]) -> dict[str, Any]:
    return {"series": files["series"], "files": len(files["files"])}


def _describe(ratio: SuvRatio) -> dict[str, Any]:
    return {
        "per_suvbw": ratio.per_suvbw,
        "unit": ratio.unit,
        "explanation": ratio.explanation,
    }


def _read_dicom(entry: dict[str, Any], settings: dict[str, Any]) -> Images:
    accepted = settings["accept"]
    pet = order_slices(
        read_headers([Path(file) for file in entry["pet"]["files"]]), "single_slices" in accepted
    )
    scale = suv_scale(pet.slices, accepted)
    told: dict[str, Any] = {"units": scale.units, "mode": settings["suv"]}
    factors: Sequence[float] = scale.factors
    explanation = scale.explanation
    try:
        theirs = autopet_factors(pet.slices)
        ratios = sorted(one / ours for one in (min(theirs), max(theirs)) for ours in factors)
        told["autopet_ratio"] = [ratios[0], ratios[-1]]
        if settings["suv"] == "autopet":
            factors, explanation = _as_autopet(pet.slices, theirs)
    except StudyError as error:
        told |= {"autopet_ratio": None, "autopet_note": str(error)}
        if settings["suv"] == "autopet":
            raise
    told["explanation"] = explanation
    distinct = sorted({float(factor) for factor in factors})
    if len(distinct) == 1:
        told["factor"] = distinct[0]
    else:
        told["factor_range"] = [distinct[0], distinct[-1]]
    suv = np.empty(pet.grid.shape_zyx, np.float32)
    with np.errstate(over="ignore"):  # what is not finite is refused
        values = rescaled_slices(pet.slices)
        for z, (values_yx, factor) in enumerate(zip(values, factors, strict=True)):
            np.multiply(values_yx, factor, out=suv[z], casting="same_kind")
    also, also_warnings = _other_suvs(pet.slices[0], settings["also"])
    warnings = (*pet.warnings, *scale.warnings, *also_warnings)
    if not entry["ct"]["files"]:
        return Images(suv, pet.grid, None, None, told, also, warnings)
    ct = order_slices(read_headers([Path(file) for file in entry["ct"]["files"]]), False)
    warnings += ct.warnings
    return Images(suv, pet.grid, read_hounsfield(ct), ct.grid, told, also, warnings)


def _as_autopet(slices: Sequence[Dataset], theirs: Sequence[float]) -> tuple[list[float], str]:
    """The challenge's one factor for all slices: by the time of the file that comes first."""
    first = min(range(len(slices)), key=lambda z: str(slices[z].filename))
    words = (
        "as the autoPET challenge converts: decayed to the acquisition time of the file first by "
        f"name, one factor {theirs[first]:.6g} g/Bq for all slices"
    )
    return [theirs[first]] * len(slices), words


def _other_suvs(header: Dataset, types: Sequence[str]) -> tuple[dict[str, SuvRatio], list[str]]:
    """SUVs that were asked for beside SUVbw; a warning for each that this study has no data for."""
    found, warnings = {}, []
    for name in types:
        try:
            found[name] = suv_ratio(header, name)
            warnings += [f"SUV {name}: {warning}" for warning in found[name].warnings]
        except StudyError as error:
            warnings.append(f"no SUV {name}: {error}")
    return found, warnings


def _read_nifti(entry: dict[str, Any]) -> Images:
    (pet_file,) = (Path(file) for file in entry["pet"]["files"])
    ct_file = next((Path(file) for file in entry["ct"]["files"]), None)
    read = read_pet_and_ct(pet_file, ct_file, entry["layout"])
    told = {
        "units": "GML",
        "mode": "dicom",
        "factor": 1.0,
        "explanation": "NIfTI, the values are SUVbw already",
        "autopet_ratio": None,
        "autopet_note": "NIfTI has no DICOM attributes to convert by",
    }
    return Images(read.suv, read.grid, read.hounsfield, read.ct_grid, told, {}, read.warnings)


def _read_label(
    entry: dict[str, Any], images: Images, pattern: str | None
) -> tuple[np.ndarray, dict[str, Any] | None, list[str]]:
    stated = entry["label"]
    empty = np.zeros(images.grid.shape_zyx, np.uint8)
    if pattern is None:
        return empty, None, []
    if stated is None:
        return empty, None, ["no label: taken as free of lesions, as the settings say"]
    (file,) = (Path(path) for path in stated["files"])
    label: Label
    if stated["kind"] == "seg":
        label = read_seg(file, pattern, images.grid)
    elif stated["kind"] == "rtstruct":
        drawn_on = images.ct_grid if stated["refers_to"] == "ct" else images.grid
        if drawn_on is None:
            raise StudyError("the contours were drawn on a CT that is missing", str(file))
        label = read_rtstruct(file, pattern, drawn_on, images.grid)
    else:
        label = read_nifti_label(file, images.grid)
    told = {"kind": stated["kind"], "names": list(label.names), "refers_to": stated["refers_to"]}
    return label.mask, told, list(label.warnings)


def _ct_on_pet(images: Images, mode: str) -> tuple[np.ndarray, float]:
    if images.hounsfield is None or images.ct_grid is None:
        return np.full(images.grid.shape_zyx, HU_LOWEST, np.int16), 0.0
    resample = resample_ct_as_autopet if mode == "autopet" else resample_ct
    return resample(images.hounsfield, images.ct_grid, images.grid)


def resample_ct(hounsfield: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, float]:
    """CT numbers, int16 (Z, Y, X), from one grid to another, and the share of it they cover.

    Linear; -1024 HU where there is no CT. Raises StudyError if the two do not overlap.
    """
    # In float32: an integer result would be cut, not rounded.
    image = source.to_image(hounsfield)
    resampled = np.empty(target.shape_zyx, np.int16)
    outside = 0
    for z in range(0, target.shape_zyx[0], SLICES_AT_ONCE):
        slab = resampled[z : z + SLICES_AT_ONCE]
        grid = target.cut((z, 0, 0), (slab.shape[0], slab.shape[1], slab.shape[2]))
        values = grid.resample(image, sitk.sitkLinear, OUTSIDE_CT, sitk.sitkFloat32)
        uncovered = values == OUTSIDE_CT
        outside += int(np.count_nonzero(uncovered))
        values[uncovered] = HU_LOWEST
        np.copyto(slab, np.rint(values, out=values), casting="unsafe")
    covered = 1.0 - outside / resampled.size
    if covered == 0.0:
        raise StudyError("the CT and the PET do not overlap anywhere")
    return resampled, covered


def resample_ct_as_autopet(
    hounsfield: np.ndarray, source: Grid, target: Grid
) -> tuple[np.ndarray, float]:
    """The same as the autoPET challenge resamples it: by cubic splines, fill -1024 HU.

    A cubic spline overshoots at edges by up to a few hundred HU: these values are kept, rounded.
    The share covered counts centres of voxels between the outermost centres of the CT's.
    """
    mm_per_index = np.reshape(target.direction, (3, 3)) * target.spacing_xyz_mm
    index_per_mm = np.linalg.inv(np.reshape(source.direction, (3, 3)) * source.spacing_xyz_mm)
    matrix = (index_per_mm @ mm_per_index)[::-1, ::-1]  # of indices zyx
    offset = (index_per_mm @ np.subtract(target.origin_xyz_mm, source.origin_xyz_mm))[::-1]
    covered = _share_within(matrix, offset, target.shape_zyx, source.shape_zyx)
    if covered == 0.0:
        raise StudyError("the CT and the PET do not overlap anywhere")
    coefficients = ndimage.spline_filter(hounsfield, order=3, output=np.float32)
    values = ndimage.affine_transform(
        coefficients,
        matrix,
        offset,
        target.shape_zyx,
        output=np.float32,
        order=3,
        cval=HU_LOWEST,
        prefilter=False,
    )
    limits = np.iinfo(np.int16)
    np.clip(np.rint(values, out=values), limits.min, limits.max, out=values)
    return values.astype(np.int16), covered


def _share_within(
    matrix: np.ndarray, offset: np.ndarray, shape_zyx: Sequence[int], within_zyx: Sequence[int]
) -> float:
    """Of the indices of one array, the share that an affine map takes into another."""
    last = np.array(within_zyx) - 1
    inside = 0
    y, x = np.meshgrid(*(np.arange(n) for n in shape_zyx[1:]), indexing="ij")
    for z in range(shape_zyx[0]):
        index = np.stack([np.full(y.shape, z), y, x], axis=-1) @ matrix.T + offset
        inside += int(np.count_nonzero(np.all((index >= 0) & (index <= last), axis=-1)))
    return inside / float(np.prod(shape_zyx))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study-index", type=Path, required=True, help="entry of the index")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--download", type=Path, nargs="*", default=(), help="download.json")
    parser.add_argument("--output", type=Path, required=True, help="study.json")
    arguments = parser.parse_args()
    download = next(iter(arguments.download), None)
    convert_study(arguments.study_index, arguments.settings, arguments.output, download)


if __name__ == "__main__":
    with exit_on_error():
        main()
