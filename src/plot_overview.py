"""Draw one study from the front, large, with its lesions outlined: the picture for a README."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.image_files import load_image
from petct.plots import (
    VERMILION,
    crop_sides,
    draw_outline,
    draw_projection,
    orient,
    project,
    save_figure,
    style,
)

HEIGHT_INCH = 8.0
DPI = 110
AIR_SUV, AIR_MARGIN_MM = 0.2, 20.0


def plot_overview(study: Path, settings: dict[str, Any], output: Path) -> None:
    """Draw the converted study in folder ``study``; ``settings`` has ``suv_window`` [g/mL]."""
    images = []
    for name in ("suv.nii.gz", "lesions.nii.gz"):
        if not (study / name).is_file():
            raise PetctError(f"no image at {study / name}, expected a converted study")
        images.append(orient(load_image(study / name)))
    pet, lesions = crop_sides(
        [project(image, "coronal") for image in images], AIR_SUV, AIR_MARGIN_MM
    )
    with style():
        figure = Figure(figsize=(HEIGHT_INCH * pet.width_mm / pet.height_mm, HEIGHT_INCH))
        axes = figure.add_axes((0, 0, 1, 1))
        draw_projection(axes, pet, settings["suv_window"])
        draw_outline(axes, lesions, VERMILION, 1.2)
        save_figure(figure, output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="folder of one converted study")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: suv_window")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_overview(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
