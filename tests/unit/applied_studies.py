"""A new study of a few voxels at every step of apply, without networks: what each step leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petct.grids import Grid
from petct.image_files import save_volume
from petct.manifests import write_json

SHAPE = (12, 14, 16)
GRID = Grid(SHAPE, (4.0, 4.0, 5.0), (-30.0, -20.0, 100.0))
STUDY = "study-1"
# Two lesions: 2 x 2 x 2 voxels of SUV 6 to the patient's left, one voxel of SUV 9 to the right.
LARGE, SMALL = (slice(2, 4), slice(5, 7), slice(12, 14)), (9, 5, 2)

PACKAGE: dict[str, Any] = {
    "format": 1,
    "dataset": "made_up",
    "experiment": {"strategy": "one_step", "model": "unet", "cohort": "all"},
    "stages": [{"name": "final", "folds": [0, 1]}],
    "data": {
        "suv_max": [5.0, 20.0],
        "ct_covers_pet_share": [0.6, 0.9],
        "pet_spacing_zyx_mm": [[5.0, 4.0, 4.0], [5.0, 4.0, 4.0]],
        "training_studies": 4,
    },
    "calibration": [[0.0, 0.0], [0.5, 0.25], [1.0, 0.75]],
    "files": {},
}
SETTINGS: dict[str, Any] = {
    "connectivity": 18,
    "body_above_suv": 0.15,
    "disagreement": 0.7,
}


@dataclass(frozen=True)
class Applied:
    """Paths of the manifests."""

    converted: Path
    resampled: Path
    predictions: Path
    package: Path


def lesion_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[LARGE] = mask[SMALL] = 1
    return mask


def body_suv() -> np.ndarray:
    """SUV 1 in the body, which leaves two voxels of air all around, and hot lesions."""
    suv = np.zeros(SHAPE, np.float32)
    suv[1:11, 2:12, 2:14] = 1.0
    suv[LARGE], suv[SMALL] = 6.0, 9.0
    return suv


def make_applied(
    folder: Path,
    folds: list[np.ndarray] | None = None,
    probability: float = 0.75,
    **changes: Any,
) -> Applied:
    """A study converted, resampled on its own grid, and predicted by ``folds`` (masks).

    By default both see both lesions. Their mean is the first of them, at ``probability``.
    ``changes`` are of convert_study's manifest.
    """
    converted = folder / f"convert_study/{STUDY}/study.json"
    converted.parent.mkdir(parents=True)
    save_volume(body_suv(), GRID, converted.parent / "suv.nii.gz")
    save_volume(np.zeros(SHAPE, np.int16), GRID, converted.parent / "ct.nii.gz")
    told = {
        "suv_max": 9.0, "warnings": [], "ct": {"covers_pet_share": 1.0},
        "pet": {"spacing_xyz_mm": [4.0, 4.0, 5.0], "direction": list(GRID.direction)},
    }  # fmt: skip
    write_json(converted, told | changes)
    resampled = folder / f"resample_study/{STUDY}/study.json"
    whole = {"body_start_zyx": [0, 0, 0], "body_stop_zyx": list(SHAPE)}
    named = {"study": STUDY, "patient": "P1", "status": "resampled"}
    write_json(resampled, named | whole | {"native": GRID.to_json()})
    masks = folds or [lesion_mask(), lesion_mask()]
    beside = folder / "predict_studies"
    (beside / STUDY).mkdir(parents=True)
    np.save(beside / STUDY / "probability.npy", (masks[0] * probability).astype(np.float16))
    for name, mask in zip(["lesions", "fold-0", "fold-1"], [masks[0], *masks], strict=True):
        save_volume(mask, GRID, beside / STUDY / f"{name}.nii.gz")
    entry = {
        "mask": f"{STUDY}/lesions.nii.gz", "probability": f"{STUDY}/probability.npy",
        "grid": GRID.to_json(), "folds": [f"{STUDY}/fold-{n}.nii.gz" for n in (0, 1)],
    }  # fmt: skip
    write_json(beside / "predictions.json", {"studies": {STUDY: entry}})
    write_json(folder / "package/package.json", PACKAGE)
    return Applied(
        converted, resampled, beside / "predictions.json", folder / "package/package.json"
    )


def make_excluded(folder: Path) -> Applied:
    """A study that was left out while it was converted."""
    applied = make_applied(folder)
    reason = {"study": STUDY, "patient": "P1", "status": "excluded", "reason": "the PET is empty"}
    write_json(applied.resampled, reason)
    return applied
