"""What nnU-Net reads is what every other network reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform

from array_studies import (
    BODY_STRATEGY,
    BOX_STRATEGY,
    Box,
    make_arrays,
    write_predictions,
    write_regions,
)
from petct.arrays import save_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import write_json
from petct.nnunet_cases import Case, CaseReader, list_cases, open_case, read_image, write_cases
from petct.nnunet_trainer import OnImageChannels
from petct.patches import cut_window, stack_images
from petct.sources import open_sources

FINE = Grid((20, 24, 22), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0))
COARSE = FINE.respace((8.0, 8.0, 8.0))
FOUND: list[Box] = [(2, 2, 2, 6, 6, 6)]
REFERENCE: list[Box] = [(10, 10, 10, 13, 13, 13)]
PRIOR_STRATEGY: dict[str, Any] = BODY_STRATEGY | {"coarse": "coarse", "prior": True}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    arrays = make_arrays(FINE, REFERENCE)
    save_arrays(tmp_path / "s" / "fine", arrays.image, arrays.label, arrays.label, FINE)
    probability = np.random.default_rng(3).random(COARSE.shape_zyx)
    write_predictions(tmp_path / "predictions.json", COARSE, {"s": probability})
    write_regions(tmp_path / "regions.json", {"s": FOUND}, {"s": REFERENCE})
    return tmp_path


def cases_of(root: Path, strategy: dict[str, Any], for_training: bool = False) -> dict[str, Case]:
    coarse = [root / "predictions.json"] if strategy["prior"] else []
    regions = [root / "regions.json"] if strategy["regions"] != "body" else []
    return list_cases(["s"], root, strategy, coarse, regions, for_training)


def test_a_body_is_one_case_with_the_channels_of_every_other_network(root: Path) -> None:
    (name,) = cases = cases_of(root, PRIOR_STRATEGY)
    assert name == "s__0"
    image, properties = read_image(cases[name])
    source = open_sources(
        ["s"], root, PRIOR_STRATEGY, [root / "predictions.json"], [], (4, 4, 4), False
    )["s"]
    expected = stack_images(cut_window(source, (0, 0, 0), FINE.shape_zyx)).numpy()
    np.testing.assert_allclose(image, expected, atol=1e-6)
    assert properties == {"spacing": [4.0, 4.0, 4.0]}


def test_a_box_has_context_up_to_a_patch_and_knows_its_inside(root: Path) -> None:
    (case,) = cases_of(root, BOX_STRATEGY).values()
    # 4 voxels asked for, 16 read, moved to lie inside the study.
    assert (case.start_zyx, case.stop_zyx) == ((0, 0, 0), (16, 16, 16))
    assert case.inside_zyx == (2, 2, 2, 6, 6, 6)
    image, _ = read_image(case)
    whole, _ = read_image(cases_of(root, PRIOR_STRATEGY)["s__0"])
    np.testing.assert_allclose(image, whole[:, :16, :16, :16], atol=1e-6)


def test_training_adds_boxes_around_the_reference_and_joins_what_overlaps(root: Path) -> None:
    assert len(cases_of(root, BOX_STRATEGY, for_training=True)) == 2
    overlapping: list[Box] = [(4, 4, 4, 8, 8, 8)]
    write_regions(root / "regions.json", {"s": FOUND}, {"s": overlapping})
    (case,) = cases_of(root, BOX_STRATEGY, for_training=True).values()
    assert case.inside_zyx == (2, 2, 2, 8, 8, 8)


def test_a_study_without_boxes_has_no_case(root: Path) -> None:
    write_regions(root / "regions.json", {"s": []}, {})
    assert cases_of(root, BOX_STRATEGY) == {}


def test_a_missing_study_is_named(root: Path) -> None:
    write_json(root / "regions.json", {"studies": {}})
    with pytest.raises(PetctError, match="study s has no regions"):
        cases_of(root, BOX_STRATEGY)


def test_a_case_goes_through_its_file(root: Path, tmp_path: Path) -> None:
    (case,) = cases_of(root, BOX_STRATEGY).values()
    listed = write_cases(tmp_path / "cases", {"s__0": case})
    path = Path(listed["s__0"]["label"])
    assert open_case(path) == case
    label, _ = CaseReader().read_seg(str(path))
    assert (label.dtype, label.shape) == (np.int8, (1, 16, 16, 16))
    assert label.sum() == 3**3  # the whole reference lesion lies in the context
    with pytest.raises(NotImplementedError):
        CaseReader().write_seg(label, "", {})


def test_intensities_vary_in_ct_and_suv_but_not_in_the_coarse_prediction() -> None:
    image = torch.zeros(3, 4, 4, 4)
    noise = GaussianNoiseTransform(noise_variance=(1.0, 1.0), p_per_channel=1)
    changed = OnImageChannels(noise)(image=image, segmentation=image[:1])
    assert (changed["image"][:2] != 0).any()
    assert (changed["image"][2] == 0).all()
    assert changed["segmentation"] is not None
