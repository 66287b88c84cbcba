"""Crop a converted study to the body and put it on each grid, in the training format."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from petct.arrays import normalise_ct, open_arrays, resample_mask, save_arrays, transform_suv
from petct.body import find_body_box
from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.grids import interpolate, interpolation_matrices
from petct.image_files import load_volume
from petct.manifests import digest_arrays, read_json, write_json


def resample_study(study: Path, settings: dict[str, Any], output: Path) -> None:
    """Write ``<grid>/image.npy`` ... beside ``output``, then ``output`` itself.

    ``study`` is the manifest of convert_study; an excluded study passes through as it is.
    """
    manifest = read_json(study)
    if manifest["status"] != "converted":
        write_json(output, manifest)
        return
    output.unlink(missing_ok=True)
    suv, native = load_volume(study.parent / "suv.nii.gz")
    ct_hu, _ = load_volume(study.parent / "ct.nii.gz")
    lesions, _ = load_volume(study.parent / "lesions.nii.gz")
    result = {key: manifest[key] for key in ("study", "patient", "positive", "lesion_ml")}

    body = settings["body"]
    box = find_body_box(
        suv, ct_hu, native, body["ct_above_hu"], body["suv_above"], body["margin_mm"]
    )
    if box is None or not (suv > body["suv_above"]).any():
        reason = f"the PET is empty: nothing above SUV {body['suv_above']}"
        if box is None:
            reason = (
                f"no body found: nothing above {body['ct_above_hu']} HU in the CT"
                f" nor above SUV {body['suv_above']} in the PET"
            )
        if settings["unusable_study"] == "stop":
            raise PetctError(f"{manifest['study']}: {reason}")
        excluded = {"status": "excluded", "step": "resample_study", "reason": reason}
        write_json(output, result | excluded | {"file": str(study)})
        return
    box = include_lesions(box, lesions)
    cut = native.cut(
        (box[0].start, box[1].start, box[2].start),
        (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start),
    )
    digests = [manifest["digest"], [(side.start, side.stop) for side in box]]
    for name, grid_settings in sorted(settings["grids"].items()):
        z, y, x = grid_settings["spacing_zyx_mm"]
        grid = cut.respace((z, y, x))
        matrices = interpolation_matrices(cut, grid)
        suv_on_grid = interpolate(suv[box], matrices)
        channels = [
            normalise_ct(interpolate(ct_hu[box], matrices), settings["ct_limit_hu"]),
            transform_suv(suv_on_grid, settings["suv_transform"]),
        ]
        image = np.stack(channels).astype(np.float16)
        label = resample_mask(lesions[box], cut, grid)
        folder = output.parent / name
        shutil.rmtree(folder, ignore_errors=True)
        uptake = (suv_on_grid > settings["uptake_above_suv"]) & (label == 0)
        save_arrays(folder, image, label, uptake, grid)
        # Of all that a network reads: lists of studies carry it, and training hangs on them.
        saved = open_arrays(folder)
        parts = (saved.image, saved.label, saved.lesion_voxels, saved.uptake_voxels)
        digests.append(digest_arrays(*parts, geometry=grid.to_json()))
    result |= {
        "status": "resampled",
        "native": native.to_json(),
        "body_start_zyx": [side.start for side in box],
        "body_stop_zyx": [side.stop for side in box],
        "grids": sorted(settings["grids"]),
        "digest": digest_arrays(geometry=digests),
    }
    write_json(output, result)


def include_lesions(
    box: tuple[slice, slice, slice], lesions: np.ndarray
) -> tuple[slice, slice, slice]:
    """Widen a box so that no labelled voxel lies outside it (a label may reach into the air)."""
    if not lesions.any():
        return box
    (filled,) = ndimage.find_objects(lesions, max_label=1)
    sides = [
        slice(min(side.start, own.start), max(side.stop, own.stop))
        for side, own in zip(box, filled, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    resample_study(arguments.study, arguments.settings, arguments.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
