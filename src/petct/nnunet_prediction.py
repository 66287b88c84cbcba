"""A network that nnU-Net planned and trained, led over a study by the engine of all networks.

Channels are normalised by nnU-Net's own classes and plan. Where its plan keeps the case's voxels,
as plans for the pipeline's grids do, nothing is resampled; elsewhere nnU-Net's code does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    CTNormalization,
    NoNormalization,
    RescaleTo01Normalization,
    ZScoreNormalization,
)
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from petct.devices import choose_precision
from petct.grids import Index
from petct.inference import Windows, hasten_network, paste_probability, predict_logits
from petct.nnunet import CONFIGURATION, LESION, build_from_plans
from petct.nnunet_cases import Case, read_image

# Each channel by itself, and by nothing but its own voxels and the plan.
NORMALISATIONS = {
    scheme.__name__: scheme
    for scheme in (
        CTNormalization,
        NoNormalization,
        RescaleTo01Normalization,
        ZScoreNormalization,
    )
}


class LesionLogit(torch.nn.Module):
    """A network's logit of lesion less that of background: its sigmoid is their softmax."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits[:, LESION:] - logits[:, :LESION]


def open_network(
    plans: dict[str, Any],
    dataset: dict[str, Any],
    weights: dict[str, torch.Tensor],
    settings: dict[str, Any],
    device: torch.device,
) -> tuple[torch.nn.Module, Windows]:
    """The planned network with its weights, ready to predict, and the windows it is led through.

    ``settings`` may have ``mirroring`` (true: along all axes, or their numbers) and ``overlap``,
    else they are nnU-Net's: all axes, one half. On a GPU it computes in float16, as nnU-Net does.
    """
    network = build_from_plans(plans, dataset, deep_supervision=False)
    network.load_state_dict(weights)
    z, y, x = PlansManager(plans).get_configuration(CONFIGURATION).patch_size
    mirroring = settings.get("mirroring", True)
    half = torch.float16 if device.type == "cuda" else choose_precision("auto", device)
    windows = Windows(
        size_zyx=(int(z), int(y), int(x)),
        overlap=settings.get("overlap", 0.5),
        mirrored_axes=(0, 1, 2) if mirroring is True else tuple(mirroring or ()),
        per_batch=settings["windows_per_batch"],
        precision=half,
    )
    return hasten_network(LesionLogit(network), device), windows


@dataclass(frozen=True)
class Prepared:
    """A case as nnU-Net's network reads it: ``image`` (C, Z, Y, X) float32.

    ``padding`` are the voxels before and after the image along z, y and x that fill a window.
    ``properties`` is what nnU-Net's export wants to know, None where the image lies on the case's
    own voxels.
    """

    case: Case
    image: torch.Tensor
    padding: tuple[tuple[int, int], ...]
    properties: dict[str, Any] | None


def prepare_case(case: Case, plans: dict[str, Any], dataset: dict[str, Any]) -> Prepared:
    """Read a case and normalise it by nnU-Net's plan; by its own code where that resamples."""
    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    image, geometry = read_image(case)
    properties: dict[str, Any] | None = None
    if keeps_voxels(image, geometry["spacing"], manager):
        schemes = zip(
            configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True
        )
        statistics = manager.foreground_intensity_properties_per_channel
        for channel, (scheme, mask) in enumerate(schemes):
            normalise = NORMALISATIONS[scheme](mask, statistics[str(channel)])
            image[channel] = normalise.run(image[channel])
    else:
        image, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
            image, None, geometry, manager, configuration, dataset
        )
    missing = [
        max(0, a - n) for a, n in zip(configuration.patch_size, image.shape[1:], strict=True)
    ]
    padding = tuple((n // 2, n - n // 2) for n in missing)
    if any(missing):
        image = np.pad(image, ((0, 0), *padding))
    return Prepared(case, torch.from_numpy(image), padding, properties)


def keeps_voxels(image: np.ndarray, spacing_zyx_mm: list[float], manager: PlansManager) -> bool:
    """Whether nnU-Net would neither resample, turn nor crop an image (C, Z, Y, X)."""
    configuration = manager.get_configuration(CONFIGURATION)
    used = set(configuration.normalization_schemes)
    if list(manager.transpose_forward) != [0, 1, 2] or not used <= set(NORMALISATIONS):
        return False
    shape = image.shape[1:]
    planned = compute_new_shape(shape, spacing_zyx_mm, configuration.spacing)
    # It crops to what is not zero in every channel, and may normalise by what is not.
    sides = (np.take(image, end, axis) for axis in (1, 2, 3) for end in (0, -1))
    whole = all(side.any() for side in sides)
    return whole and list(planned) == list(shape) and not any(configuration.use_mask_for_norm)


def predict_cases(
    network: torch.nn.Module,
    windows: Windows,
    prepared: list[Prepared],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    shape_zyx: Index,
    device: torch.device,
) -> np.ndarray:
    """Lesion probability (Z, Y, X) float32 on a study's grid of its cases; 0 outside these.

    Where cases overlap, the higher probability stands.
    """
    probability = np.zeros(shape_zyx, np.float32)
    logits = predict_logits(network, [each.image for each in prepared], windows, device)
    for each, found in zip(prepared, logits, strict=True):
        own = tuple(
            slice(before, n - after)
            for n, (before, after) in zip(found.shape, each.padding, strict=True)
        )
        logit = found[own]
        if each.properties is None:
            native = torch.sigmoid(logit).cpu().numpy()
        else:
            native = resample_probability(logit.cpu(), each.properties, plans, dataset)
        start = np.array(each.case.start_zyx)
        box = np.array(each.case.inside_zyx) + np.tile(start, 2)
        paste_probability(probability, box[None], each.case.start_zyx, native)
    return probability


def resample_probability(
    logit: torch.Tensor,
    properties: dict[str, Any],
    plans: dict[str, Any],
    dataset: dict[str, Any],
) -> np.ndarray:
    """nnU-Net's way back from its spacing: probability of lesion (Z, Y, X) on a case's voxels."""
    manager = PlansManager(plans)
    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        torch.stack([torch.zeros_like(logit), logit]),
        manager,
        manager.get_configuration(CONFIGURATION),
        manager.get_label_manager(dataset),
        properties,
        return_probabilities=True,
        num_threads_torch=torch.get_num_threads(),
    )
    return np.asarray(probabilities[LESION], np.float32)
