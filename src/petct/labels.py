"""A study's lesion label as a mask on a grid: from DICOM SEG, RTSTRUCT or NIfTI.

Sources: DICOM PS3.3 C.8.20 (Segmentation), C.8.8.5 and C.8.8.6 (Structure Set, ROI Contour).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.grids import Grid

GRID_TOLERANCE = 0.02  # of a voxel: grids closer than this everywhere are one
PLANE_TOLERANCE = 0.1  # of the slice spacing: contours further apart are of different planes

CLOSED_CONTOURS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OPEN_CONTOURS = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")


@dataclass(frozen=True)
class Label:
    """``mask``: uint8 0/1 (Z, Y, X). ``names``: of the segments or contours that are in it."""

    mask: np.ndarray
    names: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Roi:
    """``contours``: closed ones, each (N, 3) LPS mm. ``left_out``: types of the others."""

    name: str
    contours: tuple[np.ndarray, ...]
    left_out: tuple[str, ...]


def read_rtstruct(file: Path, pattern: str, drawn_on: Grid, target: Grid) -> Label:
    """The contours whose ROIName matches ``pattern`` (searched in it, case ignored).

    They are rasterised on ``drawn_on``, the grid of the series that they were drawn on, and
    brought to ``target``. No ROI of a matching name means no lesion, with a warning.
    """
    rois = _read_rois(file)
    chosen = [roi for roi in rois if _matches(roi.name, pattern)]
    warnings = []
    if not chosen:
        listed = ", ".join(sorted(roi.name for roi in rois)) or "none"
        warnings.append(f"no ROI matches {pattern!r} (ROIs: {listed}): taken as free of lesions")
    mask = np.zeros(drawn_on.shape_zyx, bool)
    for roi in chosen:
        if roi.left_out:
            warnings.append(f"ROI {roi.name}: {', '.join(roi.left_out)} contour(s) left out")
        if roi.contours:
            mask |= rasterise_contours(roi.contours, drawn_on, str(file))
        else:
            warnings.append(f"ROI {roi.name} has no closed contour")

    result = mask.astype(np.uint8)
    if not same_grid(drawn_on, target):
        result, warning = _resample(drawn_on.to_image(result), target, str(file))
        warnings.append(f"contours drawn on another grid than the PET's: {warning}")
    return Label(result, tuple(roi.name for roi in chosen), tuple(warnings))


def read_seg(file: Path, pattern: str, target: Grid) -> Label:
    """The segments whose SegmentLabel or SegmentDescription matches ``pattern``, on ``target``.

    A single segment of another name is used too, with a warning. Frames are placed by their plane
    positions. A fractional segment counts where it is at least half.
    """
    try:
        seg = hd.seg.segread(file)
        segments = {
            int(item.SegmentNumber): str(item.get("SegmentLabel", ""))
            for item in seg.SegmentSequence
        }
        described = {
            int(item.SegmentNumber): str(item.get("SegmentDescription", ""))
            for item in seg.SegmentSequence
        }
        empty = not np.any(seg.pixel_array)
    except Exception as error:  # a damaged object may fail anywhere in the reader
        raise _unreadable("SEG", file, error) from error
    warnings = []
    chosen = [
        number
        for number, name in segments.items()
        if _matches(name, pattern) or _matches(described[number], pattern)
    ]
    listed = ", ".join(segments.values())
    if not chosen and len(segments) == 1:
        chosen = list(segments)
        warnings.append(f"the only segment, {listed}, is used though it does not match {pattern!r}")
    elif not chosen:
        warnings.append(
            f"no segment matches {pattern!r} (segments: {listed}): taken as free of lesions"
        )

    mask = np.zeros(target.shape_zyx, np.uint8)
    for number in [] if empty else chosen:
        try:
            volume = seg.get_volume(segment_numbers=[number], combine_segments=False)
        except Exception as error:  # irregular or incomplete frame geometry, in highdicom's words
            raise _unreadable("SEG", file, error) from error
        array = np.ascontiguousarray((volume.array[..., 0] >= 0.5).astype(np.uint8))
        placed, warning = _place(volume.with_array(array), target, str(file))
        mask |= placed
        if warning:
            warnings.append(f"segment {segments[number]} has another grid than the PET: {warning}")
    return Label(mask, tuple(segments[number] for number in chosen), tuple(warnings))


def read_nifti_label(file: Path, target: Grid) -> Label:
    """A NIfTI label: every voxel above zero is lesion.

    It has no names: that of its file may be a patient's, where keys are hashed.
    """
    image = read_nifti(file)
    values = sitk.GetArrayViewFromImage(image)
    distinct = np.unique(values)
    warnings = []
    if not np.isin(distinct, (0, 1)).all():
        listed = ", ".join(f"{value:g}" for value in distinct[:8])
        warnings.append(f"label values {listed}: all above 0 count as lesion")
    mask = (values > 0).astype(np.uint8)
    grid = Grid.from_image(image)
    if not same_grid(grid, target):
        mask, warning = _resample(grid.to_image(mask), target, str(file))
        warnings.append(f"the label has another grid than the PET: {warning}")
    return Label(mask, (), tuple(warnings))


def read_nifti(file: Path) -> sitk.Image:
    """A 3-D scalar NIfTI image. Raises StudyError for anything else."""
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StudyError(f"not readable as NIfTI: {reason}", str(file)) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise StudyError(
            f"the image has size {image.GetSize()} and {image.GetNumberOfComponentsPerPixel()} "
            "components, expected three dimensions and one",
            str(file),
        )
    return image


def rasterise_contours(contours: Sequence[np.ndarray], grid: Grid, source: str) -> np.ndarray:
    """Closed planar contours, each (N, 3) LPS mm, as a bool (Z, Y, X) mask on ``grid``.

    A voxel is inside if its centre lies within an odd number of contours of its plane (even-odd
    rule): a contour within another is a hole. Contours belong to the plane within half a slice
    spacing. Raises StudyError if one lies off all planes, is not parallel to them, or if two of
    different positions fall on one plane, as they do if drawn on another series.
    """
    # A ray from each centre towards lower x meets an edge where toggles[z, y, x] flips.
    toggles = np.zeros(grid.shape_zyx, bool)
    axes = np.reshape(grid.direction, (3, 3))
    heights: dict[int, list[float]] = defaultdict(list)
    for points_mm in contours:
        index = (points_mm - np.array(grid.origin_xyz_mm)) @ axes / grid.spacing_xyz_mm
        height = float(index[:, 2].mean())
        plane = round(height)
        at = f"at z = {points_mm[0, 2]:.2f} mm"
        if np.ptp(index[:, 2]) > PLANE_TOLERANCE:
            raise StudyError(f"a contour {at} is not parallel to the slices", source)
        if not 0 <= plane < grid.shape_zyx[0]:
            raise StudyError(
                f"a contour {at} lies off all slices: {height:.2f} slices from the first, "
                f"expected -0.5 to {grid.shape_zyx[0] - 0.5}",
                source,
            )
        heights[plane].append(height)
        if np.ptp(heights[plane]) > PLANE_TOLERANCE:
            raise StudyError(
                f"contours {at} and nearby fall on one slice, {np.ptp(heights[plane]):.2f} slice "
                "spacings apart; they were drawn on another series",
                source,
            )
        _toggle_edges(toggles[plane], index[:, :2])
    return np.logical_xor.accumulate(toggles, axis=2)


def _toggle_edges(toggles_yx: np.ndarray, polygon_xy: np.ndarray) -> None:
    """Flip, in each row of centres, the first centre at or beyond each edge of the polygon."""
    height, width = toggles_yx.shape
    for (x0, y0), (x1, y1) in zip(polygon_xy, np.roll(polygon_xy, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        # Half-open, low <= row < high, so that a vertex on a row counts once.
        rows = np.arange(max(0, int(np.ceil(low))), min(height, int(np.ceil(high))))
        if rows.size == 0:
            continue
        crossing = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        columns = np.maximum(0, np.ceil(crossing).astype(int))
        inside = columns < width
        toggles_yx[rows[inside], columns[inside]] ^= True


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids have the same shape, and corners nearer than 0.02 voxel."""
    if tuple(one.shape_zyx) != tuple(other.shape_zyx):
        return False
    tolerance_mm = GRID_TOLERANCE * min(other.spacing_xyz_mm)
    return bool(np.abs(_corners_mm(one) - _corners_mm(other)).max() <= tolerance_mm)


def _corners_mm(grid: Grid) -> np.ndarray:
    last = np.array(grid.shape_zyx[::-1]) - 1
    index_xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * last
    axes = np.reshape(grid.direction, (3, 3))
    return index_xyz * grid.spacing_xyz_mm @ axes.T + grid.origin_xyz_mm


def _place(volume: hd.Volume, target: Grid, source: str) -> tuple[np.ndarray, str]:
    """A volume's voxels on ``target``: moved as they are if the grids are aligned."""
    axes = np.reshape(target.direction, (3, 3)) * target.spacing_xyz_mm
    affine = np.eye(4)
    affine[:3, :3] = axes[:, ::-1]  # highdicom's axes are slice, row, column
    affine[:3, 3] = target.origin_xyz_mm
    geometry = hd.VolumeGeometry(
        affine=affine, spatial_shape=target.shape_zyx, coordinate_system="PATIENT"
    )
    index = np.linalg.inv(affine) @ volume.affine
    offset = index[:3, 3]
    steps = np.rint(index[:3, :3])
    # A rotation of 90 degrees or a flip at most, and voxels upon voxels up to the last one.
    reach = np.abs(index[:3, :3] - steps) @ np.array(volume.spatial_shape)
    aligned = bool(
        np.array_equal(np.abs(steps).sum(axis=0), np.ones(3))
        and np.all(reach + np.abs(offset - np.rint(offset)) < GRID_TOLERANCE)
    )
    if not aligned:
        return _resample(volume.to_simpleitk(), target, source)
    snapped = np.eye(4)
    snapped[:3, :3], snapped[:3, 3] = steps, np.rint(offset)
    exact = hd.Volume(array=volume.array, affine=affine @ snapped, coordinate_system="PATIENT")
    placed = exact.match_geometry(geometry).array
    kept, total = int(np.count_nonzero(placed)), int(np.count_nonzero(volume.array))
    if total and not kept:
        raise _vanished(total * target.voxel_ml, source)
    lost = total - kept
    return placed, f"{lost} voxels of it lie outside" if lost else ""


def _resample(mask: sitk.Image, target: Grid, source: str) -> tuple[np.ndarray, str]:
    """A mask on ``target`` by nearest neighbour, and a warning with both volumes."""
    reference = sitk.Image([int(n) for n in target.shape_zyx[::-1]], sitk.sitkUInt8)
    reference.SetSpacing(target.spacing_xyz_mm)
    reference.SetOrigin(target.origin_xyz_mm)
    reference.SetDirection(target.direction)
    moved = sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    array = sitk.GetArrayFromImage(moved)
    before = int(sitk.GetArrayViewFromImage(mask).sum(dtype=np.int64))
    before_ml = before * Grid.from_image(mask).voxel_ml
    after_ml = int(array.sum(dtype=np.int64)) * target.voxel_ml
    if before and not array.any():
        raise _vanished(before_ml, source)
    return array, f"resampled, {before_ml:.2f} mL became {after_ml:.2f} mL"


def _vanished(volume_ml: float, source: str) -> StudyError:
    return StudyError(
        f"the label ({volume_ml:.2f} mL) has no voxel on the PET's grid: it lies outside, or is "
        "smaller than a voxel",
        source,
    )


def _matches(name: str, pattern: str) -> bool:
    return re.search(pattern, name, re.IGNORECASE) is not None


def _read_rois(file: Path) -> list[Roi]:
    """Every ROI of an RTSTRUCT. A file cut short has lost whole sequences, which is refused."""
    try:
        dataset = pydicom.dcmread(file, force=True)
        if "StructureSetROISequence" not in dataset:
            raise StudyError(f"{tag_name('StructureSetROISequence')} is missing; truncated?")
        names = {
            int(item.ROINumber): str(item.get("ROIName", ""))
            for item in dataset.StructureSetROISequence
        }
        if names and "ROIContourSequence" not in dataset:
            raise StudyError(f"{tag_name('ROIContourSequence')} is missing; truncated?")
        drawn: dict[int, list[Dataset]] = defaultdict(list)
        for item in dataset.get("ROIContourSequence") or []:
            drawn[int(item.ReferencedROINumber)] += item.get("ContourSequence") or []
        if nameless := sorted(drawn.keys() - names.keys()):
            raise StudyError(f"contours of ROI number(s) {nameless} have no name; damaged?")
        return [_roi(name, drawn[number]) for number, name in sorted(names.items())]
    except StudyError as error:
        raise StudyError(f"RTSTRUCT: {error}", str(file)) from error
    except Exception as error:  # a damaged file may fail anywhere in the parser
        raise _unreadable("RTSTRUCT", file, error) from error


def _roi(name: str, items: Sequence[Dataset]) -> Roi:
    contours, left_out = [], []
    for item in items:
        kind = str(item.get("ContourGeometricType", "")).strip()
        if kind in OPEN_CONTOURS:
            left_out.append(kind)
            continue
        if kind not in CLOSED_CONTOURS:
            raise StudyError(f"ContourGeometricType (3006,0042) of ROI {name} is {kind!r}")
        points = np.array(item.get("ContourData") or [], float)
        if points.size == 0 or points.size % 3 or not np.isfinite(points).all():
            raise StudyError(
                f"ContourData (3006,0050) of ROI {name} has {points.size} values, "
                "expected finite ones, three per point"
            )
        contours.append(points.reshape(-1, 3))
    return Roi(name, tuple(contours), tuple(left_out))


def _unreadable(kind: str, file: Path, error: Exception) -> StudyError:
    return StudyError(f"{kind} is not readable ({type(error).__name__}: {error})", str(file))
