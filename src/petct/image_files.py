"""Images between steps: NIfTI files that are read and written whole, or not at all.

ITK reports neither a full disk nor a file that was cut short: it would leave half an image, and
read one, without a word. What it reads or has written is therefore held against the checksum that
ends every compressed file.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import SimpleITK as sitk

from petct.errors import PetctError, damaged

_HEADER_BYTES = 352
_COMPRESSED_HEADER_BYTES = 4096  # more than any compression of the header takes


def load_image(path: Path) -> sitk.Image:
    """An image that ``save_image`` wrote; DamagedFileError if the file is not whole."""
    with path.open("rb"):
        pass  # ITK does not tell what is missing from what may not be read
    try:
        image = sitk.ReadImage(path)
    except RuntimeError:
        raise damaged(path) from None
    if not is_whole(path, image):
        raise damaged(path)
    return image


def save_image(image: sitk.Image, path: Path, level: int = -1) -> None:
    """Write a .nii.gz, compressed by zlib's ``level`` (-1: its default).

    Raises OSError, which names ``path``, or PetctError if not all of it arrived.
    """
    try:
        sitk.WriteImage(image, path, useCompression=True, compressionLevel=level)
        if is_whole(path, image):
            return
    except (RuntimeError, FileNotFoundError):
        pass
    _raise_reason(path)
    raise PetctError(f"{path} could not be written whole; is the disk full?")


def is_whole(path: Path, image: sitk.Image) -> bool:
    """Whether ``path`` is a .nii.gz that ends with the checksum of its header and ``image``."""
    voxels = sitk.GetArrayViewFromImage(image)
    with path.open("rb") as file:
        start = file.read(_COMPRESSED_HEADER_BYTES)
        if len(start) < 20:
            return False
        file.seek(-8, os.SEEK_END)
        checksum, size = struct.unpack("<II", file.read(8))
    try:
        header = zlib.decompressobj(wbits=31).decompress(start, _HEADER_BYTES)
    except zlib.error:
        return False
    expected = (_HEADER_BYTES + voxels.nbytes) % 2**32
    return bool(size == expected and checksum == zlib.crc32(voxels.data, zlib.crc32(header)))


def _raise_reason(path: Path) -> None:
    """Raise the OSError that writing a little more to ``path`` meets, if it meets one."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(2**20))
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise
