"""What a page needs to show a study in NiiVue: its program, and volumes small enough to travel.

NiiVue (https://niivue.com) draws in the browser, by WebGL. Its Python package, ipyniivue, carries
it whole for the pages that it saves: an ES module, encoded as for a URL, in its widget's script.
"""

from __future__ import annotations

import base64
import gzip
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import nibabel
import numpy as np

from petct.errors import PetctError
from petct.grids import Grid

# Voxels are joined until they are about this large.
SHOWN_MM = 4.0
SUV_STEP = 0.01  # g/mL, of the 16-bit numbers that SUVs travel as
_LEVEL = 6
_ENCODED = re.compile(r"[A-Za-z0-9%\-_.!~*'()]{500000,}")
_EXPORTS = re.compile(r"export\{[^}]*\bNVImage\b[^}]*\bNiivue\b[^}]*\};?\s*$")


def read_niivue() -> str:
    """NiiVue as the text of an ES module that exports Niivue, NVImage and SLICE_TYPE.

    Raises PetctError if the installed ipyniivue does not carry it as this version expects.
    """
    spec = find_spec("ipyniivue")
    if spec is None or spec.origin is None:
        raise PetctError("ipyniivue, which brings the viewer, is not installed: see envs/")
    script = Path(spec.origin).parent / "static/widget.js"
    encoded = _ENCODED.findall(script.read_text()) if script.is_file() else []
    module = unquote(max(encoded, key=len)) if encoded else ""
    if not _EXPORTS.search(module):
        raise PetctError(
            f"{script} does not hold NiiVue as expected: another version of ipyniivue?"
        )
    return module


def embed_volumes(
    suv: np.ndarray, ct_hu: np.ndarray, numbers: np.ndarray, grid: Grid, box: tuple[slice, ...]
) -> dict[str, str]:
    """SUV, CT and lesion numbers (Z, Y, X) on ``grid`` in a ``box``, as .nii.gz in base64.

    Neighbouring voxels are joined to voxels of about SHOWN_MM: SUV and CT by their
    mean, lesions by their highest number, so that the smallest stays in sight.
    """
    factors = tuple(max(1, round(SHOWN_MM / side)) for side in grid.spacing_zyx_mm)
    shown = {
        "suv": np.rint(pool(suv[box], factors, "mean") / SUV_STEP),
        "ct": np.rint(pool(ct_hu[box], factors, "mean")),
        "lesions": pool(numbers[box], factors, "max"),
    }
    z, y, x = (side.start + (factor - 1) / 2 for side, factor in zip(box, factors, strict=True))
    origin = grid.locate_index((z, y, x))
    fz, fy, fx = factors
    sx, sy, sz = grid.spacing_xyz_mm
    steps = np.array([sx * fx, sy * fy, sz * fz])
    axes = np.reshape(grid.direction, (3, 3)) * steps
    affine = np.eye(4)
    affine[:3] = np.array([[-1.0], [-1.0], [1.0]]) * np.column_stack([axes, origin])
    encoded = {}
    for name, array in shown.items():
        limits = np.iinfo(np.int16)
        voxels = np.clip(array, limits.min, limits.max).astype(np.int16)
        image = nibabel.Nifti1Image(voxels.T, affine)
        if name == "suv":
            image.header.set_slope_inter(SUV_STEP, 0)
        content = gzip.compress(image.to_bytes(), _LEVEL, mtime=0)
        encoded[name] = base64.b64encode(content).decode()
    return encoded


def pool(array: np.ndarray, factors: tuple[int, ...], how: str) -> np.ndarray:
    """Blocks of ``factors`` voxels (Z, Y, X) joined by their "mean" (float32) or "max".

    The array's last voxel fills up a block that it ends in.
    """
    missing = [(0, -size % factor) for size, factor in zip(array.shape, factors, strict=True)]
    whole = np.pad(array, missing, mode="edge")
    if how == "mean":
        whole = whole.astype(np.float32)
    sides = zip(whole.shape, factors, strict=True)
    shape = [n for size, factor in sides for n in (size // factor, factor)]
    blocks = whole.reshape(shape)
    return blocks.mean(axis=(1, 3, 5)) if how == "mean" else blocks.max(axis=(1, 3, 5))
