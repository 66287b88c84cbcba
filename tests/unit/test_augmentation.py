"""Augmentation: what each transform does, and that both engines mean the same by it."""

from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio

from petct.augmentation import augment_with_torch, augment_with_torchio, window_to_read
from petct.errors import PetctError

SPACING_MM = (4.0, 4.0, 4.0)
SHIFT = {"RandomAffine": {"scales": 0, "degrees": 0, "translation": [8.0, 8.0]}}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def batch(number: int = 2, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand((number, channels, 20, 20, 20), generator=generator())
    labels = (images[:, :1] > 0.5).float()
    return images, labels


def as_subject(images: torch.Tensor, labels: torch.Tensor) -> tio.Subject:
    affine = np.diag([*SPACING_MM, 1.0])
    names = ("ct", "suv", "prior")[: len(images)]
    parts = {
        name: tio.ScalarImage(tensor=images[c : c + 1], affine=affine)
        for c, name in enumerate(names)
    }
    return tio.Subject(label=tio.LabelMap(tensor=labels, affine=affine), **parts)


def test_nothing_defined_cuts_the_middle() -> None:
    images, labels = batch()
    changed = augment_with_torch(images, labels, SPACING_MM, (8, 8, 8), {}, generator())
    torch.testing.assert_close(changed[0], images[..., 6:14, 6:14, 6:14])
    torch.testing.assert_close(changed[1], labels[..., 6:14, 6:14, 6:14])


def test_a_certain_flip_turns_image_and_label() -> None:
    images, labels = batch()
    definition = {"RandomFlip": {"axes": [0, 2], "flip_probability": 1.0}}
    changed = augment_with_torch(images, labels, SPACING_MM, (20, 20, 20), definition, generator())
    torch.testing.assert_close(changed[0], images.flip(2, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed[1], labels.flip(2, 4))


def test_a_shift_is_in_millimetres() -> None:
    images, labels = batch()
    changed, _ = augment_with_torch(images, labels, SPACING_MM, (8, 8, 8), SHIFT, generator())
    # 8 mm are two voxels.
    torch.testing.assert_close(changed, images[..., 8:16, 8:16, 8:16], atol=1e-4, rtol=0)


def test_scaling_by_two_enlarges() -> None:
    images = torch.zeros(1, 2, 20, 20, 20)
    images[..., 8:12, 8:12, 8:12] = 1.0
    definition = {"RandomAffine": {"scales": [2.0, 2.0], "degrees": 0, "translation": 0}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (20, 20, 20), definition, generator()
    )
    assert float((changed[0, 0] > 0.5).sum()) == pytest.approx(8**3, rel=0.05)


def test_elastic_displacement_stays_within_its_limit_and_keeps_the_border() -> None:
    ramp = torch.arange(40.0).reshape(1, 1, 40, 1, 1).expand(1, 2, 40, 40, 40)
    definition = {"RandomElasticDeformation": {"num_control_points": 7, "max_displacement": 12.0}}
    changed, _ = augment_with_torch(
        ramp, ramp[:, :1], SPACING_MM, (40, 40, 40), definition, generator()
    )
    moved = (changed - ramp).abs()
    assert 0.2 < float(moved.max()) <= 3.0
    assert float(moved[:, :, :2].max()) < 0.2


def test_noise_has_its_spread_and_spares_the_prior() -> None:
    images = torch.zeros(4, 3, 20, 20, 20)
    definition = {"RandomNoise": {"mean": 0.0, "std": [0.1, 0.1]}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (20, 20, 20), definition, generator()
    )
    assert float(changed[:, :2].std()) == pytest.approx(0.1, rel=0.02)
    assert not changed[:, 2].any()


def test_gamma_keeps_the_sign() -> None:
    images = torch.full((1, 2, 4, 4, 4), -0.25)
    definition = {"RandomGamma": {"log_gamma": [np.log(2.0), np.log(2.0)]}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (4, 4, 4), definition, generator()
    )
    torch.testing.assert_close(changed, torch.full_like(images, -0.0625))


def test_a_transform_of_probability_zero_changes_nothing() -> None:
    images, labels = batch()
    definition: dict[str, dict[str, Any]] = {
        "RandomFlip": {"axes": [0], "p": 0.0},
        "RandomAffine": {"scales": 0.5, "degrees": 90, "translation": 9, "p": 0.0},
        "RandomElasticDeformation": {"p": 0.0},
        "RandomNoise": {"p": 0.0},
        "RandomGamma": {"p": 0.0},
    }
    changed, same = augment_with_torch(
        images, labels, SPACING_MM, (20, 20, 20), definition, generator()
    )
    torch.testing.assert_close(changed, images, atol=1e-4, rtol=0)
    torch.testing.assert_close(same, labels)


def test_both_engines_do_the_same_where_nothing_is_left_to_chance() -> None:
    images, labels = batch(1)
    definition: dict[str, dict[str, Any]] = {
        "RandomFlip": {"axes": [1], "flip_probability": 1.0},
        "RandomGamma": {"log_gamma": [0.2, 0.2]},
    }
    ours = augment_with_torch(images, labels, SPACING_MM, (12, 12, 12), definition, generator())
    theirs = augment_with_torchio([as_subject(images[0], labels[0])], (12, 12, 12), definition, 0)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours[1], theirs[1])


def test_torchio_leaves_the_prior_its_values_and_torchs_generator_alone() -> None:
    images, labels = batch(1, channels=3)
    state = torch.get_rng_state()
    changed, _ = augment_with_torchio(
        [as_subject(images[0], labels[0])], (20, 20, 20), {"RandomNoise": {"std": [0.1, 0.1]}}, 0
    )
    torch.testing.assert_close(changed[0, 2], images[0, 2])
    assert not torch.equal(changed[0, 0], images[0, 0])
    assert torch.equal(state, torch.get_rng_state())


def test_a_turned_patch_is_read_from_a_larger_window() -> None:
    assert window_to_read((32, 32, 20), {"RandomFlip": {}}) == (32, 32, 20)
    assert window_to_read((32, 32, 20), {"RandomAffine": {}}) == (40, 40, 26)


def test_unknown_transforms_are_named() -> None:
    images, labels = batch(1)
    with pytest.raises(PetctError, match="RandomBlur runs with augmentation_engine torchio"):
        augment_with_torch(images, labels, SPACING_MM, (8, 8, 8), {"RandomBlur": {}}, generator())
    with pytest.raises(PetctError, match="torchio has no transform 'RandomFlop'"):
        augment_with_torchio([as_subject(images[0], labels[0])], (8, 8, 8), {"RandomFlop": {}}, 0)
