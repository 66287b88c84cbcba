"""What a prediction leaves on disk, whichever network made it, and how others read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid, restore_native
from petct.manifests import digest_arrays, read_json

# A manifest's entries by study, each with the folder that its paths are relative to.
Entries = dict[str, tuple[Path, dict[str, Any]]]


def save_prediction(
    probability: np.ndarray,
    grid: Grid,
    resampled: dict[str, Any],
    threshold: float,
    folder: Path,
    boxes: int,
    seconds: float,
) -> dict[str, Any]:
    """Write probability.npy (Z, Y, X) on ``grid`` and lesions.nii.gz on the native PET grid.

    ``resampled`` is the study's manifest of resample_study; a voxel is lesion where its native
    probability is above ``threshold``. Returns the study's entry of predictions.json, whose paths
    are relative to ``folder``'s parent, and tells of it in one line.
    """
    probability = probability.astype(np.float16)
    native = Grid.from_json(resampled["native"])
    whole = restore_native(
        probability, grid, native, resampled["body_start_zyx"], resampled["body_stop_zyx"]
    )
    mask = (whole > threshold).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "probability.npy", probability)
    sitk.WriteImage(native.to_image(mask), folder / "lesions.nii.gz", useCompression=True)
    volume_ml = mask.sum() * native.voxel_ml
    print(f"{folder.name}: {volume_ml:.1f} mL in {seconds:.1f} s", flush=True)
    return {
        "mask": f"{folder.name}/lesions.nii.gz",
        "probability": f"{folder.name}/probability.npy",
        "grid": grid.to_json(),
        "boxes": boxes,
        "digest": digest_arrays(probability, mask, geometry=native.to_json()),
    }


def merge_entries(manifests: list[Path]) -> Entries:
    """The entries of predictions.json or regions.json files that together cover the studies."""
    merged = {}
    for path in manifests:
        for study, entry in read_json(path)["studies"].items():
            merged[study] = (path.parent, entry)
    return merged


def find_entry(entries: Entries, study: str, what: str) -> tuple[Path, dict[str, Any]]:
    """A study's entry and its manifest's folder; ``what`` names the entries in the error."""
    if study not in entries:
        raise PetctError(
            f"study {study} has no {what}; these are there: {', '.join(sorted(entries))}"
        )
    return entries[study]


def read_probability(predictions: Entries, study: str, what: str) -> tuple[np.ndarray, Grid]:
    """A study's probability (Z, Y, X), memory-mapped, and its grid; ``what`` names it in errors."""
    folder, entry = find_entry(predictions, study, what)
    return np.load(folder / entry["probability"], mmap_mode="r"), Grid.from_json(entry["grid"])
