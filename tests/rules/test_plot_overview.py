"""The README's picture: its shape, and a folder without images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid
from plot_overview import plot_overview

GRID = Grid((40, 20, 20), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))


def test_picture_has_the_proportions_of_the_study(tmp_path: Path) -> None:
    suv, mask = np.ones(GRID.shape_zyx, np.float32), np.zeros(GRID.shape_zyx, np.uint8)
    mask[30:34, 8:10, 2:6] = 1
    sitk.WriteImage(GRID.to_image(suv), tmp_path / "suv.nii.gz")
    sitk.WriteImage(GRID.to_image(mask), tmp_path / "lesions.nii.gz")
    plot_overview(tmp_path, {"suv_window": 8.0}, tmp_path / "picture.png")
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "picture.png")).astype(int)
    # 200 mm high and 80 mm wide, 4.4 pixels to the millimetre.
    assert pixels.shape[:2] == (880, 352)
    coloured = np.argwhere(np.ptp(pixels[..., :3], axis=-1) > 60)
    # 150 to 170 mm above the feet, 8 to 24 mm from the patient's right.
    assert coloured.min(axis=0).tolist() == pytest.approx([880 - 170 * 4.4, 8 * 4.4], abs=3)
    assert coloured.max(axis=0).tolist() == pytest.approx([880 - 150 * 4.4, 24 * 4.4], abs=3)


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match=r"no image at .*suv\.nii\.gz, expected a converted study"):
        plot_overview(tmp_path, {"suv_window": 8.0}, tmp_path / "picture.png")
