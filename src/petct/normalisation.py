"""Instance normalisation for training on a CPU, with the channels last.

PyTorch copies such images to normalise them and copies them back, a fifth of a step of a network
with 16 first features on patches of 48 voxels or more, next to nothing on small ones; groups of one
channel, which prediction uses, are slow backwards. Its batch normalisation computes in that layout,
and of a batch of one image it is an instance normalisation: so one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

_CHANNELS_LAST = torch.channels_last_3d


def arrange_training(
    network: torch.nn.Module, device: torch.device, to_compile: bool = False
) -> torch.nn.Module:
    """The network on ``device``, channels last: so convolve CPUs and tensor cores.

    On a CPU its instance normalisations are replaced by faster ones of the same function, names
    and parameters (the very same, not copies), but in a network ``to_compile``; results differ by
    rounding.
    """
    network.to(device, memory_format=_CHANNELS_LAST)  # type: ignore[call-overload]
    if device.type == "cpu" and not to_compile:
        replace_normalisations(network, _Normalisation)
    return network


def replace_normalisations(
    network: torch.nn.Module, stand_in: Callable[[torch.nn.InstanceNorm3d], torch.nn.Module]
) -> None:
    """Put ``stand_in`` of each instance normalisation without running statistics in its place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.InstanceNorm3d) and not child.track_running_stats:
                parent.add_module(name, stand_in(child))


class _Normalisation(torch.nn.Module):
    """A fast stand-in for an instance normalisation without running statistics."""

    weight: torch.nn.Parameter | None
    bias: torch.nn.Parameter | None

    def __init__(self, norm: torch.nn.InstanceNorm3d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # What autocast made smaller is left to PyTorch, and so is the error for a single voxel.
        if images.dtype != torch.float32 or images.dim() != 5 or images[0, 0].numel() < 2:
            return functional.instance_norm(
                images, weight=self.weight, bias=self.bias, eps=self.eps
            )
        normalised: torch.Tensor = _NormaliseEach.apply(images, self.weight, self.bias, self.eps)
        return normalised


class _NormaliseEach(torch.autograd.Function):
    """Batch normalisation, image by image, of (B, C, Z, Y, X) float32; weight and bias (C) or None.

    The second derivative does not exist.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
    ) -> torch.Tensor:
        images = images.contiguous(memory_format=_CHANNELS_LAST)
        normalised = torch.empty_like(images)
        # By image, each channel's mean and the inverse of its standard deviation.
        means, inverses = images.new_empty((2, *images.shape[:2]))
        for image, out, mean, inverse in zip(
            images.split(1), normalised.split(1), means, inverses, strict=True
        ):
            torch.ops.aten.native_batch_norm.out(
                image, weight, bias, None, None, True, 0.0, eps,
                out=out, save_mean=mean, save_invstd=inverse,
            )  # fmt: skip
        ctx.save_for_backward(images, weight, means, inverses)
        ctx.eps = eps
        return normalised

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, None]:
        images, weight, means, inverses = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=_CHANNELS_LAST)
        backward = torch.empty_like(images)
        weights, biases = images.new_empty((2, *images.shape[:2]))
        for place, (image, out) in enumerate(zip(images.split(1), backward.split(1), strict=True)):
            torch.ops.aten.native_batch_norm_backward.out(
                gradient[place : place + 1], image, weight, None, None, means[place],
                inverses[place], True, ctx.eps, [True, True, True],
                out0=out, out1=weights[place], out2=biases[place],
            )  # fmt: skip
        if weight is None:
            return backward, None, None, None
        return backward, weights.sum(0), biases.sum(0), None
