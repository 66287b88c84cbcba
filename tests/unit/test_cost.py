"""A step's cost from shapes alone, on layers whose cost is known by hand."""

import torch

from petct.cost import count_step


def test_one_convolution() -> None:
    with torch.device("meta"):
        network = torch.nn.Conv3d(2, 4, 3, padding=1, bias=False)
    cost = count_step(network, (1, 2, 8, 8, 8), torch.bfloat16)
    assert cost.parameters == 4 * 2 * 27
    # A multiplication and an addition per weight and voxel, forward and for the weights'
    # gradient; the image needs none.
    assert cost.teraflop == 2 * (2 * 4 * 2 * 27 * 8**3) / 1e12
    # The image in two bytes a value; each weight with gradient and moments in sixteen.
    assert cost.memory_gb == (2 * 2 * 8**3 + 16 * 4 * 2 * 27) / 1e9


def test_cost_follows_batch_and_a_tensor_is_kept_once() -> None:
    def cost(batch: int) -> float:
        with torch.device("meta"):
            convolution = torch.nn.Conv3d(2, 2, 1, bias=False)
            twice = torch.nn.Sequential(convolution, torch.nn.ReLU(), convolution)
        return count_step(twice, (batch, 2, 4, 4, 4), torch.float32).memory_gb * 1e9 - 16 * 4

    # Kept: the image and what the ReLU gives, which it and the next layer both need.
    assert cost(1) == 2 * (4 * 2 * 4**3)
    assert cost(3) == 3 * cost(1)
