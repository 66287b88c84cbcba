"""The stand-in for instance normalisation against PyTorch's own, and by hand."""

from __future__ import annotations

import pytest
import torch

from petct.normalisation import arrange_training

CPU = torch.device("cpu")


def make_network(affine: bool) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.InstanceNorm3d(4, affine=affine)
    )


def test_two_voxels_become_plus_and_minus_one() -> None:
    network = arrange_training(torch.nn.Sequential(torch.nn.InstanceNorm3d(1, eps=0.0)), CPU)
    images = torch.tensor([[3.0, 7.0], [10.0, -10.0]]).reshape(2, 1, 1, 1, 2)
    assert network(images).flatten().tolist() == [-1.0, 1.0, 1.0, -1.0]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_values_and_gradients_are_those_of_pytorch(affine: bool, batch: int) -> None:
    torch.manual_seed(0)
    plain, fast = make_network(affine), make_network(affine)
    for parameter in plain[1].parameters():
        torch.nn.init.uniform_(parameter)
    fast.load_state_dict(plain.state_dict())
    arrange_training(fast, CPU)
    assert list(fast.state_dict()) == list(plain.state_dict())
    images, weights = torch.randn(batch, 2, 4, 5, 6), torch.randn(batch, 4, 4, 5, 6)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = []
    for network, given in zip((plain, fast), inputs, strict=True):
        outputs.append(network(given))
        (outputs[-1] * weights).sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_a_single_voxel_is_an_error_as_before() -> None:
    network = arrange_training(torch.nn.Sequential(torch.nn.InstanceNorm3d(1)), CPU)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        network(torch.zeros(2, 1, 1, 1, 1))


def test_half_precision_stays_what_it_is() -> None:
    network = arrange_training(torch.nn.Sequential(torch.nn.InstanceNorm3d(1)), CPU)
    assert network(torch.randn(1, 1, 2, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
