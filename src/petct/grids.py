"""Where voxels lie: a grid in patient space, and the ways from one grid to another.

Arrays are (Z, Y, X); world coordinates are LPS millimetres, as in DICOM and SimpleITK.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

# Indices or sizes along z, y and x.
Index = tuple[int, int, int]
# Of a block in which a probability is carried to the native grid.
_PLANES = 16

_SLICES_AT_ONCE = 8  # that are interpolated


@dataclass(frozen=True)
class Grid:
    """The geometry of a (Z, Y, X) array.

    ``origin_xyz_mm`` is the centre of the first voxel. ``direction`` is a row-major 3 x 3 matrix
    whose columns are the unit vectors of the x, y and z index axes, as in SimpleITK.
    """

    shape_zyx: tuple[int, int, int]
    spacing_xyz_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @classmethod
    def from_image(cls, image: sitk.Image | sitk.ImageFileReader) -> Grid:
        nx, ny, nz = image.GetSize()
        return cls((nz, ny, nx), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Grid:
        return cls(**{key: tuple(item) for key, item in value.items()})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        x, y, z = self.spacing_xyz_mm
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_xyz_mm)) / 1000.0

    def to_image(self, array: np.ndarray) -> sitk.Image:
        """A SimpleITK image of a (Z, Y, X) array on this grid."""
        image = sitk.GetImageFromArray(array)
        if tuple(array.shape) != tuple(self.shape_zyx):
            raise ValueError(f"array {array.shape} does not fit the grid {self.shape_zyx}")
        image.SetSpacing(self.spacing_xyz_mm)
        image.SetOrigin(self.origin_xyz_mm)
        image.SetDirection(self.direction)
        return image

    def resample(
        self, image: sitk.Image, interpolator: int, outside: float, pixel_type: int
    ) -> np.ndarray:
        """An image's values on this grid, (Z, Y, X), and ``outside`` where it has none."""
        size = [int(n) for n in self.shape_zyx[::-1]]
        place = self.origin_xyz_mm, self.spacing_xyz_mm, self.direction
        moved = sitk.Resample(
            image, size, sitk.Transform(), interpolator, *place, outside, pixel_type
        )
        return sitk.GetArrayFromImage(moved)

    def cut(self, start_zyx: tuple[int, int, int], shape_zyx: tuple[int, int, int]) -> Grid:
        """The grid of ``array[start : start + shape]``; ``start`` may be negative."""
        corner = self.locate_index(start_zyx)
        return Grid(shape_zyx, self.spacing_xyz_mm, corner, self.direction)

    def locate_index(self, index_zyx: tuple[float, float, float]) -> tuple[float, float, float]:
        """World position (LPS mm) of a voxel index, which may be fractional."""
        steps_xyz_mm = np.array(index_zyx[::-1]) * self.spacing_xyz_mm
        axes = np.array(self.direction).reshape(3, 3)
        x, y, z = np.array(self.origin_xyz_mm) + axes @ steps_xyz_mm
        return float(x), float(y), float(z)

    def respace(self, spacing_zyx_mm: tuple[float, float, float]) -> Grid:
        """A grid of another spacing with the same outer corner, covering at least this one."""
        extent_zyx_mm = np.array(self.shape_zyx) * self.spacing_zyx_mm
        z, y, x = (int(n) for n in np.ceil(extent_zyx_mm / spacing_zyx_mm - 1e-6))
        shift_zyx = (np.array(spacing_zyx_mm) / self.spacing_zyx_mm - 1.0) / 2.0
        corner = self.locate_index((shift_zyx[0], shift_zyx[1], shift_zyx[2]))
        sz, sy, sx = spacing_zyx_mm
        return Grid((z, y, x), (sx, sy, sz), corner, self.direction)


def interpolation_matrices(source: Grid, target: Grid) -> list[np.ndarray]:
    """Three matrices (target n, source n), for z, y and x, that carry an array between two grids.

    Both grids must share their directions. Each weight is a triangle as wide as the coarser of
    the two spacings: linear interpolation on the way to a finer grid, an average without aliasing
    on the way to a coarser one. Rows sum to one; beyond its edge the source is continued.
    """
    if not np.allclose(source.direction, target.direction, atol=1e-4):
        raise ValueError(f"grids differ in direction: {source.direction}, {target.direction}")
    axes = np.array(source.direction).reshape(3, 3)
    offset_xyz_mm = axes.T @ (np.array(target.origin_xyz_mm) - np.array(source.origin_xyz_mm))
    matrices = []
    for axis, offset_mm in enumerate(offset_xyz_mm[::-1]):
        step = target.spacing_zyx_mm[axis] / source.spacing_zyx_mm[axis]
        start = offset_mm / source.spacing_zyx_mm[axis]
        last = source.shape_zyx[axis] - 1
        centre = np.clip(start + step * np.arange(target.shape_zyx[axis]), 0, last)
        distance = np.abs(centre[:, None] - np.arange(last + 1)[None, :])
        weight = np.maximum(0.0, 1.0 - distance / max(1.0, step))
        matrices.append((weight / weight.sum(axis=1, keepdims=True)).astype(np.float32))
    return matrices


def interpolate(array: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """Apply the matrices of `interpolation_matrices` to a (Z, Y, X) array: float32.

    Some slices at a time, each from the few that it is made of: a matrix is zero but for a band.
    """
    along_z, along_y, along_x = matrices
    result = np.empty((len(along_z), len(along_y), len(along_x)), np.float32)
    for start in range(0, len(along_z), _SLICES_AT_ONCE):
        rows = along_z[start : start + _SLICES_AT_ONCE]
        used = np.flatnonzero(rows.any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1)
        source = np.asarray(array[band], dtype=np.float32)
        slabs = rows[:, band] @ source.reshape(len(source), -1)
        slabs = slabs.reshape(-1, *source.shape[1:])
        np.matmul(along_y @ slabs, along_x.T, out=result[start : start + _SLICES_AT_ONCE])
    return result


def interpolate_window(
    array: np.ndarray,
    matrices: list[np.ndarray],
    start_zyx: tuple[int, int, int],
    shape_zyx: tuple[int, int, int],
) -> np.ndarray:
    """The window ``start : start + shape`` of ``interpolate(array, matrices)``, and no more work.

    Only the part of ``array`` under the window is read, so it may lie on disk.
    """
    rows = [m[s : s + n] for m, s, n in zip(matrices, start_zyx, shape_zyx, strict=True)]
    columns = []
    for matrix in rows:
        used = np.flatnonzero(matrix.any(axis=0))
        columns.append(slice(int(used[0]), int(used[-1]) + 1))
    part = [matrix[:, column] for matrix, column in zip(rows, columns, strict=True)]
    return interpolate(array[tuple(columns)], part)


def restore_native(
    probability: np.ndarray, grid: Grid, native: Grid, body_start_zyx: Index, body_stop_zyx: Index
) -> np.ndarray:
    """Carry a probability to the whole native PET grid, 0 outside the body's box."""
    shape = tuple(b - a for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))
    cut = native.cut(body_start_zyx, (shape[0], shape[1], shape[2]))
    whole = np.zeros(native.shape_zyx, np.float32)
    inside = tuple(slice(a, b) for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))
    whole[inside] = interpolate(probability, interpolation_matrices(grid, cut))
    return whole


def restore_mask(
    probability: np.ndarray,
    grid: Grid,
    native: Grid,
    body_start_zyx: Index,
    body_stop_zyx: Index,
    threshold: float,
) -> np.ndarray:
    """Where ``restore_native`` is above a positive threshold: uint8 (Z, Y, X), block by block.

    What it gives is a mean of neighbours, so that only blocks where one of these reaches the
    threshold are interpolated, and of them only the part around it.
    """
    z, y, x = (b - a for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))
    matrices = interpolation_matrices(grid, native.cut(body_start_zyx, (z, y, x)))
    mask = np.zeros(native.shape_zyx, np.uint8)
    inside = mask[tuple(slice(a, b) for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))]
    high = probability >= np.float32(threshold)
    for first in range(0, z, _PLANES):
        planes = slice(first, min(first + _PLANES, z))
        slab = high[matrices[0][planes].any(axis=0)]
        if not slab.any():
            continue
        rows = np.flatnonzero(matrices[1][:, slab.any(axis=(0, 2))].any(axis=1))
        columns = np.flatnonzero(matrices[2][:, slab.any(axis=(0, 1))].any(axis=1))
        start = (first, int(rows[0]), int(columns[0]))
        stop = (planes.stop, int(rows[-1]) + 1, int(columns[-1]) + 1)
        shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        inside[window] = interpolate_window(probability, matrices, start, shape) > threshold
    return mask
