"""Images between steps: NIfTI files that are read and written whole, or not at all.

ITK reports neither a full disk nor a file that was cut short: it would leave half an image, and
read one, without a word. It says here where an image lies; the voxels are read and written by a
library that tells what goes wrong, holds them against the checksum that ends the file, and is some
times faster.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from isal import isal_zlib

from petct.errors import damaged
from petct.grids import Grid

_HEADER_BYTES = 352
# The NIfTI-1 codes of what a voxel may be.
_KINDS = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_LEVEL = 2  # of 0 to 3: a tenth larger than zlib's default, many times faster
_BLOCK_BYTES = 4 * 2**20  # that are compressed before they are written


def load_volume(path: Path) -> tuple[np.ndarray, Grid]:
    """The (Z, Y, X) voxels, not to be written to, and the grid of a .nii.gz of ``save_volume``.

    Raises DamagedFileError if the file is not whole, OSError if it cannot be read.
    """
    content = path.read_bytes()  # ITK does not tell what is missing from what may not be read
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        grid = Grid.from_image(reader)
        start = isal_zlib.decompressobj(wbits=31).decompress(content[:4096], _HEADER_BYTES)
        kind = np.dtype("<" + _KINDS[struct.unpack_from("<h", start, 70)[0]])
        expected = _HEADER_BYTES + int(np.prod(grid.shape_zyx)) * kind.itemsize
        # What the file says of its length comes first: a garbled header may ask for any memory.
        if struct.unpack("<I", content[-4:])[0] != expected % 2**32:
            raise ValueError
        voxels = isal_zlib.decompress(content, wbits=31, bufsize=expected)
        if len(voxels) != expected:
            raise ValueError
    except (RuntimeError, KeyError, ValueError, EOFError, struct.error, zlib.error):
        raise damaged(path) from None
    return np.frombuffer(voxels, kind, offset=_HEADER_BYTES).reshape(grid.shape_zyx), grid


def load_image(path: Path) -> sitk.Image:
    """What ``load_volume`` reads, as SimpleITK's image."""
    voxels, grid = load_volume(path)
    return grid.to_image(voxels)


def save_volume(array: np.ndarray, grid: Grid, path: Path) -> None:
    """Write a (Z, Y, X) array on ``grid`` as .nii.gz.

    Raises OSError, which names ``path``, if not all of it arrived.
    """
    if tuple(array.shape) != tuple(grid.shape_zyx):
        raise ValueError(f"array {array.shape} does not fit the grid {grid.shape_zyx}")
    header = _header(array.dtype, grid)
    voxels = np.ascontiguousarray(array).data.cast("B")
    stream = isal_zlib.compressobj(_LEVEL, wbits=31)
    try:
        with path.open("wb") as file:
            file.write(stream.compress(header))
            for start in range(0, len(voxels), _BLOCK_BYTES):
                file.write(stream.compress(voxels[start : start + _BLOCK_BYTES]))
            file.write(stream.flush())
    except OSError as error:
        error.filename = str(path)
        raise


def _header(kind: np.dtype, grid: Grid) -> bytes:
    """The header that ITK writes: qform and sform alike, of the scanner's space, in mm."""
    import nibabel  # takes a third of a second, which who only reads need not spend

    header = nibabel.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape(grid.shape_zyx[::-1])
    axes = np.reshape(grid.direction, (3, 3)) * grid.spacing_xyz_mm
    to_ras = np.array([[-1.0], [-1.0], [1.0]])
    affine = np.eye(4)
    affine[:3] = to_ras * np.column_stack([axes, grid.origin_xyz_mm]) + 0.0  # no -0.0
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm", "sec")
    header["pixdim"][4:], header["regular"] = 0.0, b"r"
    header["vox_offset"], header["magic"] = _HEADER_BYTES, b"n+1"
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    return bytes(header.binaryblock) + bytes(_HEADER_BYTES - header.sizeof_hdr)
