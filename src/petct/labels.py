"""A study's lesion label as a mask on a grid: from DICOM SEG, RTSTRUCT or NIfTI.

Names of segments and contours are free text, which may hold anything: they are matched and never
repeated. Sources: DICOM PS3.3 C.8.20 (Segmentation), C.8.8.5 and C.8.8.6 (Structure Set, ROI
Contour).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.grids import Grid
from petct.segmentations import Frame, Segmentation

# ITK's warnings name the file, and a folder is often named by its patient. What they warn of is
# checked below.
sitk.ProcessObject.GlobalWarningDisplayOff()

GRID_TOLERANCE = 0.02  # of a voxel: grids closer than this everywhere are one
PLANE_TOLERANCE = 0.1  # of the slice spacing: contours further apart are of different planes

# Contours on every n-th slice: at least so many planes, and such a share of them n slices apart.
FEWEST_SPARSE_PLANES = 4
SPARSE_SHARE = 0.75

CLOSED_CONTOURS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_CHUNK_BYTES = 16 * 2**20
OPEN_CONTOURS = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")


@dataclass(frozen=True)
class Label:
    """``mask``: uint8 0/1 (Z, Y, X). ``names``: what the pattern found in the names of its parts.

    They are words of the pattern itself; what it matched by other means is "matched".
    """

    mask: np.ndarray
    names: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Roi:
    """``contours``: closed ones, each (N, 3) LPS mm. ``left_out``: types of the others."""

    number: int
    name: str
    contours: tuple[np.ndarray, ...]
    left_out: tuple[str, ...]


def read_rtstruct(file: Path, pattern: str, drawn_on: Grid, target: Grid) -> Label:
    """The contours whose ROIName matches ``pattern`` (searched in it, case ignored).

    They are rasterised on ``drawn_on``, the grid of the series that they were drawn on, and
    brought to ``target``. Contours between its slices, or on every n-th only, are rasterised on
    their own planes, each of which then stands for the space halfway to the next, with a warning.
    No ROI of a matching name means no lesion, with a warning.
    """
    rois = _read_rois(file)
    chosen = {roi.number: roi for roi in rois if _found(pattern, [roi.name])}
    warnings = []
    if not chosen:
        warnings.append(
            f"none of {len(rois)} ROI(s) matches {pattern!r}: taken as free of lesions"
            + _show_names("StructureSetROISequence")
        )
    closed = [points for roi in chosen.values() for points in roi.contours]
    grid, apart = _grid_of_contours(closed, drawn_on, str(file))
    warnings += [apart] if apart else []
    if not same_grid(grid, target):
        grid = _planes_sampled_as(grid, target)
    mask = np.zeros(grid.shape_zyx, bool)
    for number, roi in chosen.items():
        if roi.left_out:
            kinds = ", ".join(sorted(set(roi.left_out)))
            warnings.append(f"ROI {number}: {len(roi.left_out)} contour(s) left out ({kinds})")
        if roi.contours:
            mask |= rasterise_contours(roi.contours, grid, str(file))
        else:
            warnings.append(f"ROI {number} has no closed contour")

    if closed and not mask.any():
        raise _vanished(_contoured_ml(closed, grid), str(file))
    if beyond := sum(_reaches_beyond(points, grid) for points in closed):
        warnings.append(f"{beyond} contour(s) reach beyond the image, and are cut there")
    result = mask.astype(np.uint8)
    if not same_grid(grid, target):
        result, warning = _resample(grid.to_image(result), target, str(file))
        warnings.append(f"contours drawn on another grid than the PET's: {warning}")
    names = [_found(pattern, [roi.name]) for roi in chosen.values()]
    return Label(result, tuple(dict.fromkeys(names)), tuple(warnings))


def read_seg(file: Path, pattern: str, target: Grid) -> Label:
    """The segments whose SegmentLabel or SegmentDescription matches ``pattern``, on ``target``.

    A single segment of another name is used too, with a warning. Frames are placed by their plane
    positions. A fractional segment counts where it is at least half.
    """
    seg = Segmentation(file)
    chosen = {s.number: s.names for s in seg.segments if _found(pattern, s.names)}
    warnings = []
    if not chosen and len(seg.segments) == 1:
        chosen = {s.number: s.names for s in seg.segments}
        warnings.append(
            f"the only segment is used though its name does not match {pattern!r}"
            + _show_names("SegmentSequence")
        )
    elif not chosen:
        warnings.append(
            f"none of {len(seg.segments)} segment(s) matches {pattern!r}: taken as free of lesions"
            + _show_names("SegmentSequence")
        )
    if seg.empty:
        warnings.append("the SEG has no frames: taken as free of lesions")

    mask = np.zeros(target.shape_zyx, np.uint8)
    for number in chosen:
        placed, warning = _place_frames(list(seg.frames(number)), target, str(file))
        mask |= placed
        if warning:
            warnings.append(f"segment {number} has another grid than the PET: {warning}")
    names = [_found(pattern, names) for names in chosen.values() if _found(pattern, names)]
    return Label(mask, tuple(dict.fromkeys(names)), tuple(warnings))


def _show_names(sequence: str) -> str:
    return f" (to see the names: pydicom show FILE::{sequence})"


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
    """A 3-D scalar NIfTI image. Raises StudyError for anything else, or if its spacing is unclear.

    A file that ends early is refused too: ITK would make up what it lacks. Spacing stands twice in
    the header: as pixdim, which the reader takes, and within the sform.
    """
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
    voxel_bytes = image.GetNumberOfPixels() * int(image.GetMetaData("bitpix")) // 8
    _check_length(file, int(float(image.GetMetaData("vox_offset"))) + voxel_bytes)
    if image.GetMetaData("qform_code") == "0" and image.GetMetaData("sform_code") != "0":
        rows = [image.GetMetaData(f"srow_{axis}").split()[:3] for axis in "xyz"]
        by_sform = np.linalg.norm(np.array(rows, float), axis=0)
        pixdim = np.array([float(image.GetMetaData(f"pixdim[{n}]")) for n in (1, 2, 3)])
        if not np.allclose(by_sform, pixdim, rtol=0.01, atol=0):
            raise StudyError(
                f"its voxels are {by_sform.round(3).tolist()} by its sform and "
                f"{pixdim.round(3).tolist()} by its pixdim, expected the same",
                str(file),
            )
    return image


def _check_length(file: Path, expected_bytes: int) -> None:
    """Raise StudyError if ``file`` holds less, after decompression, or is damaged."""
    found = 0
    with file.open("rb") as start:
        opened = gzip.open if start.read(2) == b"\x1f\x8b" else open
    try:
        with opened(file, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                found += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise StudyError("the file is cut short or damaged", str(file)) from error
    if found < expected_bytes:
        raise StudyError(
            f"the file is cut short: {found} bytes, its header announces {expected_bytes}",
            str(file),
        )


def rasterise_contours(contours: Sequence[np.ndarray], grid: Grid, source: str) -> np.ndarray:
    """Closed planar contours, each (N, 3) LPS mm, as a bool (Z, Y, X) mask on ``grid``.

    A voxel is inside if its centre lies within an odd number of contours of its plane (even-odd
    rule): a contour within another is a hole. Contours belong to the plane within half a slice
    spacing. Raises StudyError if one lies off all planes, is not parallel to them, or if two of
    different positions fall on one plane, as they do if drawn on another series.
    """
    # A ray from each centre towards lower x meets an edge where toggles[z, y, x] flips.
    toggles = np.zeros(grid.shape_zyx, bool)
    heights: dict[int, list[float]] = defaultdict(list)
    for points_mm in contours:
        index = _index_of(points_mm, grid)
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


def _grid_of_contours(
    contours: Sequence[np.ndarray], drawn_on: Grid, source: str
) -> tuple[Grid, str]:
    """The grid that contours lie on: ``drawn_on``, or else one of their own planes and a warning.

    Raises StudyError if they lie between the slices of ``drawn_on`` on uneven planes.
    """
    axes = np.reshape(drawn_on.direction, (3, 3))
    spacing_z = drawn_on.spacing_xyz_mm[2]
    along = [(points.mean(axis=0) - drawn_on.origin_xyz_mm) @ axes[:, 2] for points in contours]
    heights = np.sort(np.array(along)) / spacing_z
    heights = heights[np.diff(heights, prepend=-np.inf) > PLANE_TOLERANCE]
    if len(heights) < 2:
        return drawn_on, ""
    gaps = np.diff(heights)
    step = float(gaps.min())
    upon_slices = len(np.unique(np.rint(heights))) == len(heights)
    close = gaps < 1.5 * step
    sparse = len(heights) >= FEWEST_SPARSE_PLANES and step > 1.5 and np.mean(close) >= SPARSE_SHARE
    if upon_slices and not sparse:
        return drawn_on, ""
    step = float(gaps[close].mean())
    multiples = (heights - heights[0]) / step
    if np.abs(multiples - np.rint(multiples)).max() > PLANE_TOLERANCE:
        raise StudyError(
            f"its contours lie on planes of uneven distance ({gaps.min() * spacing_z:.2f} to "
            f"{gaps.max() * spacing_z:.2f} mm) between the slices of the series; they were drawn "
            "on another series",
            source,
        )
    x, y, z = np.array(drawn_on.origin_xyz_mm) + heights[0] * spacing_z * axes[:, 2]
    grid = Grid(
        shape_zyx=(int(np.rint(multiples[-1])) + 1, *drawn_on.shape_zyx[1:]),
        spacing_xyz_mm=(*drawn_on.spacing_xyz_mm[:2], step * spacing_z),
        origin_xyz_mm=(float(x), float(y), float(z)),
        direction=drawn_on.direction,
    )
    return grid, (
        f"its contours lie {step * spacing_z:.2f} mm apart, the slices {spacing_z:.2f} mm: each "
        "contour stands for the space halfway to the next"
    )


def _planes_sampled_as(planes: Grid, target: Grid) -> Grid:
    """The planes of one grid with the rows and columns of ``target``, if the two are parallel.

    Contours are continuous in their planes: taken at the target's own voxel centres they keep
    their areas. By way of the pixels they were drawn on, areas change by some percent wherever
    the two samplings beat.
    """
    if not np.allclose(planes.direction, target.direction, atol=1e-4):
        return planes
    axes = np.reshape(target.direction, (3, 3))
    along = (np.array(planes.origin_xyz_mm) - target.origin_xyz_mm) @ axes[:, 2]
    x, y, z = np.array(target.origin_xyz_mm) + along * axes[:, 2]
    return Grid(
        shape_zyx=(planes.shape_zyx[0], *target.shape_zyx[1:]),
        spacing_xyz_mm=(*target.spacing_xyz_mm[:2], planes.spacing_xyz_mm[2]),
        origin_xyz_mm=(float(x), float(y), float(z)),
        direction=target.direction,
    )


def _reaches_beyond(points_mm: np.ndarray, grid: Grid) -> bool:
    index_xy = _index_of(points_mm, grid)[:, :2]
    columns_rows = np.array(grid.shape_zyx[:0:-1])
    return bool(((index_xy < -0.5) | (index_xy > columns_rows - 0.5)).any())


def _contoured_ml(contours: Sequence[np.ndarray], grid: Grid) -> float:
    """The areas within the contours times the distance of their planes; holes count as if full."""
    areas_mm2 = 0.0
    for points in contours:
        x, y = (points @ np.reshape(grid.direction, (3, 3)))[:, :2].T
        areas_mm2 += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    return float(areas_mm2 * grid.spacing_xyz_mm[2] / 1000.0)


def _place_frames(frames: Sequence[Frame], target: Grid, source: str) -> tuple[np.ndarray, str]:
    """Frames on ``target``: voxel for voxel if they lie on its planes, however turned."""
    mask = np.zeros(target.shape_zyx, np.uint8)
    if not frames:
        return mask, ""
    total = 0
    for frame in frames:
        placed = _target_voxels(frame, target)
        if placed is None:
            grid, volume = _stack_frames(frames, target, source)
            return _resample(grid.to_image(volume), target, source)
        total += len(placed)
        inside = ((placed >= 0) & (placed < target.shape_zyx[::-1])).all(axis=1)
        x, y, z = placed[inside].T
        mask[z, y, x] = 1
    kept = int(np.count_nonzero(mask))
    if not kept:
        raise _vanished(total * target.voxel_ml, source)
    lost = total - kept
    return mask, f"{lost} voxels of it lie outside" if lost else ""


def _index_of(points_mm: np.ndarray, target: Grid) -> np.ndarray:
    """Indices (..., 3), x first, of LPS points."""
    axes = np.reshape(target.direction, (3, 3))
    return np.asarray((points_mm - np.array(target.origin_xyz_mm)) @ axes / target.spacing_xyz_mm)


def _target_voxels(frame: Frame, target: Grid) -> np.ndarray | None:
    """Indices (N, 3), x first, of a frame's voxels, or None if they are no voxels of ``target``."""
    first = _index_of(frame.position_mm, target)
    steps_mm = frame.axes * np.array(frame.spacing_xyz_mm)[:, None]
    steps = _index_of(frame.position_mm + steps_mm, target) - first
    snapped = np.rint(steps)
    if not frame.spacing_xyz_mm[2]:  # a single plane, and nothing says how thick
        steps[2] = snapped[2] = np.cross(snapped[0], snapped[1])
    reach = np.abs(steps - snapped).T @ [*frame.pixels.shape[::-1], 1.0]
    aligned = np.array_equal(np.abs(snapped).sum(axis=1), np.ones(3)) and np.all(
        reach + np.abs(first - np.rint(first)) < GRID_TOLERANCE
    )
    if not aligned:
        return None
    rows, columns = np.nonzero(frame.pixels)
    voxels = np.rint(first) + columns[:, None] * snapped[0] + rows[:, None] * snapped[1]
    return voxels.astype(int)


def _stack_frames(frames: Sequence[Frame], target: Grid, source: str) -> tuple[Grid, np.ndarray]:
    """Parallel frames as one volume, uint8 (Z, Y, X), with planes of zeros between them."""
    first = frames[0]
    x, y, z = first.spacing_xyz_mm
    spacing = np.array([x, y, z or min(target.spacing_xyz_mm)])
    places = []
    for frame in frames:
        same = frame.spacing_xyz_mm == first.spacing_xyz_mm
        if not same or np.abs(frame.axes - first.axes).max() > 1e-3:
            raise StudyError("SEG: its frames have several orientations or spacings", source)
        place = (frame.position_mm - first.position_mm) @ first.axes.T / spacing
        if np.abs(place - [0, 0, np.rint(place[2])]).max() > PLANE_TOLERANCE:
            raise StudyError(
                "SEG: its frames are no stack of planes: one lies "
                f"{place[0]:.2f}, {place[1]:.2f}, {place[2]:.2f} voxels from the first",
                source,
            )
        places.append(int(np.rint(place[2])))
    volume = np.zeros((max(places) - min(places) + 1, *first.pixels.shape), np.uint8)
    for frame, place in zip(frames, places, strict=True):
        volume[place - min(places)] |= frame.pixels
    corner = first.position_mm + min(places) * spacing[2] * first.axes[2]
    grid = Grid(
        shape_zyx=(volume.shape[0], volume.shape[1], volume.shape[2]),
        spacing_xyz_mm=(x, y, float(spacing[2])),
        origin_xyz_mm=(float(corner[0]), float(corner[1]), float(corner[2])),
        direction=tuple(float(v) + 0.0 for v in first.axes.T.ravel()),
    )
    return grid, volume


def _resample(mask: sitk.Image, target: Grid, source: str) -> tuple[np.ndarray, str]:
    """A mask on ``target`` by nearest neighbour, and a warning with both volumes."""
    array = target.resample(mask, sitk.sitkNearestNeighbor, 0, mask.GetPixelID())
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


def _found(pattern: str, names: Sequence[str]) -> str:
    """What ``pattern`` finds first in one of the names, "" for nothing.

    Only words that the pattern spells out are repeated; of a match by other means "matched".
    """
    for name in names:
        if match := re.search(pattern, name, re.IGNORECASE):
            word = match.group(0).lower()
            return word if word and word in pattern.lower() else "matched"
    return ""


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
        return [_roi(number, name, drawn[number]) for number, name in sorted(names.items())]
    except StudyError as error:
        raise StudyError(f"RTSTRUCT: {error}", str(file)) from error
    except Exception as error:  # a damaged file may fail anywhere in the parser
        raise _unreadable("RTSTRUCT", file, error) from error


def _roi(number: int, name: str, items: Sequence[Dataset]) -> Roi:
    contours, left_out = [], []
    for item in items:
        kind = str(item.get("ContourGeometricType", "")).strip()
        if kind in OPEN_CONTOURS:
            left_out.append(kind)
            continue
        if kind not in CLOSED_CONTOURS:
            raise StudyError(f"ContourGeometricType (3006,0042) of ROI {number} is no known type")
        points = np.array(item.get("ContourData") or [], float)
        if points.size == 0 or points.size % 3 or not np.isfinite(points).all():
            raise StudyError(
                f"ContourData (3006,0050) of ROI {number} has {points.size} values, "
                "expected finite ones, three per point"
            )
        contours.append(points.reshape(-1, 3))
    return Roi(number, name, tuple(contours), tuple(left_out))


def _unreadable(kind: str, file: Path, error: Exception) -> StudyError:
    return StudyError(f"{kind} is not readable ({type(error).__name__})", str(file))
