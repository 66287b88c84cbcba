"""What a training step costs, computed from the network's shapes alone: nothing is run.

A network on PyTorch's meta device has shapes and no values, so that a step of a network for an
80 GB GPU is counted on any machine in a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class StepCost:
    """Of one training step: parameters, floating-point operations, memory.

    ``memory_gb`` is what is kept for the backward pass, each tensor once, and weights, gradients
    and two moments in single precision. The allocator's reserve and the convolutions' workspace
    come on top: nnU-Net's plans for 8 and 24 GB count 4.5 and 15.1 here, so take 1.7 times as much.
    """

    parameters: int
    teraflop: float
    memory_gb: float


def count_step(
    network: torch.nn.Module, shape: tuple[int, ...], precision: torch.dtype
) -> StepCost:
    """The cost of a step on a (B, C, Z, Y, X) batch of a network that lives on the meta device.

    ``precision`` is that of the activations. Backward is counted as PyTorch would run it.
    """
    parameters = sum(p.numel() for p in network.parameters())
    network = network.to(precision).train()
    weights = {id(p) for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = tensor
        return tensor

    images = torch.empty(shape, dtype=precision, device="meta")
    counter = FlopCounterMode(display=False)
    with counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network(images)
            outputs = output if isinstance(output, list | tuple) else [output]
            loss = torch.stack([o.float().sum() for o in outputs]).sum()
        loss.backward()
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return StepCost(
        parameters=parameters,
        teraflop=counter.get_total_flops() / 1e12,
        memory_gb=(activations + 16 * parameters) / 1e9,
    )
