"""Contest: augmented patches of 96³ voxels, two channels and a label, by one thread.

All flip, turn and scale, add noise and change the gamma of every patch, and deform it in a second
contest. A peer is given a window 1.25 times as large as the patch, so that nothing of its corners
is missing, cut from the same array in memory; ours reads what it needs itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from petct.command_line import exit_on_error
from petct.contest import Contestant, make_parser, report_outcome, run_contest

SIZES = {"full": (96, 5.0), "smoke": (24, 0.2)}  # voxels a side, seconds of work at least
DEGREES, SCALES, STD, LOG_GAMMA, DISPLACEMENT_MM = 15, (0.85, 1.15), 0.05, 0.2, 7.5
FOUR: dict[str, dict[str, Any]] = {
    "RandomFlip": {"axes": [2], "flip_probability": 1.0},
    "RandomAffine": {"scales": list(SCALES), "degrees": DEGREES, "translation": 0},
    "RandomNoise": {"mean": 0.0, "std": [0.0, STD]},
    "RandomGamma": {"log_gamma": [-LOG_GAMMA, LOG_GAMMA]},
}
FIVE = {
    **{name: FOUR[name] for name in ("RandomFlip", "RandomAffine")},
    "RandomElasticDeformation": {"num_control_points": 7, "max_displacement": DISPLACEMENT_MM},
    **{name: FOUR[name] for name in ("RandomNoise", "RandomGamma")},
}
KEPT = 8  # patches that are looked at afterwards
# Of (channels, label) (C, Z, Y, X) make the changed patch's image and label.
Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def benchmark_patches(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the table of both contests."""
    name = "smoke" if settings["size"] == "smoke" else "clinical"
    studies = inputs / name / "resample_study"
    study = sorted(path for path in studies.iterdir() if path.is_dir())[0] / "fine"
    tables = []
    for elastic in (True,) if settings["size"] == "smoke" else (False, True):
        command = [sys.executable, str(Path(__file__).absolute())]
        command += ["--inputs", str(study.absolute()), "--settings", json.dumps(settings)]
        command += ["--elastic"] if elastic else []

        def enter(
            who: str, how: str, contestant: str, goal: float | None, run: list[str] = command
        ) -> Contestant:
            there = [*run, "--contestant", contestant, "--folder", "."]
            return Contestant(who, how, there, goal, environment=ONE_THREAD)

        contestants = [
            enter("petct", "as it comes", "petct", None),
            enter("batchgeneratorsv2", "as it comes", "batchgenerators", 3 if elastic else 2),
            enter(
                "batchgeneratorsv2",
                "best known: labels by the nearest voxel, each axis scaled alike",
                "batchgenerators-best",
                3 if elastic else 2,
            ),
            enter("MONAI", "as it comes: dictionary transforms", "monai", 10 if elastic else 2),
            enter(
                "MONAI",
                "best known: the affine grid kept, flip of what was turned, no metadata",
                "monai-best",
                10 if elastic else 2,
            ),
            enter("TorchIO", "as it comes: on windows", "torchio", 40 if elastic else 5),
            enter(
                "TorchIO",
                "best known: on windows of 128³, eight patches cut from each, overlapping",
                "torchio-best",
                None,
            ),
        ]
        if settings["size"] == "smoke":
            contestants = [c for c in contestants if not c.settings.startswith("best known")]
        tables.append(
            run_contest(
                "patches_elastic" if elastic else "patches",
                name,
                "patch",
                contestants,
                settings["repeats"],
                output.parent / ("elastic" if elastic else "four"),
            )
        )
    pd.concat(tables).to_csv(output, sep="\t", index=False)


def compete(
    contestant: str, study: Path, elastic: bool, settings: dict[str, Any], folder: Path
) -> None:
    """Make patches for some seconds and report how many; quality is what they look like."""
    torch.set_num_threads(1)
    side, least_s = SIZES[settings["size"]]
    definition = FIVE if elastic else FOUR
    if contestant == "petct":
        seconds, number, made = run_ours(study, side, definition, least_s)
    else:
        image, label = read_padded(study, window_of(contestant, side))
        augment = PEERS[contestant](side, elastic)
        eight = contestant == "torchio-best"
        seconds, number, made = run_peer(
            image, label, window_of(contestant, side), side, augment, least_s, 8 if eight else 1
        )
    # What leaves the patches' values alone is seen here; of few and random patches it is rough.
    images = torch.stack([pair[0] for pair in made])
    labels = torch.stack([pair[1] for pair in made])
    assert images.shape[1:] == (2, side, side, side) and images.isfinite().all()
    report_outcome(
        folder,
        seconds,
        number,
        ct=float(images[:, 0].mean()),
        suv=float(images[:, 1].mean()),
        lesion_permille=1000 * float((labels > 0).float().mean()),
    )


def window_of(contestant: str, side: int) -> int:
    """Voxels a side of what a peer is given."""
    return side * 4 // 3 if contestant == "torchio-best" else side * 5 // 4


def run_ours(
    study: Path, side: int, definition: dict[str, dict[str, Any]], least_s: float
) -> tuple[float, int, list[tuple[torch.Tensor, torch.Tensor]]]:
    from petct.arrays import open_arrays
    from petct.augmentation import window_to_read
    from petct.patches import open_source
    from petct.training import draw_batches

    patch = (side, side, side)
    source = open_source(open_arrays(study), None, None, window_to_read(patch, definition))
    settings = {
        "batch_size": 2,
        "steps_per_epoch": 1_000_000,
        "lesion_share": 0.0,
        "uptake_share": 0.0,
        "augmentation_engine": "torch",
        "augmentation": definition,
    }
    batches = draw_batches([source], patch, settings, seed=0, epoch=1)
    next(batches)
    made: list[tuple[torch.Tensor, torch.Tensor]] = []
    number, start = 0, time.perf_counter()
    while time.perf_counter() - start < least_s:
        images, labels = next(batches)
        number += len(images)
        made += list(zip(images, labels, strict=True)) if number <= KEPT else []
    return time.perf_counter() - start, number, made


def run_peer(
    image: np.ndarray,
    label: np.ndarray,
    window: int,
    side: int,
    augment: Augment,
    least_s: float,
    patches: int,
) -> tuple[float, int, list[tuple[torch.Tensor, torch.Tensor]]]:
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the one that batchgenerators draws from

    def make() -> list[tuple[torch.Tensor, torch.Tensor]]:
        start = [int(generator.integers(0, n - window + 1)) for n in label.shape]
        box = tuple(slice(s, s + window) for s in start)
        channels = torch.from_numpy(image[(slice(None), *box)].astype(np.float32))
        mask = torch.from_numpy(label[box].astype(np.int16))[None]
        changed, lesion = augment(channels, mask)
        spare = changed.shape[1] - side
        if not spare:
            return [(changed, lesion)]
        corners = (
            generator.integers(0, spare + 1, (patches, 3))
            if patches > 1
            else np.full((1, 3), spare // 2)
        )
        cut = [(slice(None), *(slice(int(c), int(c) + side) for c in row)) for row in corners]
        return [(changed[part].clone(), lesion[part].clone()) for part in cut]

    make()
    made: list[tuple[torch.Tensor, torch.Tensor]] = []
    number, began = 0, time.perf_counter()
    while time.perf_counter() - began < least_s:
        patches_made = make()
        number += len(patches_made)
        made += patches_made if number <= KEPT or not made else []
    return time.perf_counter() - began, number, made


def read_padded(study: Path, window: int) -> tuple[np.ndarray, np.ndarray]:
    """A study's image (2, Z, Y, X) and label (Z, Y, X), at least as large as the window."""
    image, label = np.load(study / "image.npy"), np.load(study / "label.npy")
    sides = [(max(0, window - n) // 2, max(0, window - n) - max(0, window - n) // 2)
             for n in label.shape]  # fmt: skip
    padded = np.stack([np.pad(channel, sides, constant_values=channel.min()) for channel in image])
    return padded, np.pad(label, sides)


def use_batchgenerators(side: int, elastic: bool, best: bool = False) -> Augment:
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    radians = float(np.radians(DEGREES))
    transforms = ComposeTransforms(
        [
            SpatialTransform(
                (side, side, side),
                0,
                False,
                p_elastic_deform=1 if elastic else 0,
                p_rotation=1,
                rotation=(-radians, radians),
                p_scaling=1,
                scaling=SCALES,
                **({"mode_seg": "nearest", "p_synchronize_scaling_across_axes": 1} if best else {}),
            ),
            MirrorTransform((2,)),
            GaussianNoiseTransform((0, STD**2)),
            GammaTransform(
                (float(np.exp(-LOG_GAMMA)), float(np.exp(LOG_GAMMA))),
                p_invert_image=0,
                synchronize_channels=False,
                p_per_channel=1,
                p_retain_stats=0,
            ),
        ]
    )

    def augment(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        changed = transforms(image=image, segmentation=label)
        return changed["image"], changed["segmentation"]

    return augment


def use_monai(side: int, elastic: bool, best: bool = False) -> Augment:
    import monai.transforms as mt
    from monai.data import set_track_meta

    keys, modes = ("image", "label"), ("bilinear", "nearest")
    spread: dict[str, Any] = {
        "prob": 1.0,
        "spatial_size": (side, side, side),
        "rotate_range": (float(np.radians(DEGREES)),) * 3,
        "scale_range": ((SCALES[0] - 1, SCALES[1] - 1),) * 3,
        "mode": modes,
        "padding_mode": "border",
    }
    set_track_meta(not best)
    if elastic:
        spatial: mt.Transform = mt.Rand3DElasticd(keys, (5, 8), (50, 150), **spread)
    else:
        spatial = mt.RandAffined(keys, cache_grid=best, **spread)
    flip = mt.RandFlipd(keys, prob=1.0, spatial_axis=2)
    others = [
        mt.RandGaussianNoised(["image"], prob=1.0, std=STD),
        mt.RandAdjustContrastd(
            ["image"], prob=1.0, gamma=(float(np.exp(-LOG_GAMMA)), float(np.exp(LOG_GAMMA)))
        ),
    ]
    steps = mt.Compose([spatial, flip, *others] if best else [flip, spatial, *others])

    def augment(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        changed = steps({"image": image, "label": label})
        return torch.as_tensor(changed["image"]), torch.as_tensor(changed["label"])

    return augment


def use_torchio(side: int, elastic: bool) -> Augment:
    import torchio as tio

    definition = FIVE if elastic else FOUR
    steps = tio.Compose([getattr(tio, name)(**given) for name, given in definition.items()])

    def augment(image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        subject = tio.Subject(
            ct=tio.ScalarImage(tensor=image[:1], affine=affine),
            suv=tio.ScalarImage(tensor=image[1:], affine=affine),
            label=tio.LabelMap(tensor=label, affine=affine),
        )
        changed = steps(subject)
        return torch.cat([changed.ct.data, changed.suv.data]), changed.label.data

    return augment


PEERS: dict[str, Callable[[int, bool], Augment]] = {
    "batchgenerators": use_batchgenerators,
    "batchgenerators-best": lambda side, elastic: use_batchgenerators(side, elastic, best=True),
    "monai": use_monai,
    "monai-best": lambda side, elastic: use_monai(side, elastic, best=True),
    "torchio": use_torchio,
    "torchio-best": use_torchio,
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--elastic", action="store_true")
    given = parser.parse_args()
    if given.contestant:
        compete(given.contestant, given.inputs, given.elastic, given.settings, given.folder)
    else:
        benchmark_patches(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
