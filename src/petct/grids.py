"""Where voxels lie: a grid in patient space, and the ways from one grid to another.

Arrays are (Z, Y, X); world coordinates are LPS millimetres, as in DICOM and SimpleITK.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk


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
    def from_image(cls, image: sitk.Image) -> Grid:
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
