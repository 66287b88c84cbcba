"""Contest: the metrics of one study, from masks in memory.

Ours are all of MaskScore. The peers' are fewer: Dice and the volumes of false lesions by the loop
of autoPET's evaluation, surface Dice and HD95 by MONAI.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.contest import Contestant, make_parser, report_outcome, run_contest
from petct.errors import PetctError

# False lesions that are added to a prediction. The loop's time grows with their number, so that it
# meets few.
NONE, FEW, MANY = 0, 100, 5000
FEW_SMOKE = 5
# What single precision and another order of summation may differ by.
EQUAL = {
    **dict.fromkeys(("dice", "surface_dice"), (-1e-6, 1e-6)),
    **dict.fromkeys(("fp_volume_ml", "fn_volume_ml", "hd95_mm"), (-1e-3, 1e-3)),
}
AUTOPET = ("dice", "fp_volume_ml", "fn_volume_ml")
SURFACES = ("surface_dice", "hd95_mm")


def add_false_lesions(mask: np.ndarray, body: np.ndarray, number: int, seed: int) -> np.ndarray:
    """A copy of a (Z, Y, X) mask with ``number`` boxes of 1 to 4 voxels a side at places of the
    ``body`` that the seed draws; some merge, some touch lesions.
    """
    numbers = np.random.default_rng(seed)
    places = np.flatnonzero(body)
    starts = np.stack(np.unravel_index(numbers.choice(places, number), mask.shape), axis=1)
    noisy = mask.copy()
    for start, size in zip(starts, numbers.integers(1, 5, (number, 3)), strict=True):
        noisy[tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))] = True
    return noisy


def save_masks(study: Path, numbers: list[int], folder: Path) -> None:
    """Write ``suv``, ``reference`` and, by number of false lesions, predictions as .npy files.

    A prediction is the reference of the converted ``study`` moved by a voxel along each axis.
    """
    import SimpleITK as sitk

    images = {name: sitk.ReadImage(str(study / f"{name}.nii.gz")) for name in ("suv", "lesions")}
    suv = sitk.GetArrayFromImage(images["suv"])
    reference = sitk.GetArrayFromImage(images["lesions"]) != 0
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "suv.npy", suv)
    np.save(folder / "reference.npy", reference)
    moved = np.roll(reference, (1, 1, 1), (0, 1, 2))
    for number in numbers:
        np.save(folder / f"{number}.npy", add_false_lesions(moved, suv > 0.3, number, seed=number))
    spacing_zyx_mm = [round(float(mm), 6) for mm in images["suv"].GetSpacing()[::-1]]
    (folder / "spacing.json").write_text(json.dumps(spacing_zyx_mm))


def score_with_ours(
    predicted: np.ndarray,
    reference: np.ndarray,
    suv: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float],
    settings: dict[str, Any],
) -> tuple[float, dict[str, float]]:
    """Seconds, and those of our figures that a peer has as well."""
    from petct.metrics import score_masks

    start = time.perf_counter()
    score = score_masks(
        predicted,
        reference,
        suv,
        spacing_zyx_mm,
        settings["connectivity"],
        settings["surface_tolerance_mm"],
    )
    seconds = time.perf_counter() - start
    return seconds, {name: getattr(score, name) for name in (*AUTOPET, *SURFACES)}


def score_with_loop(
    predicted: np.ndarray, reference: np.ndarray, spacing_zyx_mm: tuple[float, float, float]
) -> tuple[float, dict[str, float]]:
    """The definition of autoPET's evaluation, step by step: each component's mask over the volume.

    Components by connected-components-3d with 18 neighbours, as there.
    """
    import cc3d

    def volume_without(mask: np.ndarray, other: np.ndarray) -> float:
        numbered = cc3d.connected_components(mask.astype(np.uint8), connectivity=18)
        voxels = 0
        for number in range(1, int(numbered.max()) + 1):
            component = np.isin(numbered, number)
            if (component * other).sum() == 0:
                voxels += int(component.sum())
        return voxels * voxel_ml

    start = time.perf_counter()
    voxel_ml = float(np.prod(spacing_zyx_mm)) / 1000.0
    overlap = (predicted * reference).sum()
    quality = {
        "dice": 2.0 * float(overlap) / float(predicted.sum() + reference.sum()),
        "fp_volume_ml": volume_without(predicted, reference),
        "fn_volume_ml": volume_without(reference, predicted),
    }
    return time.perf_counter() - start, quality


def score_with_monai(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> tuple[float, dict[str, float]]:
    """MONAI's two functions, on two channels each as its documentation shows."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    start = time.perf_counter()
    first, second = (
        torch.from_numpy(np.stack([~mask, mask]))[None] for mask in (predicted, reference)
    )
    dice = compute_surface_dice(first, second, [tolerance_mm], spacing=spacing_zyx_mm)
    hd95 = compute_hausdorff_distance(first, second, percentile=95, spacing=spacing_zyx_mm)
    quality = {"surface_dice": float(dice), "hd95_mm": float(hd95)}
    return time.perf_counter() - start, quality


def score_with_cropped_monai(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> tuple[float, dict[str, float]]:
    """MONAI's distances, measured once, on the foreground's block alone."""
    import torch
    from monai.metrics.utils import get_edge_surface_distance
    from monai.transforms.utils import generate_spatial_bounding_box

    start = time.perf_counter()
    low, high = generate_spatial_bounding_box((predicted | reference)[None], margin=1)
    block = tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
    first, second = (
        torch.from_numpy(np.ascontiguousarray(mask[block])) for mask in (predicted, reference)
    )
    _, distances, _ = get_edge_surface_distance(
        first, second, spacing=list(spacing_zyx_mm), symmetric=True
    )
    near = sum(int((one <= tolerance_mm).sum()) for one in distances)
    quality = {
        "surface_dice": near / sum(len(one) for one in distances),
        "hd95_mm": max(float(torch.quantile(one, 0.95)) for one in distances),
    }
    return time.perf_counter() - start, quality


def compete(who: str, masks: Path, number: int, settings: dict[str, Any], folder: Path) -> None:
    """Be one contestant on the prediction with so many false lesions."""
    predicted = np.load(masks / f"{number}.npy")
    reference = np.load(masks / "reference.npy")
    z, y, x = json.loads((masks / "spacing.json").read_text())
    tolerance_mm = settings["surface_tolerance_mm"]
    if who != "autopet" and who != "petct":
        import monai.metrics
        import torch

        torch.set_num_threads(settings["threads"])
        del monai
    if who == "petct":
        suv = np.load(masks / "suv.npy")
        seconds, quality = score_with_ours(predicted, reference, suv, (z, y, x), settings)
    elif who == "autopet":
        seconds, quality = score_with_loop(predicted, reference, (z, y, x))
    elif who == "monai":
        seconds, quality = score_with_monai(predicted, reference, (z, y, x), tolerance_mm)
    elif who == "monai_cropped":
        seconds, quality = score_with_cropped_monai(predicted, reference, (z, y, x), tolerance_mm)
    else:
        raise PetctError(f"contestant {who}: nobody of that name")
    report_outcome(folder, seconds, 1.0, **quality)


def benchmark_metrics(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the contests' table.

    ``settings``: size, repeats, threads and, of the config, ``evaluation``.
    """
    smoke = settings["size"] == "smoke"
    name = "smoke" if smoke else "clinical"
    folder = output.parent.absolute()
    study = sorted((inputs / name / "convert_study").iterdir())[0]
    given = settings["evaluation"] | {"threads": settings["threads"]}

    def contestant(number: int, who: str, key: str, setting: str = "") -> Contestant:
        command = [sys.executable, str(Path(__file__).absolute()), "--contestant", key]
        command += ["--masks", str(folder / "masks"), "--number", str(number)]
        command += ["--settings", json.dumps(given), "--folder", "."]
        shared = {"autopet": AUTOPET, "petct": ()}.get(key, SURFACES)
        return Contestant(
            who,
            setting,
            command,
            goal=None if key == "petct" else 5.0,
            quality_goals={figure: EQUAL[figure] for figure in shared},
        )

    def us(number: int) -> Contestant:
        return contestant(number, "petct", "petct")

    def loop(number: int) -> Contestant:
        return contestant(number, "autoPET's evaluation", "autopet", "as it comes")

    def monai(number: int) -> list[Contestant]:
        best = "best known: distances once, inside the block of all lesions"
        return [
            contestant(number, "MONAI", "monai", "as it comes"),
            contestant(number, "MONAI", "monai_cropped", best),
        ]

    contests = {
        NONE: [us(NONE), loop(NONE), *monai(NONE)],
        FEW: [us(FEW), loop(FEW)],
        MANY: [us(MANY), *monai(MANY)],
    }
    if smoke:
        contests = {FEW_SMOKE: [us(FEW_SMOKE), loop(FEW_SMOKE), *monai(FEW_SMOKE)]}
    save_masks(study, list(contests), folder / "masks")
    tables = [
        run_contest(
            "metrics",
            f"{name}, {number or 'no'} false lesions",
            "study",
            contestants,
            settings["repeats"],
            folder / f"contest-{number}",
        )
        for number, contestants in contests.items()
    ]
    pd.concat(tables).to_csv(output, sep="\t", index=False)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--number", type=int, help="of false lesions")
    given = parser.parse_args()
    if given.contestant:
        compete(given.contestant, given.masks, given.number, given.settings, given.folder)
    else:
        benchmark_metrics(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
