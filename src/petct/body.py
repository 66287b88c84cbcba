"""The box around a patient's body, so that air is neither stored nor searched."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petct.grids import Grid


def find_body_box(
    suv: np.ndarray,
    ct_hu: np.ndarray,
    grid: Grid,
    ct_above_hu: float,
    suv_above: float,
    margin_mm: float,
) -> tuple[slice, slice, slice] | None:
    """Slices (z, y, x) of the body in (Z, Y, X) arrays, with a margin; None if there is no body.

    The body is what the CT shows and what the PET shows, since arms may leave the field of the
    CT, and a PET may have no uptake to speak of in a limb. Both are smoothed over 10 mm, so that
    neither noise nor the blanket counts; the CT's largest connected part leaves out the table's
    rails. What the PET shows counts where it fills more than 50 mL, lesions of the hand included.
    """
    step = [max(1, round(4.0 / s)) for s in grid.spacing_zyx_mm]
    thin = tuple(slice(None, None, n) for n in step)
    spacing_mm = np.array(grid.spacing_zyx_mm) * step
    sigma = 10.0 / 2.355 / spacing_mm
    ct_mask = ndimage.gaussian_filter(ct_hu[thin].astype(np.float32), sigma) > ct_above_hu
    suv_mask = ndimage.gaussian_filter(suv[thin].astype(np.float32), sigma) > suv_above
    body = _keep_parts(ct_mask, at_least=max(1, _largest_part(ct_mask)))
    body |= _keep_parts(suv_mask, at_least=int(np.ceil(50_000.0 / np.prod(spacing_mm))))
    if not body.any():
        return None
    box = []
    for axis, n in enumerate(grid.shape_zyx):
        filled = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(margin_mm / grid.spacing_zyx_mm[axis]))
        low = max(0, int(filled[0]) * step[axis] - margin)
        high = min(n, (int(filled[-1]) + 1) * step[axis] + margin)
        box.append(slice(low, high))
    return box[0], box[1], box[2]


def _part_sizes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts, sizes


def _largest_part(mask: np.ndarray) -> int:
    return int(_part_sizes(mask)[1].max(initial=0))


def _keep_parts(mask: np.ndarray, at_least: int) -> np.ndarray:
    parts, sizes = _part_sizes(mask)
    return (sizes >= at_least)[parts] & mask
