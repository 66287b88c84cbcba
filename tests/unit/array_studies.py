"""Small studies for tests: a box of tissue with bright boxes in it, from conversion to predictions.

On the native grid a body of 0 HU and SUV 1 fills ``BODY`` in air; a lesion or a hot organ is a box
of it, rows of start and stop (z0, y0, x0, z1, y1, x1), with an SUV of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml

from petct.arrays import StudyArrays, list_part_voxels
from petct.grids import Grid
from petct.manifests import digest_arrays, write_json
from resample_study import resample_study

Box = tuple[int, int, int, int, int, int]

CONFIG: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "config" / "config.yaml").read_text()
)
TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
NATIVE = Grid((26, 30, 28), (4.0, 4.0, 5.0), (-31.0, 17.0, 203.0), TURNED)
BODY: Box = (5, 6, 4, 21, 26, 24)
LESION_SUV, ORGAN_SUV = 8.0, 6.0

PREPROCESSING: dict[str, Any] = CONFIG["preprocessing"] | {
    "unusable_study": "exclude",
    "grids": {
        "coarse": {"spacing_zyx_mm": [8.0, 8.0, 8.0]},
        "fine": {"spacing_zyx_mm": [4.0, 4.0, 4.0]},
    },
    "body": {"ct_above_hu": -500.0, "suv_above": 0.15, "margin_mm": 8.0},
    "uptake_above_suv": 2.5,
    "suv_transform": "log",
}
TRAINING: dict[str, Any] = CONFIG["training"] | {
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "initial_probability": 0.05,
    "lesion_share": 0.5,
    "uptake_share": 0.0,
    "validation_share": 0.0,
    "validation_patches": 4,
    "learning_rate": 0.01,
    "minimum_learning_rate": 0.0,
    "restart_epochs": 10,
    "warmup_steps": 0,
    "precision": "float32",
    "augmentation_engine": "torch",
    "augmentation": {},
}
BODY_STRATEGY: dict[str, Any] = {
    "grid": "fine",
    "regions": "body",
    "coarse": None,
    "prior": False,
    "patch_zyx": [16, 16, 16],
}
BOX_STRATEGY = BODY_STRATEGY | {"regions": "boxes", "coarse": "coarse", "prior": True}
# What a rule tells train_network: enough steps to learn that the brightest voxels are lesion.
MODEL_SETTINGS: dict[str, Any] = {
    "experiment": {"strategy": "one_step", "model": "tiny", "cohort": "all"},
    "strategy": BODY_STRATEGY,
    "network": "UNet",
    "arguments": {"channels": [4, 8], "strides": [2], "num_res_units": 0},
    "training": TRAINING
    | {"epochs": 3, "steps_per_epoch": 20, "learning_rate": 0.02, "validation_share": 0.34},
    "seed": 4,
}


def fill(shape_zyx: tuple[int, ...], *boxes: Box) -> np.ndarray:
    """A (Z, Y, X) uint8 mask, 1 inside the boxes."""
    mask = np.zeros(shape_zyx, np.uint8)
    for z0, y0, x0, z1, y1, x1 in boxes:
        mask[z0:z1, y0:y1, x0:x1] = 1
    return mask


def make_arrays(
    grid: Grid, lesions: list[Box], organs: list[Box] | None = None, seed: int = 0
) -> StudyArrays:
    """A study on one grid, in memory: noise of 0.1 around 0, lesions at 2, hot organs at 1."""
    label, uptake = fill(grid.shape_zyx, *lesions), fill(grid.shape_zyx, *(organs or []))
    image = 0.1 * np.random.default_rng(seed).standard_normal((2, *grid.shape_zyx))
    image[1] += 2.0 * label + uptake
    return StudyArrays(
        image=image.astype(np.float16),
        label=label,
        lesion_voxels=list_part_voxels(label, at_least_ml=0.0, grid=grid),
        uptake_voxels=list_part_voxels(uptake, at_least_ml=0.0, grid=grid),
        grid=grid,
    )


def write_converted(
    folder: Path,
    study: str,
    lesions: list[Box],
    organs: list[Box] | None = None,
    patient: str | None = None,
    body: Box = BODY,
) -> Path:
    """``folder/<study>/study.json`` and its images, as convert_study writes them."""
    label = fill(NATIVE.shape_zyx, *lesions)
    tissue = fill(NATIVE.shape_zyx, body)
    suv = tissue.astype(np.float32)
    suv[fill(NATIVE.shape_zyx, *(organs or [])) > 0] = ORGAN_SUV
    suv[label > 0] = LESION_SUV
    ct_hu = np.where(tissue > 0, 0, -1000).astype(np.int16)
    (folder / study).mkdir(parents=True)
    for name, array in (("suv", suv), ("ct", ct_hu), ("lesions", label)):
        sitk.WriteImage(NATIVE.to_image(array), folder / study / f"{name}.nii.gz")
    manifest = folder / study / "study.json"
    write_json(
        manifest,
        {
            "study": study,
            "patient": patient or study,
            "status": "converted",
            "positive": bool(lesions),
            "lesion_ml": float(label.sum() * NATIVE.voxel_ml),
            "digest": digest_arrays(suv, ct_hu, label, geometry=NATIVE.to_json()),
        },
    )
    return manifest


def write_excluded(folder: Path, study: str, reason: str, file: str) -> Path:
    """``folder/<study>/study.json`` of a study that convert_study could not use."""
    manifest = folder / study / "study.json"
    write_json(
        manifest,
        {
            "study": study,
            "patient": study,
            "status": "excluded",
            "step": "convert_study",
            "reason": reason,
            "file": file,
        },
    )
    return manifest


def write_resampled(root: Path, study: str, lesions: list[Box], **more: Any) -> Path:
    """The study in ``root/resample_study``, which is returned."""
    converted = write_converted(root / "convert_study", study, lesions, **more)
    resampled = root / "resample_study"
    resample_study(converted, PREPROCESSING, resampled / study / "study.json")
    return resampled


def write_cohort(path: Path, fold_of: dict[str, int], negative: tuple[str, ...] = ()) -> Path:
    """A list of studies as select_cohort writes it, one patient each."""
    rows = ["study\tpatient\tpositive\tfold\ttrains\tlesion_ml\tdigest"]
    for study, fold in fold_of.items():
        rows.append(f"{study}\t{study}\t{study not in negative}\t{fold}\tTrue\t1.0\td-{study}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def write_predictions(path: Path, grid: Grid, probabilities: dict[str, np.ndarray]) -> Path:
    """Coarse predictions as predict_network writes them, as far as others read them."""
    entries = {}
    for study, probability in probabilities.items():
        (path.parent / study).mkdir(parents=True, exist_ok=True)
        np.save(path.parent / study / "probability.npy", probability.astype(np.float16))
        entries[study] = {
            "probability": f"{study}/probability.npy",
            "grid": grid.to_json(),
            "digest": digest_arrays(probability),
        }
    write_json(path, {"studies": entries})
    return path


def write_regions(path: Path, boxes: dict[str, list[Box]], reference: dict[str, list[Box]]) -> Path:
    """Boxes as locate_regions writes them."""
    studies = {
        study: {
            "boxes_zyx": boxes[study],
            "reference_boxes_zyx": reference.get(study, []),
            "origin": "clusters" if boxes[study] else "nothing",
        }
        for study in boxes
    }
    write_json(path, {"studies": studies})
    return path
