"""What a network reads of a study: TorchIO subjects over memory-mapped arrays, and where to cut.

A patch is read straight from the arrays on disk, so drawing one costs the same whatever the size
of the study, and every batch mixes studies freely without a queue of loaded volumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torchio as tio

from petct.arrays import StudyArrays
from petct.grids import Grid, Index, interpolate_window, interpolation_matrices


@dataclass(frozen=True)
class Prior:
    """A coarse probability (Z, Y, X) and the matrices that carry it to a study's grid."""

    probability: np.ndarray
    matrices: list[np.ndarray]


@dataclass(frozen=True)
class Source:
    """What patches of one study are cut from.

    ``image`` (2, Z, Y, X), ct and suv, and ``label`` (Z, Y, X) lie on ``grid``; ``subject`` holds
    the same for TorchIO, as (1, Z, Y, X) images. ``lesion_voxels`` are
    rows of lesion number, z, y, x; ``uptake_voxels`` the same for hot parts that are none.
    ``boxes_zyx`` are the regions that a network looks into, rows of start and stop
    (z0, y0, x0, z1, y1, x1). Of a study that was smaller than a window, ``study_grid``
    is the part of ``grid`` without the ``padding_zyx`` voxels of air before and those after it.
    """

    image: np.ndarray
    label: np.ndarray
    subject: tio.Subject
    lesion_voxels: np.ndarray
    uptake_voxels: np.ndarray
    boxes_zyx: np.ndarray
    prior: Prior | None
    grid: Grid
    study_grid: Grid
    padding_zyx: Index


def open_source(
    arrays: StudyArrays,
    boxes_zyx: np.ndarray | None,
    coarse: tuple[np.ndarray, Grid] | None,
    at_least_zyx: Index,
) -> Source:
    """Make a study ready to be cut; ``boxes_zyx`` None is the whole of it.

    A study smaller than ``at_least_zyx`` along an axis is padded on both sides with each
    channel's lowest value, which is air; the source's grid then starts before the study's.
    """
    missing = [max(0, a - n) for a, n in zip(at_least_zyx, arrays.grid.shape_zyx, strict=True)]
    before = (missing[0] // 2, missing[1] // 2, missing[2] // 2)
    image, label, grid = arrays.image, arrays.label, arrays.grid
    if any(missing):
        sides = [(b, m - b) for b, m in zip(before, missing, strict=True)]
        image = np.stack([np.pad(c, sides, constant_values=c.min()) for c in image])
        label = np.pad(label, sides)
        z, y, x = (int(n) for n in label.shape)
        grid = grid.cut((-before[0], -before[1], -before[2]), (z, y, x))
    if boxes_zyx is None:
        boxes_zyx = np.array([0, 0, 0, *arrays.grid.shape_zyx])
    boxes = boxes_zyx.reshape(-1, 6)
    affine = np.diag([*grid.spacing_zyx_mm, 1.0])
    subject = tio.Subject(
        ct=tio.ScalarImage(tensor=image[0:1], affine=affine),
        suv=tio.ScalarImage(tensor=image[1:2], affine=affine),
        label=tio.LabelMap(tensor=label[None], affine=affine),
    )
    prior = None
    if coarse is not None:
        prior = Prior(coarse[0], interpolation_matrices(coarse[1], grid))
    shift = np.array([0, *before], np.int32)
    return Source(
        image=image,
        label=label,
        subject=subject,
        lesion_voxels=arrays.lesion_voxels + shift,
        uptake_voxels=keep_inside(arrays.uptake_voxels, boxes) + shift,
        boxes_zyx=boxes + np.array([*before, *before]),
        prior=prior,
        grid=grid,
        study_grid=arrays.grid,
        padding_zyx=before,
    )


def cut_window(source: Source, start_zyx: Index, shape_zyx: Index) -> tio.Subject:
    """The part of a study that starts at a voxel: ct, suv, label and, if there is one, prior."""
    patch = tio.data.sampler.PatchSampler(shape_zyx).extract_patch(source.subject, start_zyx)
    if source.prior is not None:
        probability = interpolate_window(
            source.prior.probability, source.prior.matrices, start_zyx, shape_zyx
        )
        ct = patch["ct"]
        assert isinstance(ct, tio.Image)
        image = tio.ScalarImage(tensor=probability[None], affine=ct.affine)
        patch.add_image(image, "prior")
    return patch


def read_part(
    source: Source, start_zyx: Index, shape_zyx: Index
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The same as it lies in the arrays, not yet read: the channels and the label, (Z, Y, X)."""
    box = tuple(slice(s, s + n) for s, n in zip(start_zyx, shape_zyx, strict=True))
    channels = [torch.from_numpy(channel[box]) for channel in source.image]
    if source.prior is not None:
        probability = interpolate_window(
            source.prior.probability, source.prior.matrices, start_zyx, shape_zyx
        )
        channels.append(torch.from_numpy(probability))
    return channels, torch.from_numpy(source.label[box])


def keep_inside(voxels: np.ndarray, boxes_zyx: np.ndarray) -> np.ndarray:
    """Those rows of part number, z, y, x that lie in a box."""
    places = voxels[:, None, 1:]
    inside = (places >= boxes_zyx[None, :, :3]) & (places < boxes_zyx[None, :, 3:])
    return voxels[np.any(np.all(inside, axis=2), axis=1)]


def draw_start(
    source: Source, shape_zyx: Index, voxels: np.ndarray, generator: np.random.Generator
) -> Index:
    """Where a random patch starts: around a part in ``voxels``, or anywhere in the boxes if empty.

    ``voxels`` are rows of part number, z, y, x: the study's lesions or its hot organs. Each part
    is drawn alike, whatever its size, and one of its voxels lies anywhere in the patch's middle
    half. TorchIO's label sampler would weigh the voxels of a volume that is read whole, and so
    large parts by their volume.
    """
    size = np.array(shape_zyx)
    if len(voxels):
        number = generator.choice(np.unique(voxels[:, 0]))
        centre = generator.choice(voxels[voxels[:, 0] == number, 1:])
        start = centre - size // 4 - generator.integers(0, size // 2 + 1)
    else:
        boxes = source.boxes_zyx
        volume = np.prod(boxes[:, 3:] - boxes[:, :3], axis=1).astype(float)
        box = boxes[generator.choice(len(boxes), p=volume / volume.sum())]
        start = generator.integers(box[:3], box[3:]) - size // 2
    start = np.clip(start, 0, np.array(source.grid.shape_zyx) - size)
    return int(start[0]), int(start[1]), int(start[2])


def draw_patch(
    source: Source, shape_zyx: Index, voxels: np.ndarray, generator: np.random.Generator
) -> tio.Subject:
    """The patch that starts where ``draw_start`` says."""
    return cut_window(source, draw_start(source, shape_zyx, voxels, generator), shape_zyx)


def stack_images(subject: tio.Subject) -> torch.Tensor:
    """What a network sees, (C, Z, Y, X) float32: ct, suv and, if there is one, prior."""
    names = ("ct", "suv", "prior") if "prior" in subject else ("ct", "suv")
    return torch.cat([image_of(subject, name) for name in names])


def image_of(subject: tio.Subject, name: str) -> torch.Tensor:
    """An image of a subject as (1, Z, Y, X) float32."""
    image = subject[name]
    assert isinstance(image, tio.Image)
    return image.data.float()
