"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from petct.errors import PetctError

# The others wait for the first while it waits for another job or prepares the data.
_PATIENCE = timedelta(days=30)


@contextmanager
def join_processes() -> Iterator[tuple[int, int]]:
    """This process's number and how many there are: 0 and 1 unless torchrun started it.

    Until the block ends they can exchange tensors, on GPUs by NCCL and on CPUs by gloo.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        yield 0, 1
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield distributed.get_rank(), processes
    finally:
        distributed.destroy_process_group()


def tell_all(value: bool) -> bool:
    """What the first process says, in all of them."""
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def share_network(network: torch.nn.Module, device: torch.device) -> DistributedDataParallel:
    """The network as all processes train it: they begin alike and take the mean of their gradients.

    On GPUs, batch normalisation is over the whole batch. Raises PetctError where it cannot be.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        if device.type != "cuda":
            raise PetctError(
                f"{type(network).__name__} has batch normalisation, which several processes share"
                " on GPUs alone; set models.*.gpus to 1"
            )
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    # Of kernels of one voxel, whose layout is ambiguous and makes no difference.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        network, [device.index] if device.type == "cuda" else None, static_graph=True
    )


def gather_batch(share: torch.Tensor) -> torch.Tensor:
    """The shares of a batch, (B, ...) each, one after the other in every process.

    The gradient of what all processes compute from it alike goes back to each share; as
    ``share_network`` takes the mean over processes, it is multiplied by their number.
    """
    whole: torch.Tensor = _Gathered.apply(share.contiguous())
    return whole


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, share: torch.Tensor) -> torch.Tensor:
        shares = [torch.empty_like(share) for _ in range(distributed.get_world_size())]
        distributed.all_gather(shares, share)
        return torch.cat(shares)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        processes = distributed.get_world_size()
        return gradient.chunk(processes)[distributed.get_rank()] * processes
