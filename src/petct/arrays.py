"""The training format: what a network reads of a study, without reading the volume.

A study on one grid is a folder with uncompressed arrays, opened memory-mapped:

    image.npy    (2, Z, Y, X) float16: CT in -1..1 and transformed SUV
    label.npy    (Z, Y, X) uint8: 1 where there is lesion
    lesions.npy  (N, 4) int32: lesion number and z, y, x of voxels in lesions
    grid.json    the geometry
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from petct.grids import Grid, interpolate, interpolation_matrices
from petct.manifests import read_json, write_json

# Enough voxels of a large lesion to centre patches all over it.
_VOXELS_PER_LESION = 2000


@dataclass(frozen=True)
class StudyArrays:
    """A study on one grid, memory-mapped."""

    image: np.ndarray
    label: np.ndarray
    lesion_voxels: np.ndarray
    grid: Grid


def open_arrays(folder: Path) -> StudyArrays:
    """Open a study's arrays on one grid without reading them."""
    return StudyArrays(
        image=np.load(folder / "image.npy", mmap_mode="r"),
        label=np.load(folder / "label.npy", mmap_mode="r"),
        lesion_voxels=np.load(folder / "lesions.npy"),
        grid=Grid.from_json(read_json(folder / "grid.json")),
    )


def save_arrays(folder: Path, image: np.ndarray, label: np.ndarray, grid: Grid) -> None:
    """Write a study's arrays on one grid; shapes and types as in the module's description."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", image.astype(np.float16))
    np.save(folder / "label.npy", label.astype(np.uint8))
    np.save(folder / "lesions.npy", list_lesion_voxels(label))
    write_json(folder / "grid.json", grid.to_json())


def normalise_ct(ct_hu: np.ndarray, limit_hu: float) -> np.ndarray:
    """Clamp to ±limit and scale to ±1."""
    return np.clip(ct_hu / limit_hu, -1.0, 1.0)


def transform_suv(suv: np.ndarray, transform: str) -> np.ndarray:
    """SUV as a network reads it.

    ``log``: ln(1 + SUV), which keeps faint lesions apart from background and bounds hot organs.
    ``linear``: SUV / 10. ``zscore``: less the study's mean, by its standard deviation.
    """
    positive = np.maximum(suv, 0.0)
    if transform == "log":
        return np.log1p(positive)
    if transform == "linear":
        return positive / 10.0
    if transform == "zscore":
        return (suv - suv.mean()) / max(float(suv.std()), 1e-6)
    raise ValueError(f"unknown SUV transform {transform!r}: log, linear or zscore")


def resample_mask(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A 0/1 (Z, Y, X) mask on another grid: uint8, 1 where at least half a voxel is filled.

    A lesion too small for that keeps the voxel which it fills most, so that none disappears.
    """
    matrices = interpolation_matrices(source, target)
    resampled = (interpolate(mask, matrices) >= 0.5).astype(np.uint8)
    lesions, number = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, 2))
    for lesion, box in enumerate(ndimage.find_objects(lesions, number), start=1):
        columns = [m[:, side] for m, side in zip(matrices, box, strict=True)]
        rows = [np.flatnonzero(m.any(axis=1)) for m in columns]
        window = tuple(slice(row[0], row[-1] + 1) for row in rows)
        part = [m[side] for m, side in zip(columns, window, strict=True)]
        share = interpolate(lesions[box] == lesion, part)
        if not resampled[window][share > 0].any():
            resampled[window][np.unravel_index(np.argmax(share), share.shape)] = 1
    return resampled


def list_lesion_voxels(label: np.ndarray) -> np.ndarray:
    """(N, 4) int32 rows of lesion number, z, y, x; large lesions thinned evenly.

    A lesion is a component with 18-connectivity, as in the autoPET metrics.
    """
    lesions, number = ndimage.label(label, structure=ndimage.generate_binary_structure(3, 2))
    rows = [np.zeros((0, 4), np.int32)]
    for lesion, box in enumerate(ndimage.find_objects(lesions, number), start=1):
        voxels = np.argwhere(lesions[box] == lesion) + [side.start for side in box]
        every = -(-len(voxels) // _VOXELS_PER_LESION)
        rows.append(np.insert(voxels[::every], 0, lesion, axis=1).astype(np.int32))
    return np.concatenate(rows)
