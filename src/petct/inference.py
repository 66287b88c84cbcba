"""Running a trained network over a study: windows inside boxes, back to the native grid."""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from petct.grids import Grid, interpolate, interpolation_matrices
from petct.patches import Index, Source, cut_window, stack_images


def predict_probability(
    network: torch.nn.Module,
    source: Source,
    window_zyx: Index,
    overlap: float,
    windows_per_batch: int,
    precision: torch.dtype,
    device: torch.device,
) -> np.ndarray:
    """Lesion probability (Z, Y, X) float32 on the study's own grid; 0 outside its boxes.

    Where boxes overlap, the higher probability stands.
    """
    probability = np.zeros(source.grid.shape_zyx, np.float32)
    for box in source.boxes_zyx:
        start, shape = widen_box(box, window_zyx, source.grid.shape_zyx)
        image = stack_images(cut_window(source, start, shape))[None].to(device)
        autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)
        with torch.inference_mode(), autocast:
            logits = sliding_window_inference(
                image, window_zyx, windows_per_batch, network, overlap=overlap, mode="gaussian"
            )
        assert isinstance(logits, torch.Tensor)
        found = torch.sigmoid(logits[0, 0].float()).cpu().numpy()
        # The context around a box helps to see it, but the box says where to look.
        inside = tuple(slice(box[a], box[a + 3]) for a in range(3))
        local = tuple(slice(box[a] - start[a], box[a + 3] - start[a]) for a in range(3))
        probability[inside] = np.maximum(probability[inside], found[local])
    own = zip(source.padding_zyx, source.study_grid.shape_zyx, strict=True)
    return probability[tuple(slice(before, before + size) for before, size in own)]


def widen_box(box_zyx: np.ndarray, at_least_zyx: Index, shape_zyx: Index) -> tuple[Index, Index]:
    """Start and shape of a box made at least a window large, moved to lie inside the study."""
    start, shape = [], []
    for axis in range(3):
        low, high = int(box_zyx[axis]), int(box_zyx[axis + 3])
        size = max(high - low, min(at_least_zyx[axis], shape_zyx[axis]))
        low = min(max(0, (low + high - size) // 2), shape_zyx[axis] - size)
        start.append(low)
        shape.append(size)
    return (start[0], start[1], start[2]), (shape[0], shape[1], shape[2])


def restore_native(
    probability: np.ndarray, grid: Grid, native: Grid, body_start_zyx: Index, body_stop_zyx: Index
) -> np.ndarray:
    """Carry a probability to the whole native PET grid, 0 outside the body's box."""
    shape = tuple(b - a for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))
    cut = native.cut(body_start_zyx, (shape[0], shape[1], shape[2]))
    whole = np.zeros(native.shape_zyx, np.float32)
    inside = tuple(slice(a, b) for a, b in zip(body_start_zyx, body_stop_zyx, strict=True))
    whole[inside] = interpolate(probability, interpolation_matrices(grid, cut))
    return whole
