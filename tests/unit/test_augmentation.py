"""Augmentation: what each transform does, and that both engines mean the same by it."""

from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp

from petct import sampling
from petct.augmentation import (
    Change,
    Gamma,
    Noise,
    augment_with_torchio,
    check_definition,
    draw_change,
    window_to_read,
)
from petct.errors import PetctError
from petct.grids import Index
from petct.patches import image_of
from petct.sampling import change_patch, find_part, place_patch

SPACING_MM = (4.0, 4.0, 4.0)
SHIFT = {"RandomAffine": {"scales": 0, "degrees": 0, "translation": [8.0, 8.0]}}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def carry_out(
    change: Change, image: torch.Tensor, label: torch.Tensor, patch_zyx: Index
) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch in the middle of a study (C, Z, Y, X), read as in training."""
    z, y, x = (int(n) for n in label.shape[1:])
    centre = place_patch((0, 0, 0), (z, y, x), patch_zyx)
    start, shape = find_part(change, centre, patch_zyx, (z, y, x))
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    images, labels = torch.empty(len(image), *patch_zyx), torch.empty(1, *patch_zyx)
    change_patch(
        [channel[box] for channel in image], label[0][box], centre - start, change, images, labels
    )
    return images, labels


def augment_with_torch(
    images: torch.Tensor,
    labels: torch.Tensor,
    spacing_zyx_mm: tuple[float, float, float],
    patch_zyx: Index,
    definition: dict[str, dict[str, Any]],
    generator: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle patches of a batch."""
    z, y, x = (int(n) for n in labels.shape[2:])
    pairs = [
        carry_out(
            draw_change(definition, (z, y, x), spacing_zyx_mm, generator), image, label, patch_zyx
        )
        for image, label in zip(images, labels, strict=True)
    ]
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])


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
    changed = augment_with_torch(images, labels, SPACING_MM, (8, 8, 8), {}, chance())
    torch.testing.assert_close(changed[0], images[..., 6:14, 6:14, 6:14])
    torch.testing.assert_close(changed[1], labels[..., 6:14, 6:14, 6:14])


def test_a_certain_flip_turns_image_and_label() -> None:
    images, labels = batch()
    definition = {"RandomFlip": {"axes": [0, 2], "flip_probability": 1.0}}
    changed = augment_with_torch(images, labels, SPACING_MM, (20, 20, 20), definition, chance())
    torch.testing.assert_close(changed[0], images.flip(2, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed[1], labels.flip(2, 4))


def test_a_shift_is_in_millimetres() -> None:
    images, labels = batch()
    changed, _ = augment_with_torch(images, labels, SPACING_MM, (8, 8, 8), SHIFT, chance())
    # 8 mm are two voxels, and what moves forward was further back.
    torch.testing.assert_close(changed, images[..., 4:12, 4:12, 4:12], atol=1e-4, rtol=0)


def test_scaling_by_two_enlarges() -> None:
    images = torch.zeros(1, 2, 20, 20, 20)
    images[..., 8:12, 8:12, 8:12] = 1.0
    definition = {"RandomAffine": {"scales": [2.0, 2.0], "degrees": 0, "translation": 0}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (20, 20, 20), definition, chance()
    )
    assert float((changed[0, 0] > 0.5).sum()) == pytest.approx(8**3, rel=0.05)


def test_elastic_displacement_stays_within_its_limit_and_keeps_the_border() -> None:
    ramp = torch.arange(40.0).reshape(1, 1, 40, 1, 1).expand(1, 2, 40, 40, 40)
    definition = {"RandomElasticDeformation": {"num_control_points": 7, "max_displacement": 12.0}}
    changed, _ = augment_with_torch(
        ramp, ramp[:, :1], SPACING_MM, (40, 40, 40), definition, chance()
    )
    moved = (changed - ramp).abs()
    assert 0.2 < float(moved.max()) <= 3.0
    assert float(moved[:, :, :2].max()) < 0.4


def test_noise_has_its_spread_and_spares_the_prior() -> None:
    images = torch.zeros(4, 3, 20, 20, 20)
    definition = {"RandomNoise": {"mean": 0.0, "std": [0.1, 0.1]}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (20, 20, 20), definition, chance()
    )
    assert float(changed[:, :2].std()) == pytest.approx(0.1, rel=0.02)
    assert not changed[:, 2].any()


def test_gamma_keeps_the_sign() -> None:
    images = torch.full((1, 2, 4, 4, 4), -0.25)
    definition = {"RandomGamma": {"log_gamma": [np.log(2.0), np.log(2.0)]}}
    changed, _ = augment_with_torch(
        images, images[:, :1], SPACING_MM, (4, 4, 4), definition, chance()
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
        images, labels, SPACING_MM, (20, 20, 20), definition, chance()
    )
    torch.testing.assert_close(changed, images, atol=1e-4, rtol=0)
    torch.testing.assert_close(same, labels)


def test_both_engines_do_the_same_where_nothing_is_left_to_chance() -> None:
    images, labels = batch(1)
    definition: dict[str, dict[str, Any]] = {
        "RandomFlip": {"axes": [1], "flip_probability": 1.0},
        "RandomGamma": {"log_gamma": [0.2, 0.2]},
    }
    ours = augment_with_torch(images, labels, SPACING_MM, (12, 12, 12), definition, chance())
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


def test_what_only_torchio_carries_out_is_named() -> None:
    images, labels = batch(1)
    with pytest.raises(PetctError, match="RandomBlur runs with augmentation_engine torchio"):
        check_definition({"RandomFlip": {}, "RandomBlur": {}})
    with pytest.raises(PetctError, match="RandomAffine takes center, check_shape with"):
        check_definition({"RandomAffine": {"center": "origin", "check_shape": False, "p": 1}})
    with pytest.raises(PetctError, match="torchio has no transform 'RandomFlop'"):
        augment_with_torchio([as_subject(images[0], labels[0])], (8, 8, 8), {"RandomFlop": {}}, 0)


# TorchIO as the reference: the same change, and the same chances.


UNEVEN_MM = (4.0, 3.0, 2.5)


def smooth_study() -> tuple[torch.Tensor, torch.Tensor, tio.Subject]:
    image = gaussian_filter(np.random.default_rng(0).random((40, 36, 44)), 2)
    image = (image - image.min()) / (image.max() - image.min())
    images = torch.from_numpy(image.astype(np.float32)).expand(2, -1, -1, -1)
    labels = (images[:1] > 0.6).to(torch.uint8)
    affine = np.diag([*UNEVEN_MM, 1.0])
    subject = tio.Subject(
        ct=tio.ScalarImage(tensor=images[:1], affine=affine),
        suv=tio.ScalarImage(tensor=images[1:], affine=affine),
        label=tio.LabelMap(tensor=labels, affine=affine),
    )
    return images, labels, subject


def test_an_affine_transform_after_a_flip_is_torchios_to_the_voxel() -> None:
    images, labels, subject = smooth_study()
    definition: dict[str, dict[str, Any]] = {
        "RandomFlip": {"axes": [1], "flip_probability": 1.0},
        "RandomAffine": {
            "scales": [1.1, 1.1, 0.95, 0.95, 1.05, 1.05],
            "degrees": [12, 12, -9, -9, 20, 20],
            "translation": [3, 3, -4, -4, 5, 5],
        },
    }
    change = draw_change(definition, (40, 36, 44), UNEVEN_MM, chance())
    image, label = carry_out(change, images, labels, (20, 20, 20))
    theirs = augment_with_torchio([subject], (20, 20, 20), definition, 0)
    torch.testing.assert_close(image, theirs[0][0], atol=1e-5, rtol=0)
    assert torch.equal(label, theirs[1][0])
    assert float((image - images[:, 10:30, 8:28, 12:32]).abs().max()) > 0.3


def test_an_elastic_deformation_is_torchios_between_the_same_control_points() -> None:
    images, labels, subject = smooth_study()
    change = draw_change(
        {"RandomElasticDeformation": {"max_displacement": 10}}, (40, 36, 44), UNEVEN_MM, chance()
    )
    assert change.displacement is not None
    points_mm = change.displacement * np.array(UNEVEN_MM)[:, None, None, None]
    # ITK's first two axes point the other way: in the vectors and in the order of the points.
    mirrored = (points_mm * np.array([-1, -1, 1])[:, None, None, None])[:, ::-1, ::-1]
    theirs = tio.ElasticDeformation(np.moveaxis(mirrored, 0, -1), (10, 10, 10))(subject)
    image, label = carry_out(change, images, labels, (20, 20, 20))
    middle = (slice(10, 30), slice(8, 28), slice(12, 32))
    # ITK makes the spline's window a little larger than the image.
    torch.testing.assert_close(image[0], image_of(theirs, "ct")[0][middle], atol=0.005, rtol=0)
    assert float((label[0] != image_of(theirs, "label")[0][middle]).float().mean()) < 0.002
    assert float((image[0] - images[0][middle]).abs().max()) > 0.05


def draw_many(
    definition: dict[str, dict[str, Any]], number: int = 2000
) -> tuple[list[Change], tio.Compose]:
    generator = chance(1)
    changes = [draw_change(definition, (8, 8, 8), SPACING_MM, generator) for _ in range(number)]
    return changes, tio.Compose([getattr(tio, n)(**a) for n, a in definition.items()])


def test_intensities_are_drawn_as_torchio_draws_them() -> None:
    definition: dict[str, dict[str, Any]] = {
        "RandomNoise": {"mean": 0.02, "std": 0.3},
        "RandomGamma": {"log_gamma": 0.4},
    }
    changes, _ = draw_many(definition)
    noises = [step for change in changes for step in change.intensities if isinstance(step, Noise)]
    gammas = [step for change in changes for step in change.intensities if isinstance(step, Gamma)]
    assert len(noises) == len(gammas) == 2000 and len({step.seed for step in noises}) == 2000
    noise, gamma = tio.RandomNoise(**definition["RandomNoise"]), tio.RandomGamma(log_gamma=0.4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [noise.get_params(noise.mean_range, noise.std_range) for _ in range(2000)]
        exponents = [gamma.get_params(gamma.log_gamma_range) for _ in range(2000)]
    for ours, theirs in (
        ([step.mean[0] for step in noises], [row[0] for row in drawn]),
        ([step.std[1] for step in noises], [row[1] for row in drawn]),
        ([step.exponents[0] for step in gammas], exponents),
    ):
        assert ks_2samp(ours, theirs).pvalue > 0.01
    # The channels' numbers have nothing to do with each other.
    both = np.corrcoef([step.std for step in noises], rowvar=False)
    assert abs(both[0, 1]) < 0.08


def test_flips_and_affine_transforms_are_drawn_as_torchio_draws_them() -> None:
    definition: dict[str, dict[str, Any]] = {
        "RandomFlip": {"axes": [2], "flip_probability": 0.3},
        "RandomAffine": {"scales": [0.8, 1.3], "degrees": 25, "translation": [-2, 6], "p": 0.6},
    }
    changes, _ = draw_many(definition)
    turned = [change for change in changes if change.flipped is None]
    # Binomial: four standard deviations.
    assert len(turned) == pytest.approx(0.6 * 2000, abs=4 * 22)
    mirrored = sum(float(np.linalg.det(change.matrix)) < 0 for change in changes)
    assert mirrored == pytest.approx(0.3 * 2000, abs=4 * 21)
    affine = tio.RandomAffine(**definition["RandomAffine"])
    image = tio.ScalarImage(tensor=torch.zeros(1, 8, 8, 8), affine=np.diag([*SPACING_MM, 1.0]))
    centre, lps = np.array(image.get_center(lps=True)), np.array([-1, -1, 1])
    theirs = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(1500):
            drawn = affine.get_params(
                affine.scales, affine.degrees, affine.translation, affine.isotropic
            )
            scales, degrees, translation = ((p[0], p[1], p[2]) for p in (d.tolist() for d in drawn))
            there = tio.Affine(scales, degrees, translation).get_affine_transform(image)
            points = [
                np.array(there.TransformPoint((centre + lps * p).tolist())) - centre
                for p in [np.zeros(3), *np.eye(3)]
            ]
            matrix = (lps[:, None] * (np.array(points[1:]) - points[0]).T).ravel()
            theirs.append([*matrix, *(lps * points[0])])
    # A flipped patch is read in reverse along x.
    unflipped = [
        [*(change.matrix * np.sign([1, 1, np.linalg.det(change.matrix)])[:, None]).ravel(),
         *(change.shift * 4.0 * np.sign([1, 1, np.linalg.det(change.matrix)]))]
        for change in turned
    ]  # fmt: skip
    ours, expected = np.array(unflipped), np.array(theirs)
    for number in range(12):
        assert ks_2samp(ours[:, number], expected[:, number]).pvalue > 0.001


def test_elastic_control_points_are_drawn_as_torchio_draws_them() -> None:
    arguments = {"num_control_points": [5, 6, 7], "max_displacement": [3, 4, 5]}
    changes, _ = draw_many({"RandomElasticDeformation": arguments | {"locked_borders": 1}}, 100)
    ours = np.array([change.displacement for change in changes]) * 4.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [
            tio.RandomElasticDeformation.get_params((5, 6, 7), (3, 4, 5), 1) for _ in range(100)
        ]
    theirs = np.moveaxis(np.array(drawn), -1, 1)
    assert ours.shape == theirs.shape == (100, 3, 5, 6, 7)
    assert ((ours == 0) == (theirs == 0)).all()
    for axis in range(3):
        inside = (slice(None), axis, slice(1, -1), slice(1, -1), slice(1, -1))
        assert ks_2samp(ours[inside].ravel(), theirs[inside].ravel()).pvalue > 0.01


# Where it is carried out.


def test_other_devices_sample_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, _ = smooth_study()
    definition: dict[str, dict[str, Any]] = {
        "RandomAffine": {"degrees": 30},
        "RandomElasticDeformation": {},
    }
    change = draw_change(definition, (40, 36, 44), UNEVEN_MM, chance(3))
    ours = carry_out(change, images, labels, (30, 28, 36))
    monkeypatch.setattr(sampling, "_gather", sampling._sample)
    theirs = carry_out(change, images, labels, (30, 28, 36))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=0)
    assert float((ours[1] != theirs[1]).float().mean()) < 1e-4


def test_no_more_is_read_than_the_change_needs() -> None:
    unturned = draw_change({}, (40, 40, 40), SPACING_MM, chance())
    centre = place_patch((10, 10, 10), (40, 40, 40), (32, 32, 32))
    assert find_part(unturned, centre, (32, 32, 32), (60, 60, 60)) == ((14, 14, 14), (32, 32, 32))
    # Scaled by two, half of the patch's width is seen; near the border what there is.
    twice = draw_change({"RandomAffine": {"scales": [2, 2], "degrees": 0}}, (40,) * 3, SPACING_MM,
                        chance())  # fmt: skip
    assert find_part(twice, centre, (32, 32, 32), (60, 60, 60)) == ((21, 21, 21), (18, 18, 18))
    assert find_part(twice, centre, (32, 32, 32), (60, 60, 30)) == ((21, 21, 21), (18, 18, 9))
