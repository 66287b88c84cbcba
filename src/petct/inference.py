"""Running a trained network over a study: windows inside boxes, back to the native grid."""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from petct.boxes import widen_box
from petct.grids import Index
from petct.patches import Source, cut_window, stack_images


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
