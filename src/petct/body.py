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
    fewest = int(np.ceil(50_000.0 / np.prod(spacing_mm)))
    body = _find_parts(ct_hu[thin], sigma, ct_above_hu, None)
    body |= _find_parts(suv[thin], sigma, suv_above, fewest)
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


def _find_parts(
    values: np.ndarray, sigma: np.ndarray, above: float, at_least: int | None
) -> np.ndarray:
    """Connected parts of what, smoothed, is above a value: the large ones, or the largest alone."""
    mask = ndimage.gaussian_filter(values.astype(np.float32), sigma) > above
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts[mask], minlength=1)
    most = int(sizes.max())
    return (sizes >= (max(1, most) if at_least is None else at_least))[parts] & mask
