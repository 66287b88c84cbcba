"""Networks by name: any 3D segmentation network of MONAI, from the config alone."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from monai.networks import nets

from petct.errors import PetctError


def build_network(
    name: str,
    arguments: dict[str, Any],
    in_channels: int,
    patch_zyx: tuple[int, int, int],
    seed: int,
) -> torch.nn.Module:
    """A MONAI network (B, C, Z, Y, X) -> (B, 1, Z, Y, X) logits with seeded initial weights.

    ``name`` is a class of monai.networks.nets. A network that must know its input's size gets
    the patch.
    """
    network_class = getattr(nets, name, None)
    if not isinstance(network_class, type):
        raise PetctError(f"models: monai.networks.nets has no network {name!r}")
    takes = inspect.signature(network_class).parameters
    fixed: dict[str, Any] = {"in_channels": in_channels, "out_channels": 1}
    if "spatial_dims" in takes:
        fixed["spatial_dims"] = 3
    if "img_size" in takes:
        fixed["img_size"] = patch_zyx
    # Initial weights come from torch's global generator: borrow it, leave it as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return network_class(**fixed, **arguments)
        except (TypeError, ValueError) as error:
            raise PetctError(f"models: {name} does not take these arguments: {error}") from None


def check_window(
    network: torch.nn.Module, in_channels: int, patch_zyx: tuple[int, int, int]
) -> None:
    """Run an empty window through, so that a patch the network cannot take stops here, in words."""
    window = torch.zeros(1, in_channels, *patch_zyx)
    try:
        with torch.inference_mode():
            shape = tuple(network.eval()(window).shape)
    except (RuntimeError, ValueError) as error:
        raise PetctError(
            f"strategies: {type(network).__name__} cannot take a patch of {patch_zyx} voxels:"
            f" {error}"
        ) from None
    if shape != (1, 1, *patch_zyx):
        raise PetctError(
            f"models: {type(network).__name__} turns a patch of {patch_zyx} voxels into {shape},"
            f" expected {(1, 1, *patch_zyx)}"
        )


def expect_few_lesions(network: torch.nn.Module, probability: float) -> None:
    """Set the output's bias so that an untrained network calls a voxel lesion about this rarely.

    Lesions fill about a thousandth of a body. Starting from one half, a network spends its first
    hundreds of steps on learning that, and often stays at all background (the prior of Lin et
    al., Focal Loss for Dense Object Detection, ICCV 2017, section 3.3).
    """
    outputs = [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d)
        and module.out_channels == 1
        and module.bias is not None
    ]
    if outputs and outputs[-1].bias is not None:
        torch.nn.init.constant_(outputs[-1].bias, math.log(probability / (1.0 - probability)))
