"""What nnU-Net calls a case: a study in the training format, or a box of one.

nnU-Net finds its data through files, one or more per case. Here each case is one small JSON file
that says which part of which arrays to read, so that no volume is copied to be handed over.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from petct.arrays import StudyArrays, load_array, open_arrays
from petct.boxes import merge_boxes, widen_box
from petct.grids import Grid, Index, interpolate_window, interpolation_matrices
from petct.manifests import read_json, write_json
from petct.predictions import find_entry, merge_entries

FILE_ENDING = ".json"


@dataclass(frozen=True)
class Case:
    """A box of a study on one grid: ``arrays`` is the folder of its training format.

    ``start_zyx`` to ``stop_zyx`` is what is read; ``inside_zyx`` (start and stop, relative to
    ``start_zyx``) the part of it that was asked for, the rest being context. ``probability`` is
    the coarse prediction that becomes the third channel, with its grid, or None.
    """

    study: str
    arrays: str
    start_zyx: Index
    stop_zyx: Index
    inside_zyx: tuple[int, int, int, int, int, int]
    probability: str | None
    probability_grid: dict[str, Any] | None


def list_cases(
    studies: list[str],
    resampled: Path,
    strategy: dict[str, Any],
    coarse: list[Path],
    regions: list[Path],
    for_training: bool,
) -> dict[str, Case]:
    """The cases of some studies by name: one each, or one per box, at least a patch large.

    ``coarse`` are predictions.json files that together cover the studies, ``regions`` the same
    for boxes. While training, boxes around the reference lesions are joined with those around
    the coarse prediction, so that what the coarse network missed is learnt.
    """
    predictions, boxes_of = merge_entries(coarse), merge_entries(regions)
    z, y, x = strategy["patch_zyx"]
    cases = {}
    for study in studies:
        folder = (resampled / study / strategy["grid"]).resolve()
        shape_zyx = Grid.from_json(read_json(folder / "grid.json")).shape_zyx
        boxes = np.array([[0, 0, 0, *shape_zyx]])
        if strategy["regions"] != "body":
            entry = find_entry(boxes_of, study, "regions")[1]
            rows = entry["boxes_zyx"] + (entry["reference_boxes_zyx"] if for_training else [])
            boxes = merge_boxes(np.array(rows, int).reshape(-1, 6))
        probability, grid = None, None
        if strategy["prior"]:
            beside, entry = find_entry(predictions, study, "coarse predictions")
            probability, grid = str((beside / entry["probability"]).resolve()), entry["grid"]
        for number, box in enumerate(boxes):
            start, shape = widen_box(box, (z, y, x), shape_zyx)
            z0, y0, x0, z1, y1, x1 = (int(side) for side in box - np.array([*start, *start]))
            cases[f"{study}__{number}"] = Case(
                study=study,
                arrays=str(folder),
                start_zyx=start,
                stop_zyx=(start[0] + shape[0], start[1] + shape[1], start[2] + shape[2]),
                inside_zyx=(z0, y0, x0, z1, y1, x1),
                probability=probability,
                probability_grid=grid,
            )
    return cases


def write_cases(folder: Path, cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """Write one file per case; returns what nnU-Net's dataset.json lists under ``dataset``."""
    listed = {}
    for name, case in cases.items():
        path = (folder / f"{name}{FILE_ENDING}").resolve()
        write_json(path, asdict(case))
        listed[name] = {"images": [str(path)], "label": str(path)}
    return listed


def read_image(case: Case) -> tuple[np.ndarray, dict[str, Any]]:
    """A case's channels (C, Z, Y, X) float32 and what nnU-Net wants to know of its geometry."""
    arrays = open_arrays(Path(case.arrays))
    window = tuple(slice(a, b) for a, b in zip(case.start_zyx, case.stop_zyx, strict=True))
    image = arrays.image[(slice(None), *window)].astype(np.float32)
    if case.probability is not None and case.probability_grid is not None:
        shape = (image.shape[1], image.shape[2], image.shape[3])
        matrices = interpolation_matrices(Grid.from_json(case.probability_grid), arrays.grid)
        prior = interpolate_window(
            load_array(Path(case.probability)), matrices, case.start_zyx, shape
        )
        image = np.concatenate([image, np.asarray(prior, np.float32)[None]])
    return image, describe_geometry(arrays)


def describe_geometry(arrays: StudyArrays) -> dict[str, Any]:
    return {"spacing": list(arrays.grid.spacing_zyx_mm)}


def read_label(case: Case) -> np.ndarray:
    """A case's label (1, Z, Y, X) int8: nnU-Net marks what lies outside the body with -1."""
    window = tuple(slice(a, b) for a, b in zip(case.start_zyx, case.stop_zyx, strict=True))
    return open_arrays(Path(case.arrays)).label[window].astype(np.int8)[None]


class CaseReader(BaseReaderWriter):
    """How nnU-Net reads a case's file; it never writes one."""

    supported_file_endings = (FILE_ENDING,)

    def read_images(self, image_fnames: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        return read_image(open_case(Path(image_fnames[0])))

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict[str, Any]]:
        case = open_case(Path(seg_fname))
        return read_label(case), describe_geometry(open_arrays(Path(case.arrays)))

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]) -> None:
        raise NotImplementedError("predictions are written by predict_nnunet")


def open_case(path: Path) -> Case:
    values = read_json(path)
    for key in ("start_zyx", "stop_zyx", "inside_zyx"):
        values[key] = tuple(values[key])
    return Case(**values)
