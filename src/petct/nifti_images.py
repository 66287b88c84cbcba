"""PET in SUV and CT from NIfTI files, told apart by what they hold.

The AutoPET release names the two; in nnU-Net's layout they are numbered, and autoPET I's container
counts them the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.openers import ImageOpener

from petct.dicom_pixels import HU_HIGHEST, HU_LOWEST
from petct.errors import StudyError
from petct.grids import Grid
from petct.labels import read_nifti

# Every CT of a body has air about it (-1000 HU) or fat (-100); SUV is negative only by the
# undershoot of interpolation, a fraction of its maximum.
CT_BELOW_HU = -200.0
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class NiftiImages:
    """``suv`` float32 [g/mL] on ``grid``, ``hounsfield`` int16 on ``ct_grid``, both (Z, Y, X).

    ``hounsfield`` and ``ct_grid`` are None without a CT.
    """

    suv: np.ndarray
    grid: Grid
    hounsfield: np.ndarray | None
    ct_grid: Grid | None
    warnings: tuple[str, ...]


def read_pet_and_ct(pet: Path, ct: Path | None, layout: str) -> NiftiImages:
    """The two images of a NIfTI study; what has values below -200 is the CT.

    ``layout``: "autopet" or "nnunet". In the latter the two may be reversed, which is mended with a
    warning. CT numbers are rounded and limited to -1024..32767 HU. Raises StudyError if an image
    cannot be read, has values that are not finite, or is not what its name says.
    """
    values, grid = _read(pet)
    if ct is None:
        if _is_ct(values):
            raise StudyError(f"the PET {_said(values)}, expected SUV", str(pet))
        return NiftiImages(values.astype(np.float32, copy=False), grid, None, None, ())
    ct_values, ct_grid = _read(ct)
    if _is_ct(values) == _is_ct(ct_values):
        kind = "CT" if _is_ct(values) else "SUV"
        raise StudyError(
            f"both images look like {kind}: the PET {_said(values)}, the CT {_said(ct_values)}; "
            f"expected values below {CT_BELOW_HU:g} in the CT alone",
            str(ct if kind == "SUV" else pet),
        )
    warnings = []
    if _is_ct(values):
        if layout != "nnunet":
            raise StudyError(
                f"PET and CT are reversed: the PET {_said(values)}, the CT {_said(ct_values)}",
                str(pet),
            )
        warnings.append(
            f"the channels of PET and CT are reversed and were swapped: what should be SUV "
            f"{_said(values)}"
        )
        values, grid, ct_values, ct_grid = ct_values, ct_grid, values, grid
    suv = values.astype(np.float32, copy=False)
    del values
    return NiftiImages(suv, grid, _hounsfield(ct_values), ct_grid, tuple(warnings))


def _read(file: Path) -> tuple[np.ndarray, Grid]:
    image = read_nifti(file)
    _check_finite(file)
    return sitk.GetArrayFromImage(image), Grid.from_image(image)


def _check_finite(file: Path) -> None:
    """Raise StudyError if a value on disk is not finite: ITK's reader makes zeros of these."""
    try:
        header = nibabel.Nifti1Image.from_filename(file).header
        kind = header.get_data_dtype()
        if kind.kind != "f":
            return
        finite = True
        with ImageOpener(str(file)) as stream:
            stream.seek(int(header.get_data_offset()))
            while finite and (chunk := stream.read(CHUNK_BYTES)):
                finite = bool(np.isfinite(np.frombuffer(chunk, kind)).all())
    except Exception as error:  # a damaged file may fail anywhere in the reader
        raise StudyError(f"not readable as NIfTI ({type(error).__name__})", str(file)) from error
    if not finite:
        raise StudyError("the image has values that are not finite", str(file))


def _is_ct(values: np.ndarray) -> bool:
    return bool(values.min() < CT_BELOW_HU)


def _said(values: np.ndarray) -> str:
    return f"has values from {values.min():g} to {values.max():g}"


def _hounsfield(values: np.ndarray) -> np.ndarray:
    """Rounded and limited, int16. Overwrites ``values`` if these are no integers."""
    if np.issubdtype(values.dtype, np.floating):
        np.rint(values, out=values)
    elif values.dtype != np.int16:
        values = values.astype(np.int64)
    return np.clip(values, HU_LOWEST, HU_HIGHEST).astype(np.int16, copy=False)
