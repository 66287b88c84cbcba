"""The training format: what a network reads of a study, without reading the volume.

A study on one grid is a folder with uncompressed arrays, opened memory-mapped:

    image.npy    (2, Z, Y, X) float16: CT in -1..1 and transformed SUV
    label.npy    (Z, Y, X) uint8: 1 where there is lesion
    lesions.npy  (N, 4) int32: lesion number and z, y, x of voxels in lesions
    uptake.npy   (N, 4) int32: the same for what is as hot as a lesion and is none
    grid.json    the geometry
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from petct.errors import damaged
from petct.grids import Grid, interpolate, interpolation_matrices
from petct.manifests import read_json, write_json

# Enough voxels of a large lesion or organ to centre patches all over it.
_VOXELS_PER_PART = 2000


@dataclass(frozen=True)
class StudyArrays:
    """A study on one grid, memory-mapped."""

    image: np.ndarray
    label: np.ndarray
    lesion_voxels: np.ndarray
    uptake_voxels: np.ndarray
    grid: Grid


def open_arrays(folder: Path) -> StudyArrays:
    """Open a study's arrays on one grid without reading them (writing to them changes no file)."""
    return StudyArrays(
        image=load_array(folder / "image.npy"),
        label=load_array(folder / "label.npy"),
        lesion_voxels=np.array(load_array(folder / "lesions.npy")),
        uptake_voxels=np.array(load_array(folder / "uptake.npy")),
        grid=Grid.from_json(read_json(folder / "grid.json")),
    )


def load_array(path: Path) -> np.ndarray:
    """An array, memory-mapped (writing to it changes no file); DamagedFileError if not whole."""
    try:
        return np.load(path, mmap_mode="c")
    except (ValueError, EOFError):
        raise damaged(path) from None


def save_arrays(
    folder: Path, image: np.ndarray, label: np.ndarray, uptake: np.ndarray, grid: Grid
) -> None:
    """Write a study's arrays on one grid; shapes and types as in the module's description.

    ``uptake`` is a (Z, Y, X) mask of what is hot without being a lesion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", image.astype(np.float16))
    np.save(folder / "label.npy", label.astype(np.uint8))
    np.save(folder / "lesions.npy", list_part_voxels(label, at_least_ml=0.0, grid=grid))
    np.save(folder / "uptake.npy", list_part_voxels(uptake, at_least_ml=1.0, grid=grid))
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
    resampled = np.zeros(target.shape_zyx, np.uint8)
    lesions, number = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, 2))
    found = []
    for lesion, box in enumerate(ndimage.find_objects(lesions, number), start=1):
        columns = [m[:, side] for m, side in zip(matrices, box, strict=True)]
        window = tuple(_extent(m, axis=0) for m in columns)
        # Of the window about one lesion: what all of them fill, and what this one fills.
        rows = [m[side] for m, side in zip(matrices, window, strict=True)]
        around = tuple(_extent(m, axis=1) for m in rows)
        part = [m[:, side] for m, side in zip(rows, around, strict=True)]
        resampled[window] |= interpolate(mask[around], part) >= 0.5
        found.append((window, interpolate(lesions[around] == lesion, part)))
    for window, share in found:
        if not resampled[window][share > 0].any():
            resampled[window][np.unravel_index(np.argmax(share), share.shape)] = 1
    return resampled


def _extent(weights: np.ndarray, axis: int) -> slice:
    """From a matrix's first row (``axis`` 0) or column (1) that is not zero to its last."""
    places = np.flatnonzero(weights.any(axis=1 - axis))
    return slice(int(places[0]), int(places[-1]) + 1)


def list_part_voxels(mask: np.ndarray, at_least_ml: float, grid: Grid) -> np.ndarray:
    """(N, 4) int32 rows of part number, z, y, x; large parts thinned evenly.

    A part is a component with 18-connectivity, as in the autoPET metrics, of some volume.
    """
    parts, number = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, 2))
    rows = [np.zeros((0, 4), np.int32)]
    for part, box in enumerate(ndimage.find_objects(parts, number), start=1):
        voxels = np.argwhere(parts[box] == part) + [side.start for side in box]
        if len(voxels) * grid.voxel_ml >= at_least_ml:
            every = -(-len(voxels) // _VOXELS_PER_PART)
            rows.append(np.insert(voxels[::every], 0, part, axis=1).astype(np.int32))
    return np.concatenate(rows)
