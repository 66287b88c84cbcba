"""Windows and random patches of a study: where they lie and what they hold."""

import numpy as np
import pytest

from petct.arrays import StudyArrays, list_part_voxels
from petct.grids import Grid
from petct.patches import cut_window, draw_patch, image_of, open_source, stack_images

GRID = Grid((20, 24, 28), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0))


@pytest.fixture
def arrays() -> StudyArrays:
    generator = np.random.default_rng(0)
    image = generator.random((2, *GRID.shape_zyx)).astype(np.float16)
    label = np.zeros(GRID.shape_zyx, np.uint8)
    label[2:12, 2:12, 2:12] = 1  # large
    label[18, 22, 26] = 1  # small
    lesions = list_part_voxels(label, at_least_ml=0.0, grid=GRID)
    uptake = np.array([[1, 3, 3, 3], [2, 9, 9, 9]], np.int32)
    return StudyArrays(image, label, lesions, uptake, GRID)


def test_a_window_is_the_slice_of_each_array(arrays: StudyArrays) -> None:
    source = open_source(arrays, None, None, (8, 8, 8))
    window = cut_window(source, (3, 4, 5), (8, 9, 10))
    part = (slice(3, 11), slice(4, 13), slice(5, 15))
    np.testing.assert_array_equal(stack_images(window), arrays.image[(slice(None), *part)])
    np.testing.assert_array_equal(image_of(window, "label")[0], arrays.label[part])


def test_a_small_study_is_padded_with_air_on_both_sides(arrays: StudyArrays) -> None:
    source = open_source(arrays, None, None, (32, 24, 28))
    assert source.grid.shape_zyx == (32, 24, 28)
    assert source.grid.origin_xyz_mm == (2.0, 2.0, 2.0 - 6 * 4.0)
    window = cut_window(source, (0, 0, 0), (32, 24, 28))
    ct = image_of(window, "ct")[0].numpy()
    assert (ct[:6] == arrays.image[0].min()).all()
    np.testing.assert_array_equal(ct[6:26], arrays.image[0])
    assert source.boxes_zyx.tolist() == [[6, 0, 0, 26, 24, 28]]
    assert source.lesion_voxels[:, 1].min() == 8


def test_the_prior_comes_along_on_the_studys_grid(arrays: StudyArrays) -> None:
    coarse = GRID.respace((8.0, 8.0, 8.0))
    ramp = np.broadcast_to(np.arange(coarse.shape_zyx[2], dtype=np.float32), coarse.shape_zyx)
    source = open_source(arrays, None, (ramp, coarse), (8, 8, 8))
    window = cut_window(source, (4, 4, 9), (8, 8, 8))
    images = stack_images(window)
    assert images.shape == (3, 8, 8, 8)
    # A fine voxel i lies at (i - 0.5) / 2 coarse voxels.
    np.testing.assert_allclose(images[2, 0, 0], (np.arange(9, 17) - 0.5) / 2, atol=1e-5)


def test_lesions_are_drawn_alike_whatever_their_size(arrays: StudyArrays) -> None:
    source = open_source(arrays, None, None, (8, 8, 8))
    generator = np.random.default_rng(1)
    small = 0
    for _ in range(200):
        patch = draw_patch(source, (8, 8, 8), source.lesion_voxels, generator)
        label = image_of(patch, "label")
        assert label.any()
        small += int(label.sum() == 1)
    assert 70 < small < 130


def test_other_patches_are_centred_in_the_boxes(arrays: StudyArrays) -> None:
    boxes = np.array([[8, 8, 8, 10, 10, 10]])
    source = open_source(arrays, boxes, None, (4, 4, 4))
    assert source.uptake_voxels.tolist() == [[2, 9, 9, 9]]
    generator = np.random.default_rng(2)
    corners = set()
    for _ in range(100):
        anywhere = source.lesion_voxels[:0]
        location = draw_patch(source, (4, 4, 4), anywhere, generator)["location"]
        corners.add(tuple(np.asarray(location)[:3].tolist()))
    assert corners == {(z, y, x) for z in (6, 7) for y in (6, 7) for x in (6, 7)}
