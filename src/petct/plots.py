"""What all figures share: one restrained style, colours, and projections of a volume.

Figures are matplotlib objects without pyplot, so that nothing outside a figure changes; wrap the
drawing in ``with style():``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK = "#222222"
GREY = "#8a8a8a"
FAINT = "#e4e4e4"
# Okabe and Ito's palette, told apart with any colour vision: https://jfly.uni-koeln.de/color/
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, ORANGE = "#56b4e9", "#e69f00"
MODEL_COLOURS = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#5d3a9b", "#7f6000", "#994455"]
REFERENCE_COLOUR, PREDICTION_COLOUR = BLUE, VERMILION

BASELINE_STRATEGY = "threshold"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.facecolor": "white",
}


def style() -> AbstractContextManager[None]:
    """matplotlib's settings for the pipeline's figures, until the ``with`` block ends."""
    return matplotlib.rc_context(STYLE)


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG whose bytes depend on the figure alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """A colour for each model name, by alphabetical order; they repeat beyond nine."""
    return {
        model: MODEL_COLOURS[i % len(MODEL_COLOURS)] for i, model in enumerate(sorted(set(models)))
    }


def jitter(count: int, width: float) -> np.ndarray:
    """``count`` offsets spread evenly over +-``width``/2, neighbours far apart; always the same.

    They are the fractional parts of multiples of the golden ratio.
    """
    return ((np.arange(1, count + 1) * 0.6180339887498949) % 1.0 - 0.5) * width


@dataclass(frozen=True)
class Projection:
    """A two-dimensional view of a study.

    ``pixels`` is (rows, columns), row 0 nearest the feet; ``pixel_mm`` is a pixel's height and
    width in millimetres.
    """

    pixels: np.ndarray
    pixel_mm: tuple[float, float]

    @property
    def height_mm(self) -> float:
        return self.pixels.shape[0] * self.pixel_mm[0]

    @property
    def width_mm(self) -> float:
        return self.pixels.shape[1] * self.pixel_mm[1]


def orient(image: sitk.Image) -> sitk.Image:
    """The image with x towards the patient's left, y to the back and z to the head.

    Axes are permuted and flipped, never resampled: a gantry tilt stays in the picture.
    """
    if image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0):
        return image
    return sitk.DICOMOrient(image, "LPS")


def project(oriented: sitk.Image, axis: str) -> Projection:
    """The maximum along one axis of an image in the orientation that ``orient`` gives.

    ``axis`` "coronal" looks at the patient from the front, the right side on the left;
    "sagittal" from the left side, the face on the left. The head is up in both.
    """
    array = sitk.GetArrayViewFromImage(oriented)
    dx, dy, dz = oriented.GetSpacing()
    if axis == "coronal":
        return Projection(array.max(axis=1), (dz, dx))
    return Projection(array.max(axis=2), (dz, dy))


def crop_sides(views: list[Projection], threshold: float, margin_mm: float) -> list[Projection]:
    """Views of one shape without the columns at both sides in which none exceeds ``threshold``.

    ``margin_mm`` is kept around what is left; views without any such column stay whole.
    """
    filled = np.flatnonzero(np.any([(v.pixels > threshold).any(axis=0) for v in views], axis=0))
    if not filled.size:
        return views
    margin = round(margin_mm / views[0].pixel_mm[1])
    kept = slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + 1 + margin)
    return [Projection(view.pixels[:, kept], view.pixel_mm) for view in views]


def draw_projection(axes: Axes, view: Projection, suv_window: float) -> None:
    """Show a projected SUV [g/mL] in inverted grey: 0 is white, ``suv_window`` and above black."""
    draw_greys(axes, view, "gray_r", (0.0, suv_window))


def draw_greys(axes: Axes, view: Projection, colours: str, window: tuple[float, float]) -> None:
    """Show a view, the ``window``'s lowest and highest value at both ends of matplotlib's
    ``colours``, without ticks and frame.
    """
    axes.imshow(
        view.pixels,
        # 64 greys look like 256, in a smaller file.
        cmap=matplotlib.colormaps[colours].resampled(64),
        vmin=window[0],
        vmax=window[1],
        origin="lower",
        extent=(0.0, view.width_mm, 0.0, view.height_mm),
        interpolation="bilinear",
        aspect="equal",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_outline(axes: Axes, view: Projection, colour: str, width: float) -> None:
    """Draw the outline of a projected 0/1 mask, half-way between its outer pixels and the next."""
    if not view.pixels.any():
        return
    rows, columns = view.pixels.shape
    # A frame of zeros closes the outlines at the picture's border.
    y_mm = (np.arange(-1, rows + 1) + 0.5) * view.pixel_mm[0]
    x_mm = (np.arange(-1, columns + 1) + 0.5) * view.pixel_mm[1]
    axes.contour(
        x_mm, y_mm, np.pad(view.pixels, 1), levels=[0.5], colors=[colour], linewidths=[width]
    )
    axes.set_xlim(0.0, view.width_mm)
    axes.set_ylim(0.0, view.height_mm)


def outline_handle(label: str, colour: str) -> Line2D:
    """A legend's entry for an outline."""
    return Line2D([], [], color=colour, linewidth=1.5, label=label)
