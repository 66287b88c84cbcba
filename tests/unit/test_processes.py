"""Processes that share a training; two of them train in tests/workflow/test_killed_training.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from petct.errors import PetctError
from petct.processes import gather_batch, join_processes, share_network, tell_all


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, world_size=1, rank=0)
    yield
    distributed.destroy_process_group()


def test_a_process_on_its_own_has_nobody_to_join() -> None:
    with join_processes() as (rank, processes):
        assert (rank, processes) == (0, 1)
        assert not distributed.is_initialized()
        assert tell_all(True) and not tell_all(False)


@pytest.mark.usefixtures("group")
def test_the_shares_of_one_are_the_batch() -> None:
    share = torch.arange(8.0).reshape(2, 1, 2, 2, 1).requires_grad_()
    whole = gather_batch(share)
    assert torch.equal(whole, share)
    (whole**2).sum().backward()
    assert share.grad is not None and torch.equal(share.grad, 2 * share)


@pytest.mark.usefixtures("group")
def test_a_part_that_the_network_does_not_use_is_no_hindrance() -> None:
    network = torch.nn.Conv3d(1, 1, 1)
    network.unused = torch.nn.Conv3d(1, 1, 1)
    shared = share_network(network, torch.device("cpu"))
    for _ in range(3):
        network.zero_grad(set_to_none=True)
        shared(torch.ones(1, 1, 2, 2, 2)).sum().backward()
        assert network.weight.grad is not None and float(network.weight.grad) == 8
        assert network.unused.weight.grad is None


@pytest.mark.usefixtures("group")
def test_batch_normalisation_is_not_shared_on_a_cpu() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.BatchNorm3d(1))
    with pytest.raises(PetctError, match=r"Sequential has batch normalisation, .* to 1"):
        share_network(network, torch.device("cpu"))
