"""Carrying out what was drawn for a patch: what to read of a study, interpolation, intensities.

On a CPU each of the eight neighbours of all points is fetched at once, for a few slices at a time
that the cache holds: torch's grid_sample walks point by point there and takes three times as long.
On other devices grid_sample is the faster one. Both interpolate linearly, labels by the nearest
voxel, and what lies outside of the study is as at its border.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional

from petct.augmentation import INTENSITY_CHANNELS, Change, Gamma, Noise, spline_weights
from petct.grids import Index

# Points at a time: their coordinates, weights and neighbours fill a core's cache.
_BLOCK = 100_000


def place_patch(start_zyx: Index, window_zyx: Index, patch_zyx: Index) -> np.ndarray:
    """The centre (z, y, x), in voxels, of the patch in the middle of a window that starts there."""
    start, window, patch = (np.array(part) for part in (start_zyx, window_zyx, patch_zyx))
    return start + (window - patch) // 2 + (patch - 1) / 2


def find_part(
    change: Change, centre_zyx: np.ndarray, patch_zyx: Index, study_zyx: Index
) -> tuple[Index, Index]:
    """Start and shape of the part of a study that the changed patch is interpolated from."""
    half = (np.array(patch_zyx) - 1) / 2
    reach = np.abs(change.matrix) @ half
    if change.displacement is not None:
        moved = np.einsum("ab,bijk->aijk", change.matrix, change.displacement)
        reach = reach + np.abs(moved).max(axis=(1, 2, 3))
    # Rounding must not make a slice necessary that is read with no weight.
    low = np.floor(centre_zyx + change.shift - reach + 1e-6).astype(int)
    high = np.ceil(centre_zyx + change.shift + reach - 1e-6).astype(int) + 1
    size = np.array(study_zyx)
    low = np.clip(low, 0, size - 1)
    high = np.clip(high, low + 1, size)
    (z, y, x), (depth, height, width) = low.tolist(), (high - low).tolist()
    return (z, y, x), (depth, height, width)


def change_patch(
    channels: list[torch.Tensor],
    label: torch.Tensor,
    centre_zyx: np.ndarray,
    change: Change,
    image_out: torch.Tensor,
    label_out: torch.Tensor,
) -> None:
    """Fill a patch, image (C, Z, Y, X) and label (1, Z, Y, X) in float32, from a part of a study.

    ``channels`` are the part's images and ``label`` its mask, (Z, Y, X) each, of any type, on the
    device that the patch is on. ``centre_zyx`` is where the patch's centre lies in that part.
    """
    flipped = change.flipped
    if flipped is not None:
        patch = np.array(image_out.shape[1:])
        start = np.round(centre_zyx - (patch - 1) / 2).astype(int)
        size = np.array(label.shape)
        if (start >= 0).all() and (start + patch <= size).all():
            box = tuple(slice(s, s + n) for s, n in zip(start, patch, strict=True))
            for number, channel in enumerate(channels):
                image_out[number].copy_(channel[box].flip(flipped))
            label_out[0].copy_(label[box].flip(flipped))
            change_intensities(image_out, change)
            return
    planes, weights_z = _plan_points(change, centre_zyx, image_out)
    if image_out.device.type == "cpu":
        _gather(channels, label, planes, weights_z, image_out, label_out)
    else:
        _sample(channels, label, planes, weights_z, image_out, label_out)
    change_intensities(image_out, change)


def change_intensities(image: torch.Tensor, change: Change) -> None:
    """Noise and gamma, in place, on CT and PET of one patch (C, Z, Y, X)."""
    channels = [channel for channel in image[:INTENSITY_CHANNELS]]
    for step in change.intensities:
        if isinstance(step, Noise):
            generator = torch.Generator(image.device).manual_seed(step.seed)
            for channel, mean, std in zip(channels, step.mean, step.std, strict=True):
                # Of a field of its own each: TorchIO draws them one by one too.
                noise = torch.empty_like(channel).normal_(generator=generator)
                channel.add_(noise, alpha=std)
                if mean:
                    channel.add_(mean)
        else:
            assert isinstance(step, Gamma)
            for channel, exponent in zip(channels, step.exponents, strict=True):
                # pow takes twice as long; the logarithm of 0 becomes 0 again.
                size = channel.abs().log_().mul_(exponent).exp_()
                torch.copysign(size, channel, out=channel)


def _plan_points(
    change: Change, centre_zyx: np.ndarray, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points are read: coordinates (3, Z, Y X) are ``weights_z @ planes``.

    An affine coordinate is a plane of (y, x) and a slope along z; a spline is a sum over control
    points along z of planes. ``planes`` are (3, K, Y X), ``weights_z`` (Z, K).
    """
    shape = tuple(out.shape[1:])
    z, y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    origin = centre_zyx + change.shift
    flat = (
        origin[:, None, None]
        + change.matrix[:, 1, None, None] * y[None, :, None]
        + change.matrix[:, 2, None, None] * x[None, None, :]
    )
    slope = np.broadcast_to(change.matrix[:, 0, None, None], flat.shape)
    planes, along_z = [flat[:, None], slope[:, None]], [np.ones_like(z)[:, None], z[:, None]]
    if change.displacement is not None:
        moved = np.einsum("ab,bijk->aijk", change.matrix, change.displacement)
        weights = [
            spline_weights(size, window, number)
            for size, window, number in zip(shape, change.window_zyx, moved.shape[1:], strict=True)
        ]
        # In torch, which keeps to the threads that it was given.
        along_y, along_x = (torch.from_numpy(part) for part in weights[1:])
        splines = torch.einsum("aijk,yj,xk->aiyx", torch.from_numpy(moved), along_y, along_x)
        planes.append(splines.numpy())
        along_z.append(weights[0])
    both = np.concatenate(planes, axis=1).reshape(3, -1, shape[1] * shape[2])
    return (
        torch.from_numpy(both.astype(np.float32)).to(out.device),
        torch.from_numpy(np.concatenate(along_z, axis=1).astype(np.float32)).to(out.device),
    )


def _gather(
    channels: list[torch.Tensor],
    label: torch.Tensor,
    planes: torch.Tensor,
    weights_z: torch.Tensor,
    image_out: torch.Tensor,
    label_out: torch.Tensor,
) -> None:
    """Interpolation on a CPU."""
    _, height, width = label.shape
    limits = [n - 1 for n in label.shape]
    slab = height * width
    # At the last slice, row or column the neighbour beyond it has no weight, but must be there.
    spare = slab + width + 1
    flat = [_flatten(channel, spare) for channel in channels]
    flat_label = label.reshape(-1)
    has_label = bool(label.any())
    label_out.zero_()
    step = max(1, _BLOCK // planes.shape[2])
    for first in range(0, len(weights_z), step):
        block = slice(first, first + step)
        points = [
            torch.mm(weights_z[block], plane).view(-1).clamp_(0, limit)
            for plane, limit in zip(planes, limits, strict=True)
        ]
        if has_label:
            z, y, x = ((coordinate + 0.5).int() for coordinate in points)
            nearest = flat_label.index_select(0, _number(z, y, x, slab, width))
            label_out[0, block].view(-1).copy_(nearest)
        z, y, x = (coordinate.int() for coordinate in points)
        index = _number(z, y, x, slab, width)
        part_z, part_y, part_x = (coordinate.frac_() for coordinate in points)
        for values, out in zip(flat, image_out, strict=True):
            rows = [
                values[offset:]
                .index_select(0, index)
                .lerp_(values[offset + 1 :].index_select(0, index), part_x)
                for offset in (0, width, slab, slab + width)
            ]
            near, far = rows[0].lerp_(rows[1], part_y), rows[2].lerp_(rows[3], part_y)
            torch.lerp(near, far, part_z, out=out[block].view(-1))


def _flatten(channel: torch.Tensor, spare: int) -> torch.Tensor:
    """A (Z, Y, X) array as one row of float32 with zeros at its end."""
    flat = torch.empty(channel.numel() + spare)
    flat[: channel.numel()].view(channel.shape).copy_(channel)
    flat[channel.numel() :] = 0.0
    return flat


def _number(
    z: torch.Tensor, y: torch.Tensor, x: torch.Tensor, slab: int, width: int
) -> torch.Tensor:
    """Voxels' places in a flat array, int32 (a part of a study has less than 2**31 voxels)."""
    return torch.add(torch.add(x, y, alpha=width), z, alpha=slab)


def _sample(
    channels: list[torch.Tensor],
    label: torch.Tensor,
    planes: torch.Tensor,
    weights_z: torch.Tensor,
    image_out: torch.Tensor,
    label_out: torch.Tensor,
) -> None:
    """The same by grid_sample."""
    half = (torch.tensor(label.shape, dtype=torch.float32, device=label.device) - 1) / 2
    # An axis of one voxel has no extent: any coordinate reads that voxel.
    half = half.clamp(min=0.5)[:, None, None]
    points = (torch.matmul(weights_z, planes) / half - 1.0).flip(0)
    points = points.view(3, *label_out.shape[1:]).permute(1, 2, 3, 0)[None]
    stacked = torch.stack([channel.float() for channel in channels])[None]
    settings = {"padding_mode": "border", "align_corners": True}
    image_out.copy_(functional.grid_sample(stacked, points, mode="bilinear", **settings)[0])  # type: ignore[arg-type]
    nearest = functional.grid_sample(label[None, None].float(), points, mode="nearest", **settings)  # type: ignore[arg-type]
    label_out.copy_(nearest[0])
