"""Networks from the config alone: shapes, seeded weights, readable refusals."""

from typing import Any

import pytest
import torch
from monai.losses.dice import DiceFocalLoss

from petct.devices import choose_precision
from petct.errors import PetctError
from petct.networks import build_network, check_window, expect_few_lesions

PATCH = (16, 16, 16)
UNET: dict[str, Any] = {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1}
CPU = torch.device("cpu")


CASES: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("UNet", UNET, PATCH),
    ("UNet", UNET | {"num_res_units": 0}, (8, 16, 24)),
    (
        "DynUNet",
        {
            "filters": [4, 8, 8],
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
        },
        PATCH,
    ),
    ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, PATCH),
    # Must be told the size of its input.
    (
        "UNETR",
        {"feature_size": 4, "hidden_size": 12, "mlp_dim": 24, "num_heads": 3},
        (16, 32, 16),
    ),
    (
        "SwinUNETR",
        {
            "feature_size": 12,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "window_size": 2,
        },
        (32, 32, 64),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "patch_zyx"), CASES)
@pytest.mark.parametrize("channels", [2, 3])
def test_a_window_in_a_logit_per_voxel_out(
    name: str, arguments: dict[str, Any], patch_zyx: tuple[int, int, int], channels: int
) -> None:
    network = build_network(name, arguments, channels, patch_zyx, seed=0)
    with torch.no_grad():
        logits = network(torch.zeros(1, channels, *patch_zyx))
    assert logits.shape == (1, 1, *patch_zyx)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "arguments", "patch_zyx"), CASES)
def test_a_step_reaches_every_parameter(
    name: str, arguments: dict[str, Any], patch_zyx: tuple[int, int, int]
) -> None:
    network = build_network(name, arguments, 2, patch_zyx, seed=0)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    images = torch.randn((2, 2, *patch_zyx), generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    DiceFocalLoss(sigmoid=True)(network(images), (images[:, :1] > 1).float()).backward()
    optimiser.step()
    for name, weight in network.named_parameters():
        if "cross_attn" in name:
            # MONAI's transformer block makes these for networks with a second input alone.
            assert weight.grad is None
            continue
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
        assert not torch.equal(weight, before[name]), name


def test_the_seed_alone_fixes_the_weights() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = build_network("UNet", UNET, 2, PATCH, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    two = build_network("UNet", UNET, 2, PATCH, seed=1).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build_network("UNet", UNET, 2, PATCH, seed=2).state_dict()
    assert not torch.equal(
        one["model.0.conv.unit0.conv.weight"], other["model.0.conv.unit0.conv.weight"]
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ResidualUNet9000", {}, "monai.networks.nets has no network 'ResidualUNet9000'"),
        # A module of that package, next to the class UNet.
        ("unet", UNET, "monai.networks.nets has no network 'unet'"),
        ("UNet", {"channels": [4, 8, 16]}, "UNet does not take these arguments: .*strides"),
        ("UNet", UNET | {"depth": 3}, "UNet does not take these arguments: .*depth"),
        ("UNet", UNET | {"in_channels": 3}, "UNet does not take these arguments: .*in_channels"),
        ("UNet", UNET | {"strides": [2]}, "UNet does not take these arguments: .*strides"),
        ("UNet", UNET | {"act": "NOPE"}, "UNet does not take these arguments: .*NOPE"),
    ],
)
def test_a_wrong_model_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PetctError, match=f"^models: {message}"):
        build_network(name, arguments, 2, PATCH, seed=0)


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.2])
def test_one_convolution_starts_at_the_prior(probability: float) -> None:
    network = torch.nn.Conv3d(2, 1, 1)
    expect_few_lesions(network, probability)
    assert torch.sigmoid(network(torch.zeros(1, 2, 4, 4, 4))).mean().item() == pytest.approx(
        probability
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", UNET),
        ("UNet", UNET | {"channels": [8, 16, 32]}),
        ("UNet", UNET | {"num_res_units": 0}),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
    ],
)
def test_an_untrained_network_expects_few_lesions(name: str, arguments: dict[str, Any]) -> None:
    network = build_network(name, arguments, 2, PATCH, seed=0)
    expect_few_lesions(network, 0.05)
    images = torch.randn((2, 2, *PATCH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probability = torch.sigmoid(network(images)).mean().item()
    # Random weights widen the logits, and thereby raise the mean, but leave it far from a half.
    assert 0.04 < probability < 0.12


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("float32", CPU) == torch.float32
    assert choose_precision("auto", CPU) in (torch.float32, torch.bfloat16)


def test_a_patch_that_the_network_cannot_take_is_named() -> None:
    arguments = {"channels": [2, 4, 8, 16], "strides": [2, 2, 2]}
    network = build_network("UNet", arguments, 2, (20, 20, 20), 0)
    with pytest.raises(PetctError, match=r"UNet cannot take a patch of \(20, 20, 20\) voxels"):
        check_window(network, 2, (20, 20, 20))
    check_window(network, 2, (16, 16, 16))
