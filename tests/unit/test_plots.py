"""Projections of single bright voxels, whose place in the picture is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.figure import Figure

from petct.grids import Grid
from petct.plots import (
    PREDICTION_COLOUR,
    Projection,
    crop_sides,
    draw_outline,
    draw_projection,
    jitter,
    model_colours,
    orient,
    project,
    save_figure,
    style,
)

# A body of 4 x 5 x 6 voxels; in LPS: x to the left, y to the back, z to the head.
GRID = Grid((6, 5, 4), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0))
ORIENTATIONS = ["LPS", "RAS", "LAS", "RPI", "PIR", "SAL"]


def marked() -> sitk.Image:
    """One voxel at the patient's left, towards the face and the head."""
    array = np.zeros(GRID.shape_zyx, np.float32)
    array[4, 1, 3] = 5.0
    return GRID.to_image(array)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_views_do_not_depend_on_how_the_voxels_are_stored(orientation: str) -> None:
    image = orient(sitk.DICOMOrient(marked(), orientation))
    coronal, sagittal = project(image, "coronal"), project(image, "sagittal")
    # Rows count from the feet up, columns from the picture's left: the patient's right, the face.
    assert np.argwhere(coronal.pixels).tolist() == [[4, 3]]
    assert np.argwhere(sagittal.pixels).tolist() == [[4, 1]]
    assert (coronal.height_mm, coronal.width_mm) == (6 * 4.0, 4 * 2.0)
    assert (sagittal.height_mm, sagittal.width_mm) == (6 * 4.0, 5 * 3.0)


def test_a_tilted_gantry_is_shown_on_its_own_axes() -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    tilted = Grid(
        GRID.shape_zyx, GRID.spacing_xyz_mm, GRID.origin_xyz_mm, (1, 0, 0, 0, c, -s, 0, s, c)
    )
    array = sitk.GetArrayFromImage(marked())
    assert np.argwhere(project(orient(tilted.to_image(array)), "coronal").pixels).tolist() == [
        [4, 3]
    ]


def rgb(figure: Figure, path: Path) -> np.ndarray:
    """The figure's pixels (rows from the top, columns, 3) after writing and reading it."""
    save_figure(figure, path, 100)
    return sitk.GetArrayFromImage(sitk.ReadImage(path))[..., :3].astype(int)


def test_head_is_up_and_the_patients_right_is_left(tmp_path: Path) -> None:
    """In the picture the marked voxel is dark at the upper right; zero is white."""
    view = project(orient(marked()), "coronal")
    figure = Figure(figsize=(1.0, 3.0))
    with style():
        draw_projection(figure.add_axes((0, 0, 1, 1)), view, 5.0)
    pixels = rgb(figure, tmp_path / "view.png")
    # Six rows of 50 pixels, four columns of 25.
    assert pixels.shape == (300, 100, 3)
    assert pixels[75, 87].max() < 60
    assert pixels[225, 12].min() == 255


def test_aspect_follows_the_spacing(tmp_path: Path) -> None:
    """10 x 10 pixels of 1 x 2 mm are twice as wide as high."""
    view = Projection(np.full((10, 10), 5.0), (1.0, 2.0))
    figure = Figure(figsize=(2.0, 2.0))
    with style():
        draw_projection(figure.add_axes((0, 0, 1, 1)), view, 5.0)
    dark: np.ndarray = rgb(figure, tmp_path / "view.png").max(axis=-1) < 128
    assert np.ptp(np.flatnonzero(dark.any(axis=0))) == pytest.approx(199, abs=2)
    assert np.ptp(np.flatnonzero(dark.any(axis=1))) == pytest.approx(99, abs=2)


def test_outline_encloses_the_mask_even_at_the_border(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10))
    pixels[7:10, 2:5] = 1
    view = Projection(pixels, (1.0, 1.0))
    figure = Figure(figsize=(2.0, 2.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    draw_outline(axes, view, PREDICTION_COLOUR, 1.0)
    drawn: np.ndarray = rgb(figure, tmp_path / "outline.png").min(axis=-1) < 240
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    # 20 pixels to a voxel: columns 2 to 5, rows 7 to 10 from below, which is the top edge.
    assert (columns[0], columns[-1]) == pytest.approx((40, 100), abs=2)
    assert (rows[0], rows[-1]) == pytest.approx((0, 60), abs=2)
    assert not drawn[30, 70]


def test_outline_of_nothing_draws_nothing() -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    draw_outline(axes, Projection(np.zeros((3, 3)), (1.0, 1.0)), PREDICTION_COLOUR, 1.0)
    assert not axes.collections


def test_crop_keeps_what_any_view_shows_and_a_margin() -> None:
    pet, mask = np.zeros((2, 20)), np.zeros((2, 20))
    pet[0, 8:10] = 1.0
    mask[1, 14] = 1.0
    cropped = crop_sides([Projection(pet, (1.0, 2.0)), Projection(mask, (1.0, 2.0))], 0.5, 4.0)
    assert [view.pixels.shape for view in cropped] == [(2, 11), (2, 11)]
    assert np.flatnonzero(cropped[0].pixels[0]).tolist() == [2, 3]
    assert np.flatnonzero(cropped[1].pixels[1]).tolist() == [8]


def test_crop_of_nothing_keeps_everything() -> None:
    views = [Projection(np.zeros((2, 20)), (1.0, 2.0))]
    assert crop_sides(views, 0.5, 4.0)[0].pixels.shape == (2, 20)


def test_style_ends_with_its_block() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_saved_figure_repeats_itself(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, "x")
        save_figure(figure, tmp_path / "new" / name, 50)
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()


def test_jitter_stays_inside_and_keeps_points_apart() -> None:
    offsets = jitter(50, 0.5)
    assert np.abs(offsets).max() <= 0.25
    assert np.diff(np.sort(offsets)).min() > 0.5 / 50 / 3


def test_model_colours_depend_on_the_names_alone() -> None:
    assert model_colours(["b", "a", "b"]) == model_colours(["a", "b"])
    assert len(set(model_colours("abcdefghi").values())) == 9
