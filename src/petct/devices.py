"""Where networks compute, in which precision, and how their weights come back."""

from __future__ import annotations

import torch


def choose_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """What to compute in: ``auto`` is bfloat16 where the device has instructions for it."""
    if precision == "float32":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    computes = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if computes else torch.float32


def copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights on the CPU, free of the network, in the layout that files hold."""
    plain = {"device": "cpu", "memory_format": torch.contiguous_format, "copy": True}
    return {name: w.detach().to(**plain) for name, w in network.state_dict().items()}
