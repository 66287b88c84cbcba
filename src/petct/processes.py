"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

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
